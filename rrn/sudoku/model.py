"""Recurrent relational networks for Sudoku.

`SudokuNetwork` is the paper's network (Palm et al. 2018, section 3.2): its
nodes are the cells, and cells that share a row, a column, or a box exchange
messages. With one step, it is the paper's node-centric relation network. In
`SudokuCandidates` (ours), a node is a digit in a cell.

Axes: B batch, T steps, N cells, D width, K classes (0 and the digits; 0 is
never a target, but the paper's number of parameters includes it), C candidates
of a cell, U units, n cells of a unit.
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
# Loops of at most this many steps, as in training, are unrolled: the backward
# pass then copies no states and is 1.2 times as fast on CPUs. Longer loops,
# mostly in evaluations, run and compile faster if they are not unrolled.
_MAX_UNROLLED_STEPS = 8


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Settings of the network.

  The defaults are the paper's, except that `edge_width` omits the constant
  input of the edges. `message_width`, `hidden_width`, `groups`, and
  `intersections` apply only to the network on candidates (ours).

  Attributes:
    network: a key of `task.NETWORKS`.
    box_height: number of rows in a box. A board has box_height * box_width rows
      and as many columns.
    box_width: number of columns in a box.
    width: width of messages and states.
    embedding_width: width of each of the digit, row, and column embeddings.
    num_steps: number of message passing steps with a gradient in an update.
    burn_in: largest number of additional steps before the `num_steps` steps,
      without a gradient (ours). Each update draws the number from 0 to
      `burn_in`, uniformly.
    loss_steps: steps that contribute to the loss, 'all' or 'last'.
    input_layers: number of ReLU layers in the MLP that embeds cells.
    message_layers: number of ReLU layers in the message function.
    node_layers: number of ReLU layers in the node function.
    edge_width: 1 adds the authors' constant input, which is 0, to the message
      function.
    zero_positions: whether zeros replace the row and column embeddings.
    remat: whether the backward pass recomputes steps instead of storing them.
    max_steps: number of steps after which an unsolved board is replaced. Until
      then, its states are carried from update to update (ours). With 0, every
      update starts from new boards.
    reveal_after: period in steps, a multiple of `num_steps`. After each period,
      an unsolved carried board gets one more given (ours). 0 for never.
    message_width: see `candidates.CandidateNetwork`.
    hidden_width: see `candidates.CandidateNetwork`.
    groups: which units of candidates share their weights: 'separate' (rows,
      columns, and boxes each have their own), 'lines' (rows and columns share
      theirs), or 'shared' (all do).
    intersections: whether the cells that two units share also form a group.
  """

  network: str = 'cells'
  box_height: int = 3
  box_width: int = 3
  width: int = 96
  embedding_width: int = 16
  num_steps: int = 32
  burn_in: int = 0
  loss_steps: str = 'all'
  input_layers: int = 3
  message_layers: int = 3
  node_layers: int = 3
  edge_width: int = 0
  zero_positions: bool = False
  remat: bool = False
  max_steps: int = 0
  reveal_after: int = 0
  message_width: int = 16
  hidden_width: int = 64
  groups: str = 'lines'
  intersections: bool = True

  def __post_init__(self):
    # Older config.json files use this name.
    if self.network == 'recurrent_relational_network':
      object.__setattr__(self, 'network', 'cells')
    if self.network == 'relation_network' and self.num_steps != 1:
      raise UserError(
        'config.model.network=relation_network has one step, but'
        f' config.model.num_steps={self.num_steps}; use'
        ' --config=configs/rrn/sudoku.py:network=relation_network'
      )
    is_recurrent = self.network in ('cells', 'candidates')
    if self.burn_in and not is_recurrent:
      raise UserError(
        f'config.model.burn_in={self.burn_in}: {self.network} has no burn-in;'
        ' set it to 0'
      )
    if self.max_steps and not is_recurrent:
      raise UserError(
        f'config.model.max_steps={self.max_steps}: {self.network} has no states'
        ' to carry; set it to 0'
      )
    if self.max_steps and self.burn_in:
      raise UserError(
        f'config.model.burn_in={self.burn_in} and config.model.max_steps='
        f'{self.max_steps} cannot be combined; set one of them to 0'
      )
    if self.reveal_after and (
      not self.max_steps or self.reveal_after % self.num_steps
    ):
      raise UserError(
        f'config.model.reveal_after={self.reveal_after} requires'
        ' config.model.max_steps > 0, and must be a multiple of'
        f' config.model.num_steps={self.num_steps}; change it, or set it to 0'
      )
    check_choice('config.model.groups', self.groups, SHARING)
    check_choice('config.model.loss_steps', self.loss_steps, ('all', 'last'))


class BoardEmbedding(nnx.Module):
  """Embeds the cells of a board, which are the nodes of a graph."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    side = config.box_height * config.box_width
    width, embedding_width = config.width, config.embedding_width

    def embedding(rows):
      return nnx.Param(layers.glorot(rngs.params(), (rows, embedding_width)))

    self.digit_embedding = embedding(side + 1)
    self.row_embedding = embedding(side)
    self.column_embedding = embedding(side)
    hidden = [width] * config.input_layers
    self.input_mlp = layers.MLP(
      [3 * embedding_width, *hidden, width], dtype=dtype, rngs=rngs
    )
    self.graph = network.Graph(
      data.neighbors(config.box_height, config.box_width)
    )
    self.zero_positions = config.zero_positions

  def inputs(self, puzzles: Int[Array, 'B N']) -> Float[Array, 'B N D']:
    """Embed the digit, row, and column of each cell; 0 is an empty cell."""
    digits, side = self.digit_embedding.shape[0], self.row_embedding.shape[0]
    # Unlike indexing, a product needs no scatter in the backward pass.
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
    return self.input_mlp(jnp.concatenate([digit, position], axis=-1))


class SudokuNetwork(BoardEmbedding):
  """The paper's network: passes messages between cells, and scores digits."""

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
    """Return the logits after each step.

    Args:
      puzzles: digits; 0 is an empty cell.
      num_steps: number of steps T.
      burn_in: number of additional steps before the T steps. They are not
        returned and have no gradient.
    """
    states = self.network(
      self.inputs(puzzles), self.graph, num_steps=num_steps, burn_in=burn_in
    )
    return self.output(states).astype(jnp.float32)

  def init_states(self, puzzles: Int[Array, 'B N']) -> network.Carry:
    """Return the states before the first step."""
    return self.network.init_carry(self.inputs(puzzles))

  def advance(
    self, puzzles: Int[Array, 'B N'], states: network.Carry, *, num_steps: int
  ) -> tuple[network.Carry, Float[Array, 'T B N K']]:
    """Run `num_steps` more steps; return the states and the logits."""
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
    """Return the network with the same weights on a board with these units."""
    model = nnx.clone(self)
    model.groups = self._make_groups(units)
    return model

  def init_states(self, puzzles: Int[Array, 'B N']) -> Float[Array, 'B N C D']:
    """Return the states of all candidates before the first step."""
    return self.network.init_states(self._given(puzzles))

  def advance(
    self,
    puzzles: Int[Array, 'B N'],
    states: Float[Array, 'B N C D'],
    *,
    num_steps: int,
  ) -> tuple[Float[Array, 'B N C D'], Float[Array, 'T B N K']]:
    """Run `num_steps` more steps; return the states and the logits."""
    given = self._given(puzzles)

    def step(states, _):
      states = self.network(states, given, self.groups)
      return states, self.output(states)[..., 0]

    unroll = num_steps <= _MAX_UNROLLED_STEPS
    states, logits = jax.lax.scan(step, states, length=num_steps, unroll=unroll)
    # Class 0, an empty cell, is never the answer.
    logits = jnp.pad(logits, [(0, 0)] * 3 + [(1, 0)], constant_values=-1e9)
    return states, logits

  def __call__(
    self,
    puzzles: Int[Array, 'B N'],
    *,
    num_steps: int,
    burn_in: int | Int[Array, ''] = 0,
  ) -> Float[Array, 'T B N K']:
    """Return the logits after each step; see `SudokuNetwork`."""
    states = self.init_states(puzzles)
    # A traced number is not an int, and may be 0; the loop then runs no step.
    if not isinstance(burn_in, int) or burn_in:
      given = self._given(puzzles)

      def step(_, states):
        return self.network(states, given, self.groups)

      states = jax.lax.fori_loop(0, burn_in, step, states)
      states = jax.lax.stop_gradient(states)
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
  """Return the groups of cells on a board.

  Args:
    units: cells of each unit: first all rows, then all columns, then all boxes
      and further units, which count as boxes.
    sharing: one of `SHARING`. Units that share their weights are of one kind,
      and their intersections with other units are of one kind.
    intersections: whether the cells that a box shares with a row or a column
      also form a group, if there are at least two but not all. With
      `sharing='shared'`, this applies to any two units.
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
  """Return the distinct sets of two or more cells shared by two units."""
  both = some[:, None] & others
  size = both.sum(-1)
  is_part = (size > 1) & (size < some.sum(-1)[:, None])
  return np.unique(both[is_part], axis=0)
