"""The paper's baselines on Sudoku, and an MLP (ours).

Each maps a puzzle to the logits of every cell after each step. A network
without steps repeats its logits at each step.

Axes: B batch, T steps, N cells, K neighbors or (as the last axis) classes,
D width.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from rrn import graph_relation_network, network
from rrn.sudoku.model import BoardEmbedding, ModelConfig

_SURE = 30.0  # logit of the digit in a filled cell; its loss is nearly 0


class GraphRelationNetwork(BoardEmbedding):
  """Predicts all cells from the sum of all messages (Santoro et al. 2017).

  The paper's network has width 256 and, with the authors' constant input,
  944,874 parameters.
  """

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    super().__init__(config, dtype=dtype, rngs=rngs)
    num_cells, side = len(self.graph.senders), self.row_embedding.shape[0]
    self.network = graph_relation_network.RelationNetwork(
      config.width,
      num_cells * (side + 1),
      message_layers=config.message_layers,
      readout_layers=config.node_layers,
      edge_width=config.edge_width,
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self, puzzles: Int[Array, 'B N'], *, num_steps: int
  ) -> Float[Array, 'T B N K']:
    """Return the logits, the same at each of `num_steps` steps."""
    answer = self.network(self.inputs(puzzles), self.graph)
    return _at_all_steps(answer.reshape(*puzzles.shape, -1), num_steps)


class MultilayerPerceptron(nnx.Module):
  """Predicts all cells from one vector of all digits, without a graph (ours).

  It has `node_layers` hidden layers of width `width`.
  """

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.num_classes = config.box_height * config.box_width + 1
    size = (self.num_classes - 1) ** 2 * self.num_classes
    self.mlp = layers.MLP(
      [size, *[config.width] * config.node_layers, size], dtype=dtype, rngs=rngs
    )

  def __call__(
    self, puzzles: Int[Array, 'B N'], *, num_steps: int
  ) -> Float[Array, 'T B N K']:
    """Return the logits, the same at each of `num_steps` steps."""
    digits = jax.nn.one_hot(puzzles, self.num_classes)
    answer = self.mlp(digits.reshape(len(puzzles), -1)).astype(jnp.float32)
    return _at_all_steps(answer.reshape(digits.shape), num_steps)


class DeepMessages(BoardEmbedding):
  """Learns the messages (Lin et al. 2015), as described by Palm et al.

  A message f(sender, receiver, d) has one number per class, and the logits of a
  cell are the sum of its messages. As in belief propagation, d is the logits of
  the sender without the last message that it got from the receiver. At the
  first step, d is 0.

  The first layer of f is linear in (sender, receiver, d). The part of sender
  and receiver is computed once for all steps.
  """

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    super().__init__(config, dtype=dtype, rngs=rngs)
    num_classes = config.box_height * config.box_width + 1
    self.message = layers.MLP(
      [
        2 * config.width + num_classes,
        *[num_classes] * (config.message_layers + 1),
      ],
      dtype=dtype,
      rngs=rngs,
    )
    # Deviates from the paper: the initial last layer is divided by the number
    # of messages per cell. Otherwise, the sums of messages grow from step to
    # step, and the loss of some seeds reaches 1e18.
    last = self.message.layers[-1].kernel
    last[...] = last[...] / self.graph.senders.shape[1]
    self.dtype = dtype
    self.remat = config.remat

  def __call__(
    self, puzzles: Int[Array, 'B N'], *, num_steps: int
  ) -> Float[Array, 'T B N K']:
    """Return the logits after each of `num_steps` steps."""
    inputs = self.inputs(puzzles).astype(self.dtype)
    first, *middle, last = self.message.layers
    width = inputs.shape[-1]
    send, receive, heard = jnp.split(
      first.kernel[...].astype(self.dtype), [width, 2 * width]
    )
    constant = self.graph.gather(inputs @ send)
    constant += (inputs @ receive + first.bias[...][None, None])[:, :, None]

    def step(heard_term, _):
      hidden = jax.nn.relu(constant + heard_term)
      for layer in middle:
        hidden = jax.nn.relu(layer(hidden))
      messages = last(hidden).astype(jnp.float32)  # [B, N, K, classes]
      logits = messages.sum(2)
      others = self.graph.gather(logits) - swap_ends(messages, self.graph)
      return others.astype(self.dtype) @ heard, logits

    if self.remat:
      step = jax.checkpoint(step)
    start = jnp.zeros_like(constant)
    return jax.lax.scan(step, start, length=num_steps)[1]


def swap_ends(
  edges: Float[Array, 'B N K D'], graph: network.Graph
) -> Float[Array, 'B N K D']:
  """Return, for each edge, the value of the edge in the opposite direction.

  Every edge needs an opposite edge. The swap is its own inverse, so its
  gradient is the same gather and needs no scatter.
  """
  table = _opposite_edges(graph)

  @jax.custom_vjp
  def swap(edges):
    return edges.reshape(len(edges), -1, edges.shape[-1])[:, table]

  swap.defvjp(lambda edges: (swap(edges), None), lambda _, ct: (swap(ct),))
  return swap(edges)


def _opposite_edges(graph: network.Graph) -> np.ndarray:
  """Return the index of each opposite edge in the flattened senders: [N, K]."""
  num_nodes, degree = graph.senders.shape
  receivers = np.arange(num_nodes)[:, None]
  slots = (graph.senders[graph.senders] == receivers[..., None]).argmax(-1)
  return graph.senders * degree + slots


class ConvolutionalNetwork(nnx.Module):
  """Ten convolutions that fill in one digit per step (Park 2016).

  Each step computes logits, and adds the most probable digit of all empty cells
  to the input of the next step. Therefore a board is complete after as many
  steps as it had empty cells. Filled cells have constant logits, so the loss of
  the first step counts only empty cells.
  """

  # Deviates from Park: layer normalization replaces batch normalization, which
  # has state, and one-hot digits replace numbers.

  NUM_LAYERS = 10

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.side = config.box_height * config.box_width
    widths = [self.side + 1, *[config.width] * self.NUM_LAYERS]
    self.convolutions = nnx.List(
      layers.Conv(a, b, (3, 3), use_bias=False, dtype=dtype, rngs=rngs)
      for a, b in zip(widths[:-1], widths[1:], strict=True)
    )
    self.norms = nnx.List(nnx.LayerNorm(b, rngs=rngs) for b in widths[1:])
    self.output = nnx.Linear(
      config.width,
      self.side + 1,
      kernel_init=layers.glorot,
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self, puzzles: Int[Array, 'B N'], *, num_steps: int
  ) -> Float[Array, 'T B N K']:
    """Return the logits after each of `num_steps` steps."""

    def step(boards, _):
      filled = jax.nn.one_hot(boards, self.side + 1)
      is_empty = boards == 0
      logits = self._convolve(filled)
      log_p = jax.nn.log_softmax(logits)[..., 1:]
      chances = jnp.where(is_empty, log_p.max(-1), -jnp.inf)
      cells = jnp.arange(boards.shape[1])[None]
      is_best = cells == chances.argmax(-1)[:, None]
      digits = 1 + log_p.argmax(-1).astype(boards.dtype)
      logits = jnp.where(is_empty[..., None], logits, _SURE * filled)
      return jnp.where(is_best & is_empty, digits, boards), logits

    return jax.lax.scan(step, puzzles, length=num_steps)[1]

  def _convolve(self, x):
    x = x.reshape(len(x), self.side, self.side, -1)
    for convolution, norm in zip(self.convolutions, self.norms, strict=True):
      x = jax.nn.relu(norm(convolution(x)))
    return self.output(x).reshape(len(x), self.side**2, -1).astype(jnp.float32)


def _at_all_steps(logits, num_steps: int):
  return jnp.broadcast_to(logits, (num_steps, *logits.shape))
