"""Recurrent relational networks on a Sudoku board.

`SudokuNetwork` is the paper's (Palm et al. 2018, 3.2): a cell is a node; cells
that share a row, a column, or a box exchange messages. With one step it is the
paper's node-centric relation network. In `SudokuCandidates` (ours) a node is a
digit in a cell.

Axes: B batch, T steps, N cells, D width, K classes (the digits and 0, which
never is a target: Palm et al.'s parameter count includes it).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError, check_choice
from rrn import candidates, network
from rrn.sudoku import data

SHARING = 'separate', 'lines', 'shared'  # see `ModelConfig.groups`


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
    max_steps: steps after which a board that is not solved leaves training; its
      states are carried from update to update until then (ours). 0: every
      update starts from new boards.
    loss_steps: 'all' or 'last', the steps whose loss counts.
    random_start: share of the carried boards that start from random states
      (ours); candidates only.
    pre_layers, message_layers, node_layers: ReLU layers before each last one.
    edge_width: 1 adds the authors' dead column to the message function.
    zero_positions: feed zeros in place of the row and column embeddings.
    remat: recompute steps in the backward pass.
    message_width, hidden_width: of `candidates.CandidateNetwork`.
    groups: which units of candidates share their weights: none of rows,
      columns, and boxes ('separate'), rows and columns ('lines'), or all
      ('shared').
    intersections: groups are also the cells that two units share.
  """

  network: str = 'cells'
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
  max_steps: int = 0
  random_start: float = 0.0
  message_width: int = 16
  hidden_width: int = 64
  groups: str = 'lines'
  intersections: bool = True

  def __post_init__(self):
    if self.network == 'recurrent_relational_network':  # in older folders
      object.__setattr__(self, 'network', 'cells')
    if self.network == 'relation_network' and self.num_steps != 1:
      raise UserError(
        'a relation_network has one step: set config.model.num_steps=1, or ask'
        ' for it by --config=configs/rrn/sudoku.py:network=relation_network'
      )
    is_recurrent = self.network in ('cells', 'candidates')
    if self.burn_in and not is_recurrent:
      raise UserError(f'{self.network} has no burn-in: set model.burn_in=0')
    if self.max_steps and not is_recurrent:
      raise UserError(
        f'{self.network} has no states to carry: set config.model.max_steps=0'
      )
    if self.max_steps and self.burn_in:
      raise UserError(
        f'config.model.burn_in={self.burn_in} and config.model.max_steps='
        f'{self.max_steps} exclude each other: set one of them to 0'
      )
    if self.random_start and not (
      self.max_steps and self.network == 'candidates'
    ):
      raise UserError(
        f'config.model.random_start={self.random_start} needs'
        ' network=candidates and config.model.max_steps > 0; set it to 0.0'
      )
    check_choice('config.model.groups', self.groups, SHARING)
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
      data.neighbors(config.box_height, config.box_width)
    )
    self.zero_positions = config.zero_positions

  def inputs(self, puzzles: Int[Array, 'B N']) -> Float[Array, 'B N D']:
    """Embed digit, row and column of each cell; 0 is an empty cell."""
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
    """Return the logits of `num_steps` steps after `burn_in` others.

    In `puzzles` 0 is an empty cell.
    """
    states = self.network(
      self.inputs(puzzles), self.graph, num_steps=num_steps, burn_in=burn_in
    )
    return self.output(states).astype(jnp.float32)

  def init_states(self, puzzles: Int[Array, 'B N']) -> network.Carry:
    """Return what the first step starts from."""
    return self.network.init_carry(self.inputs(puzzles))

  def advance(
    self, puzzles: Int[Array, 'B N'], states: network.Carry, *, num_steps: int
  ) -> tuple[network.Carry, Float[Array, 'T B N K']]:
    """Return what follows `num_steps` more steps, and their logits."""
    states, outputs = self.network.advance(
      self.inputs(puzzles), states, self.graph, num_steps=num_steps
    )
    return states, self.output(outputs).astype(jnp.float32)


class SudokuCandidates(nnx.Module):
  """Passes messages between the candidates of a board, and scores them."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.config = config
    self.groups = self._make_groups(
      data.units(config.box_height, config.box_width)
    )
    self.network = candidates.CandidateNetwork(
      len(self.groups.kinds),
      width=config.width,
      message_width=config.message_width,
      hidden_width=config.hidden_width,
      dtype=dtype,
      rngs=rngs,
    )
    self.output = nnx.Linear(
      config.width, 1, use_bias=False, kernel_init=layers.glorot, rngs=rngs
    )

  def for_units(self, units: Int[np.ndarray, 'U n']) -> 'SudokuCandidates':
    """Return the network with the same weights on a board of other units."""
    model = nnx.clone(self)
    model.groups = self._make_groups(units)
    return model

  def init_states(
    self, puzzles: Int[Array, 'B N'], key: jax.Array | None = None
  ) -> Float[Array, 'B N C D']:
    """Return the states of C candidates per cell before the first step.

    They are zeros, or random with a key: another start may solve a board that
    the first one did not.
    """
    return self.network.init_states(self._given(puzzles), key)

  def advance(
    self,
    puzzles: Int[Array, 'B N'],
    states: Float[Array, 'B N C D'],
    *,
    num_steps: int,
  ) -> tuple[Float[Array, 'B N C D'], Float[Array, 'T B N K']]:
    """Return the states after `num_steps` more steps, and their logits."""
    given = self._given(puzzles)

    def step(states, _):
      states = self.network(states, given, self.groups)
      return states, self.output(states)[..., 0]

    states, logits = jax.lax.scan(step, states, length=num_steps)
    # 0 is no digit.
    logits = jnp.pad(logits, [(0, 0)] * 3 + [(1, 0)], constant_values=-1e9)
    return states, logits

  def __call__(
    self,
    puzzles: Int[Array, 'B N'],
    *,
    num_steps: int,
    burn_in: int | Int[Array, ''] = 0,
  ) -> Float[Array, 'T B N K']:
    """Return the logits of `num_steps` steps after `burn_in` others.

    The gradient of the first `burn_in` steps is taken as 0.
    """
    states = self.init_states(puzzles)
    if not isinstance(burn_in, int) or burn_in:
      given = self._given(puzzles)
      states = jax.lax.stop_gradient(
        jax.lax.fori_loop(
          *(0, burn_in),
          lambda _, states: self.network(states, given, self.groups),
          states,
        )
      )
    return self.advance(puzzles, states, num_steps=num_steps)[1]

  def _make_groups(self, units):
    return make_groups(
      units,
      sharing=self.config.groups,
      intersections=self.config.intersections,
    )

  def _given(self, puzzles):
    num_digits = math.isqrt(puzzles.shape[1])
    return jax.nn.one_hot(puzzles - 1, num_digits, dtype=bool)


def make_groups(
  units: Int[np.ndarray, 'U n'], *, sharing: str, intersections: bool = True
) -> candidates.Groups:
  """Return the groups of cells that the units of a board make.

  Args:
    units: the cells of each unit: of all rows, then of all columns, then of all
      boxes and further units, which count as boxes.
    sharing: one of `SHARING`. Units that share their weights are of one kind,
      and so are their intersections with others.
    intersections: include the sets of cells that a box shares with a row or a
      column, if these are more than one cell but not all; with
      `sharing='shared'`, those that any two units share.
  """
  members = np.zeros((len(units), units.max() + 1), bool)
  np.put_along_axis(members, units, True, axis=1)
  side = units.shape[1]
  lines, boxes = members[: 2 * side], members[2 * side :]
  if sharing == 'shared':
    kinds, crossings = [members], [(members, members)]
  elif sharing == 'lines':
    kinds, crossings = [lines, boxes], [(lines, boxes)]
  else:
    rows, columns = np.split(lines, 2)
    kinds, crossings = [rows, columns, boxes], [(rows, boxes), (columns, boxes)]
  parts = [_intersect(*pair) for pair in crossings if intersections]
  return candidates.Groups([*kinds, *parts])


def _intersect(some: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Return the distinct sets of several cells that are in two units."""
  both = some[:, None] & others
  size = both.sum(-1)
  is_part = (size > 1) & (size < some.sum(-1)[:, None])
  return np.unique(both[is_part], axis=0)
