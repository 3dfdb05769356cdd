"""The recurrent relational network on a Sudoku board (Palm et al. 2018, 3.2).

A cell is a node; cells that share a row, a column or a box exchange messages.
With one step it is the paper's node-centric relation network.

Axes: B batch, T steps, N cells, D width, K classes (the digits and 0, which
never is a target: Palm et al.'s parameter count includes it).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError
from rrn import network
from rrn.sudoku import data


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes; the defaults are the paper's.

  Attributes:
    network: which one, a key of `task.NETWORKS`.
    box_height, box_width: rows and columns of a box; a board has
      box_height * box_width of both.
    width: of messages and states.
    embedding_width: of each of the digit, row and column embeddings.
    num_steps: message passing steps in training.
    burn_in: most steps without gradient ahead of those in training (ours).
    loss_steps: 'all' or 'last', the steps whose loss counts.
    pre_layers, message_layers, node_layers: ReLU layers before each last one.
    edge_width: 1 adds the authors' dead column to the message function.
    zero_positions: feed zeros in place of the row and column embeddings.
    remat: recompute steps in the backward pass.
  """

  network: str = 'recurrent_relational_network'
  box_height: int = 3
  box_width: int = 3
  width: int = 96
  embedding_width: int = 16
  num_steps: int = 32
  burn_in: int = 0
  loss_steps: str = 'all'
  pre_layers: int = 3
  message_layers: int = 3
  node_layers: int = 3
  edge_width: int = 0
  zero_positions: bool = False
  remat: bool = False

  def __post_init__(self):
    if self.network == 'relation_network' and self.num_steps != 1:
      raise UserError(
        'a relation_network has one step: set config.model.num_steps=1, or ask'
        ' for it by --config=configs/rrn/sudoku.py:network=relation_network'
      )
    if self.burn_in and self.network != 'recurrent_relational_network':
      raise UserError(f'{self.network} has no burn-in: set model.burn_in=0')
    if self.loss_steps not in ('all', 'last'):
      raise UserError(
        f"model.loss_steps={self.loss_steps!r}: 'all' or 'last' expected"
      )


class BoardEmbedding(nnx.Module):
  """From a board to the input vectors of its cells, the nodes of a graph."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    side = config.box_height * config.box_width
    width, embedding_width = config.width, config.embedding_width

    def embedding(rows):
      return nnx.Param(layers.glorot(rngs.params(), (rows, embedding_width)))

    self.digit_embedding = embedding(side + 1)
    self.row_embedding = embedding(side)
    self.column_embedding = embedding(side)
    hidden = [width] * config.pre_layers
    self.pre = layers.MLP(
      [3 * embedding_width, *hidden, width], dtype=dtype, rngs=rngs
    )
    self.graph = network.Graph(
      data.neighbours(config.box_height, config.box_width)
    )
    self.zero_positions = config.zero_positions

  def inputs(self, puzzles: Int[Array, 'B N']) -> Float[Array, 'B N D']:
    """Embeds digit, row and column of each cell; 0 is an empty cell."""
    digits, side = self.digit_embedding.shape[0], self.row_embedding.shape[0]
    # A product, not a look-up: its transpose is no scatter.
    digit = jax.nn.one_hot(puzzles, digits) @ self.digit_embedding[...]
    position = jnp.concatenate(
      [
        jnp.repeat(self.row_embedding[...], side, axis=0),
        jnp.tile(self.column_embedding[...], (side, 1)),
      ],
      axis=-1,
    )
    if self.zero_positions:
      position = jnp.zeros_like(position)
    position = jnp.broadcast_to(position, (*puzzles.shape, position.shape[-1]))
    return self.pre(jnp.concatenate([digit, position], axis=-1))


class SudokuNetwork(BoardEmbedding):
  """Embeds a board, passes messages, and reads digits out at every step."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    super().__init__(config, dtype=dtype, rngs=rngs)
    self.network = network.RecurrentRelationalNetwork(
      config.width,
      message_layers=config.message_layers,
      node_layers=config.node_layers,
      edge_width=config.edge_width,
      remat=config.remat,
      dtype=dtype,
      rngs=rngs,
    )
    self.output = nnx.Linear(
      config.width,
      config.box_height * config.box_width + 1,
      kernel_init=layers.glorot,
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self,
    puzzles: Int[Array, 'B N'],
    *,
    num_steps: int,
    burn_in: int | Int[Array, ''] = 0,
  ) -> Float[Array, 'T B N K']:
    """Returns the logits of `num_steps` steps after `burn_in` others.

    In `puzzles` 0 is an empty cell.
    """
    states = self.network(
      self.inputs(puzzles), self.graph, num_steps=num_steps, burn_in=burn_in
    )
    return self.output(states).astype(jnp.float32)
