"""Run a network on each board until its answer obeys the rules.

The rules alone identify a correct answer. The solver can therefore run each
board for as many steps as it needs, and stop without access to the solution.

Axes: B boards, S active boards, N cells, K classes, U units, n cells of a unit,
T steps.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rrn.sudoku.model import SudokuCandidates

_STEPS_AT_ONCE = 16  # steps between two checks of the rules
_SURE = 0.9  # the network is sure of a digit with at least this probability
_SHRINKAGE = 4  # 1/4 of the boards are active at first, then 1/16, ...


def make_solver(
  model: Any,
  units: Int[np.ndarray, 'U n'],
  *,
  max_steps: int,
  assume_after: int = 0,
) -> Callable[[Int[Array, 'B N']], tuple[Int[Array, 'B N'], Int[Array, ' B']]]:
  """Return a function from puzzles 'B N' to the results of `solve`.

  For a single puzzle, the network first runs `assume_after` steps without
  assumptions. They suffice for most puzzles, and compiling the assumptions
  takes longer than solving a puzzle.

  Args:
    model: one of `task.NETWORKS`. `SudokuCandidates` solves boards with any
      units, the other networks only boards like those in training.
    units: see `solve`.
    max_steps: see `solve`.
    assume_after: see `solve`.
  """
  if isinstance(model, SudokuCandidates):
    model = model.for_units(units)
  graphdef, params = nnx.split(model)
  is_adaptive = hasattr(model, 'advance')

  @functools.partial(jax.jit, static_argnames=('max_steps', 'assume_after'))
  def run(params, puzzles, *, max_steps, assume_after):
    return solve(
      nnx.merge(graphdef, params),
      puzzles,
      units,
      max_steps=max_steps,
      assume_after=assume_after,
    )

  def solve_puzzles(puzzles):
    if len(puzzles) == 1 and is_adaptive and 0 < assume_after < max_steps:
      result = run(params, puzzles, max_steps=assume_after, assume_after=0)
      if result[1].all():
        return result
    return run(params, puzzles, max_steps=max_steps, assume_after=assume_after)

  return solve_puzzles


def solve(
  model: Any,
  puzzles: Int[Array, 'B N'],
  units: Int[np.ndarray, 'U n'],
  *,
  max_steps: int,
  assume_after: int = 0,
) -> tuple[Int[Array, 'B N'], Int[Array, ' B']]:
  """Run the network on each board until its answer obeys the rules.

  After `assume_after` steps, an unsolved board assumes a digit in one empty
  cell, drawn from the network's probabilities, and starts again (ours). After
  each further `assume_after / 2` steps, the board either assumes one more digit
  and continues, or replaces all its assumptions with a new one and starts
  again, with equal probability. A wrong assumption only wastes steps, because
  an answer has to obey the rules.

  A quarter of the boards are active at a time. The next board replaces each
  finished one, so no board waits for slower boards. When few boards are left,
  the number of active boards shrinks.

  Args:
    model: a network with `advance`. Any other network runs `max_steps` steps,
      without assumptions.
    puzzles: digits; 0 is an empty cell.
    units: cells of each unit of the board.
    max_steps: largest number of steps. Above 16, it is rounded up to a multiple
      of 16.
    assume_after: number of steps before the first assumption, rounded up to a
      multiple of 32. 0 disables assumptions.

  Returns:
    The first answer to each puzzle that obeys the rules; if there is none, the
    last answer without assumptions. Also the number of steps until that answer,
    or 0 if no answer obeys the rules.
  """
  puzzles = puzzles.astype(jnp.int32)
  if not hasattr(model, 'advance'):
    answers = model(puzzles, num_steps=max_steps)[-1].argmax(-1)
    is_solved = is_valid(answers, puzzles, units)
    return answers, jnp.where(is_solved, max_steps, 0)
  return _solve_in_batches(
    model,
    puzzles,
    units,
    max_steps=max_steps,
    assume_after=assume_after,
  )


def _solve_in_batches(
  model: Any,
  puzzles: Int[Array, 'B N'],
  units: Int[np.ndarray, 'U n'],
  *,
  max_steps: int,
  assume_after: int,
) -> tuple[Int[Array, 'B N'], Int[Array, ' B']]:
  """Solve puzzles with a network that has `advance`; see `solve`."""
  length = min(_STEPS_AT_ONCE, max_steps)
  first_at = 2 * length * math.ceil(assume_after / (2 * length))

  def step(carry):
    index, work = carry
    if first_at:
      # A fixed seed makes the answers to a batch of puzzles reproducible.
      key = jax.random.key(index)
      work = _change_assumptions(model, work, puzzles, first_at, key)
    return index + 1, _advance(
      model, work, puzzles, units, length=length, max_steps=max_steps
    )

  size = max(1, len(puzzles) // _SHRINKAGE)
  index, work = 0, _first_work(model, puzzles, size, units.shape[1] + 1)
  while size:
    smaller = size // _SHRINKAGE

    def has_more(carry, smaller=smaller):
      return (carry[1].board < len(puzzles)).sum() > smaller

    index, work = jax.lax.while_loop(has_more, step, (index, work))
    work = _keep(work, smaller)
    size = smaller
  return work.answers, work.solved_after


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Work:
  """The S active boards, and the results of all B boards.

  Attributes:
    board: index of each active board, int 'S'; B or more if no board is left.
    next: index of the next board, int.
    num_steps: number of steps that each active board has run, int 'S'.
    states: states of the network, with leaves 'S ...'.
    assumed: puzzles, including the assumed digits, int 'S N'.
    beliefs: the network's probabilities just before the first assumption, float
      'S N K'.
    logits: logits after the last step, float 'S N K'.
    answers: first result of `solve`, int 'B N'.
    solved_after: second result of `solve`, int 'B'.
  """

  board: jax.Array
  next: jax.Array
  num_steps: jax.Array
  states: Any
  assumed: jax.Array
  beliefs: jax.Array
  logits: jax.Array
  answers: jax.Array
  solved_after: jax.Array

  def given(self, puzzles: Int[Array, 'B N']) -> Int[Array, 'S N']:
    """Return the puzzles of the active boards."""
    return puzzles.at[self.board].get(mode='clip')


def _first_work(
  model: Any, puzzles: Int[Array, 'B N'], size: int, num_classes: int
) -> _Work:
  """Return the first `size` boards, before their first step."""
  first = puzzles[:size]
  logits = jnp.zeros((*first.shape, num_classes))
  return _Work(
    board=jnp.arange(size),
    next=jnp.asarray(size),
    num_steps=jnp.zeros(size, int),
    states=model.init_states(first),
    assumed=first,
    beliefs=logits,
    logits=logits,
    answers=puzzles,
    solved_after=jnp.zeros(len(puzzles), int),
  )


def _advance(
  model: Any,
  work: _Work,
  puzzles: Int[Array, 'B N'],
  units: Int[np.ndarray, 'U n'],
  *,
  length: int,
  max_steps: int,
) -> _Work:
  """Run `length` steps, record the answers, and replace finished boards.

  A board is finished if an answer obeys the rules, or after `max_steps` steps.
  """
  states, logits = model.advance(work.assumed, work.states, num_steps=length)
  answers = logits.argmax(-1)  # [T, S, N]
  given = work.given(puzzles)
  valid = jax.vmap(is_valid, (0, None, None))(answers, given, units)
  is_solved = valid.any(0)
  first = jnp.where(is_solved, valid.argmax(0), length - 1)
  answers = jnp.take_along_axis(answers, first[None, :, None], 0)[0]
  has_assumed = (work.assumed != given).any(1)
  answers = _where(~is_solved & has_assumed, work.beliefs.argmax(-1), answers)
  num_steps = jnp.where(is_solved, work.num_steps + first + 1, 0)
  done = is_solved | (work.num_steps + length >= max_steps)
  new = dataclasses.replace(
    work,
    board=jnp.where(done, work.next + done.cumsum() - 1, work.board),
    next=work.next + done.sum(),
    num_steps=jnp.where(done, 0, work.num_steps + length),
    logits=logits[-1],
    # Writes to an index after the last board are dropped.
    answers=work.answers.at[work.board].set(answers, mode='drop'),
    solved_after=work.solved_after.at[work.board].set(num_steps, mode='drop'),
  )
  given = new.given(puzzles)
  return dataclasses.replace(
    new,
    states=_where(done, model.init_states(given), states),
    assumed=_where(done, given, work.assumed),
  )


def _keep(work: _Work, size: int) -> _Work:
  """Return the work on the active boards with the `size` lowest indices."""
  order = work.board.argsort()[:size]
  results = 'next', 'answers', 'solved_after'
  return dataclasses.replace(
    work,
    **{
      field.name: jax.tree.map(lambda x: x[order], getattr(work, field.name))
      for field in dataclasses.fields(work)
      if field.name not in results
    },
  )


def _change_assumptions(
  model: Any,
  work: _Work,
  puzzles: Int[Array, 'B N'],
  first_at: int,
  key: jax.Array,
) -> _Work:
  """Change the assumptions of the boards that are due; see `solve`.

  Boards are due after `first_at` steps, and after each further `first_at / 2`
  steps. They start again at their first assumption, and with probability 1/2 at
  each later one.
  """
  choice_key, key = jax.random.split(key)
  given = work.given(puzzles)
  is_first = work.num_steps == first_at
  is_due = (work.num_steps >= first_at) & (
    work.num_steps % (first_at // 2) == 0
  )
  is_new = is_first | jax.random.bernoulli(choice_key, 0.5, is_first.shape)
  now = jax.nn.softmax(work.logits)
  beliefs = _where(is_first, now, work.beliefs)
  assumed = _assume(
    key, _where(is_new, given, work.assumed), _where(is_new, beliefs, now)
  )
  start = model.init_states(assumed)
  return dataclasses.replace(
    work,
    assumed=_where(is_due, assumed, work.assumed),
    beliefs=beliefs,
    states=_where(is_due & is_new, start, work.states),
  )


def _assume(
  key: jax.Array, puzzles: Int[Array, 'S N'], beliefs: Float[Array, 'S N K']
) -> Int[Array, 'S N']:
  """Fill one empty cell of each puzzle with a digit from the network.

  The cell is drawn uniformly from the empty cells whose digit the network is
  not sure of, or from all empty cells if it is sure of all. The digit is drawn
  from the network's probabilities.
  """
  cell_key, digit_key = jax.random.split(key)
  score = jax.random.uniform(cell_key, puzzles.shape)
  score += (beliefs.max(-1) < _SURE).astype(jnp.float32)
  cell = jnp.where(puzzles == 0, score, -1.0).argmax(1)
  chances = jnp.take_along_axis(beliefs, cell[:, None, None], axis=1)
  digit = jax.random.categorical(digit_key, jnp.log(chances))  # [S, 1]
  is_cell = jax.nn.one_hot(cell, puzzles.shape[1], dtype=bool)
  return jnp.where(is_cell & (puzzles == 0), digit, puzzles)


def _where(condition, tree, other):
  """Select rows of two trees with leaves 'S ...' by a condition 'S'."""

  def select(x, y):
    return jnp.where(condition.reshape(-1, *[1] * (x.ndim - 1)), x, y)

  return jax.tree.map(select, tree, other)


def is_valid(
  answers: Int[Array, 'B N'],
  puzzles: Int[Array, 'B N'],
  units: Int[np.ndarray, 'U n'],
) -> Bool[Array, ' B']:
  """Return whether each answer obeys the rules and keeps all givens."""
  counts = jax.nn.one_hot(answers - 1, units.shape[1])[:, units]
  is_complete = (counts.sum(2) == 1).all((1, 2))
  return is_complete & ((puzzles == 0) | (puzzles == answers)).all(1)
