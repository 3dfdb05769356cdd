"""Networks for Pretty-CLEVR (Palm et al. 2018, section 3.3).

The nodes of the recurrent relational network are the objects. The baselines are
the relation network, which runs one step, and an MLP. For pictures, the nodes
are the 4 x 4 cells of a convolutional encoder.

Axes: B scenes, Q questions about each, T steps, N nodes, K neighbors, M cells
of a picture, F features, C classes (the 16 symbols).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError
from rrn import graph_readout
from rrn.pretty_clevr import data, render

_SYMBOLS, _OBJECTS = len(data.SYMBOLS), data.NUM_OBJECTS
_QUESTION = _SYMBOLS + data.MAX_JUMPS + 1
_NUM_CONVOLUTIONS = 5
_GRID = render.SIZE // 2**_NUM_CONVOLUTIONS  # cells per side
_he = nnx.initializers.he_normal()


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Settings of the network; the defaults are the paper's.

  Attributes:
    network: 'recurrent_relational_network', 'relation_network' (the same
      network with one step), or 'mlp'.
    num_steps: number of message passing steps in training; 1 for the baselines.
    width: width of messages and states.
    dropout: dropout rate before the last layer.
    distance_scale: factor for the initial weights of the distance in the
      message function (ours); not used with pixels. Distances are small
      compared with one-hot features, so the network learns to use them late.
    pixels: whether the input is a picture instead of positions, colors, and
      shapes.
    conv_widths: widths of the five layers of the picture encoder.
    object_loss: weight of an auxiliary loss for pictures (ours), see
      `PixelNetwork.object_loss`. 0 selects the paper's loss.
  """

  network: str = 'recurrent_relational_network'
  num_steps: int = 4
  width: int = 128
  dropout: float = 0.5
  distance_scale: float = 1.0
  pixels: bool = False
  conv_widths: Sequence[int] = (32, 64, 128, 256, 512)
  object_loss: float = 0.0

  def __post_init__(self):
    if self.network in ('relation_network', 'mlp') and self.num_steps != 1:
      raise UserError(
        f'config.model.network={self.network} has one step, but'
        f' config.model.num_steps={self.num_steps}; use'
        f' --config=configs/rrn/pretty_clevr.py:network={self.network}'
      )
    if self.object_loss and not self.pixels:
      raise UserError(
        f'config.model.object_loss={self.object_loss} needs pictures; set it to'
        ' 0, or use --config=configs/rrn/pretty_clevr.py:pixels'
      )
    if len(self.conv_widths) != _NUM_CONVOLUTIONS:
      raise UserError(
        f'config.model.conv_widths={tuple(self.conv_widths)}: expected'
        f' {_NUM_CONVOLUTIONS} numbers'
      )


def make_model(config: ModelConfig, *, dtype, rngs: nnx.Rngs) -> nnx.Module:
  """Build the network that the config selects.

  Raises:
    UserError: `config.network` is unknown, or 'mlp' with pixels.
  """
  if config.network == 'mlp' and not config.pixels:
    return MultilayerPerceptron(config, dtype=dtype, rngs=rngs)
  if config.network in ('recurrent_relational_network', 'relation_network'):
    kind = PixelNetwork if config.pixels else StateNetwork
    return kind(config, dtype=dtype, rngs=rngs)
  raise UserError(
    f'config.model.network={config.network}: expected'
    ' recurrent_relational_network, relation_network, or (without pixels) mlp'
  )


class StateNetwork(nnx.Module):
  """A network on the objects, with their distances as edge features."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.answer = _make_answer_network(
      config, 2 + 2 * _OBJECTS, _OBJECTS, dtype=dtype, rngs=rngs
    )
    first = self.answer.network.message.layers[0].kernel
    rows = slice(2 * config.width, None)  # the weights of the distance
    first[...] = first[...].at[rows].multiply(config.distance_scale)

  def __call__(
    self,
    positions: Float[Array, 'B N 2'],
    colors: Int[Array, 'B N'],
    anchors: Int[Array, 'B Q'],
    jumps: Int[Array, 'B Q'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B Q C']:
    """Return the logits after each step.

    Args:
      positions: coordinates of the objects; object k has shape k.
      colors: color of each object.
      anchors: symbol of the anchor of each question.
      jumps: number of jumps of each question.
      num_steps: number of steps T.
      key: key for dropout. None disables dropout.
    """
    edges = _distances(positions, self.answer.graph.senders)
    edges = jnp.repeat(edges, anchors.shape[1], axis=0)
    nodes = _append_questions(_describe(positions, colors), anchors, jumps)
    logits = self.answer(nodes, num_steps=num_steps, edges=edges, key=key)
    return logits.reshape(num_steps, *anchors.shape, _SYMBOLS)


class MultilayerPerceptron(nnx.Module):
  """The paper's MLP of all objects, their distances, and the question."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    inputs = _OBJECTS * (2 + 3 * _OBJECTS) + _QUESTION
    self.mlp = layers.MLP(
      [inputs, *[2 * config.width] * 4, _SYMBOLS],
      dropout=(0.0, 0.0, 0.0, config.dropout),
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self,
    positions: Float[Array, 'B N 2'],
    colors: Int[Array, 'B N'],
    anchors: Int[Array, 'B Q'],
    jumps: Int[Array, 'B Q'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B Q C']:
    """Return the logits, equal at every step; see `StateNetwork.__call__`."""
    all_objects = np.tile(np.arange(_OBJECTS), (_OBJECTS, 1))
    distances = _distances(positions, all_objects)
    objects = [_describe(positions, colors), distances[..., 0]]
    scene = jnp.concatenate(objects, -1).reshape(len(positions), 1, -1)
    logits = self.mlp(_append_questions(scene, anchors, jumps)[:, 0], key)
    logits = logits.reshape(*anchors.shape, _SYMBOLS).astype(jnp.float32)
    return jnp.broadcast_to(logits, (num_steps, *logits.shape))


class PixelNetwork(nnx.Module):
  """A network whose nodes are the cells of a picture, with their positions."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    widths = config.conv_widths
    self.encoder = nnx.List(
      layers.Conv(
        a, b, (3, 3), strides=2, kernel_init=_he, dtype=dtype, rngs=rngs
      )
      for a, b in zip((3, *widths[:-1]), widths, strict=True)
    )
    self.answer = _make_answer_network(
      config, widths[-1] + 2, _GRID**2, dtype=dtype, rngs=rngs
    )
    # Deviates from the paper: the initial last layer of the messages is divided
    # by the number of nodes. Otherwise, states grow exponentially over steps.
    last = self.answer.network.message.layers[-1].kernel
    last[...] = last[...] / _GRID**2
    if config.object_loss:
      self.object_output = layers.Linear(
        widths[-1], _OBJECTS * (1 + _OBJECTS + 2), dtype=dtype, rngs=rngs
      )

  def __call__(
    self,
    positions: Float[Array, 'B N 2'],
    colors: Int[Array, 'B N'],
    anchors: Int[Array, 'B Q'],
    jumps: Int[Array, 'B Q'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B Q C']:
    """Return the logits after each step, from the picture of the scene.

    `StateNetwork.__call__` describes the arguments.
    """
    cells = self.encode(positions, colors)
    return self.answer_from(cells, anchors, jumps, num_steps=num_steps, key=key)

  def encode(
    self, positions: Float[Array, 'B N 2'], colors: Int[Array, 'B N']
  ) -> Float[Array, 'B M F']:
    """Return the features of each cell, row by row from the top."""
    x = 1 - render.render(positions, colors)  # the background is 0
    for layer in self.encoder:
      x = jax.nn.relu(layer(x))
    return x.reshape(len(x), _GRID**2, -1).astype(jnp.float32)

  def answer_from(
    self,
    cells: Float[Array, 'B M F'],
    anchors: Int[Array, 'B Q'],
    jumps: Int[Array, 'B Q'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B Q C']:
    """Return the logits after each step, from the features of the cells."""
    centers = np.linspace(0, 1, 2 * _GRID + 1)[1::2]
    places = np.stack(np.meshgrid(centers, centers), -1).reshape(1, -1, 2)
    places = jnp.asarray(places, jnp.float32)
    cells = jnp.concatenate(
      [cells, jnp.tile(places, (len(cells), 1, 1))], axis=-1
    )
    logits = self.answer(
      _append_questions(cells, anchors, jumps),
      num_steps=num_steps,
      edges=_distances(places, self.answer.graph.senders),
      key=key,
    )
    return logits.reshape(num_steps, *anchors.shape, _SYMBOLS)

  def object_loss(
    self,
    cells: Float[Array, 'B M F'],
    positions: Float[Array, 'B N 2'],
    colors: Int[Array, 'B N'],
  ) -> tuple[Float[Array, ''], Float[Array, ' B']]:
    """Return an auxiliary loss (ours): each cell predicts the objects in it.

    A cell predicts which shapes have their center in it (cross-entropy), and
    for each of those the color (cross-entropy) and the position (squared
    distance in cells).

    Returns:
      The loss, a mean over objects, and for each scene the share of objects
      whose cell predicts the correct shape and color.
    """
    x = self.object_output(cells).astype(jnp.float32)
    x = x.reshape(*cells.shape[:2], _OBJECTS, -1)
    shape, color, offset = x[..., 0], x[..., 1:-2], x[..., -2:]
    place = (positions - render.LOW) / (render.HIGH - render.LOW) * _GRID
    # Rows of cells are counted from the top, but y points up.
    place = jnp.stack([place[..., 0], _GRID - place[..., 1]], -1)
    corner = jnp.floor(place)
    cell = corner[..., 0] + _GRID * corner[..., 1]
    numbers = jnp.arange(_GRID**2, dtype=jnp.float32)
    is_here = cell[:, None] == numbers[None, :, None]  # [B, M, N]
    colors = colors[:, None]
    object_losses = layers.cross_entropy(color, colors)
    object_losses += jnp.square(offset - (place - corner)[:, None]).sum(-1)
    losses = optax.sigmoid_binary_cross_entropy(
      shape, is_here.astype(jnp.float32)
    )
    losses += jnp.where(is_here, object_losses, 0)
    is_right = is_here & (shape > 0) & (color.argmax(-1) == colors)
    return losses.sum() / colors.size, is_right.sum((1, 2)) / _OBJECTS


def _make_answer_network(
  config: ModelConfig, num_features: int, num_nodes: int, *, dtype, rngs
) -> graph_readout.GraphReadoutNetwork:
  """Make the paper's network: one ReLU layer per MLP, and no LSTM."""
  return graph_readout.GraphReadoutNetwork(
    num_features + _QUESTION,
    num_nodes,
    _SYMBOLS,
    width=config.width,
    input_layers=1,
    message_layers=1,
    node_layers=1,
    output_layers=1,
    edge_width=1,
    lstm=False,
    dropout=config.dropout,
    dtype=dtype,
    rngs=rngs,
  )


def _describe(
  positions: Float[Array, 'B N 2'], colors: Int[Array, 'B N']
) -> Float[Array, 'B N F']:
  """Return the position, one-hot color, and one-hot shape of each object."""
  shapes = jnp.broadcast_to(
    jnp.eye(_OBJECTS), (len(positions), _OBJECTS, _OBJECTS)
  )
  colors = jax.nn.one_hot(colors, _OBJECTS)
  return jnp.concatenate([positions, colors, shapes], -1)


def _append_questions(
  nodes: Float[Array, 'B N F'],
  anchors: Int[Array, 'B Q'],
  jumps: Int[Array, 'B Q'],
) -> Float[Array, 'BQ N F2']:
  """Append each question, one-hot, to all nodes of its scene."""
  question = jnp.concatenate(
    [
      jax.nn.one_hot(anchors, _SYMBOLS),
      jax.nn.one_hot(jumps, data.MAX_JUMPS + 1),
    ],
    -1,
  )
  shape = (*anchors.shape, nodes.shape[1])
  question = jnp.broadcast_to(question[:, :, None], (*shape, _QUESTION))
  nodes = jnp.broadcast_to(nodes[:, None], (*shape, nodes.shape[-1]))
  asked = jnp.concatenate([nodes, question], -1)
  return asked.reshape(-1, *asked.shape[2:])


def _distances(
  positions: Float[Array, 'B N 2'], senders: np.ndarray
) -> Float[Array, 'B N K 1']:
  """Return the distance between each node and its senders."""
  gaps = positions[:, senders] - positions[:, :, None]
  return jnp.sqrt((gaps**2).sum(-1, keepdims=True))
