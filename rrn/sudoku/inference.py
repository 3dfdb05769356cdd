"""Runs a network on puzzles until its answers obey the rules.

The rules tell a right answer from a wrong one, so that no solution is needed to
stop, and boards may take as many steps as they need.

Axes: B batch, N cells, U units, n cells of a unit.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Bool, Int

from core import answers
from core.answers import Answer
from core.errors import UserError, one_line
from rrn.sudoku import data, plots, puzzle_text, variants
from rrn.sudoku.model import SudokuCandidates

_STEPS_AT_ONCE = 16  # between two checks of the rules
_MOST_FRAMES = 128  # of an animation


def answer(
  model: Any, lines: Iterable[str], *, box: data.Box, evals
) -> Iterator[str | UserError]:
  """Solve the puzzles of a text, in order, as they arrive.

  Warns of puzzles with several solutions, and of answers that break the rules.

  Args:
    model: one of `task.NETWORKS`.
    lines: in any format of `puzzle_text`.
    box: of the boards that the model was trained on.
    evals: the config's section.

  Yields:
    The answer to each puzzle, the UserError that says what is wrong with it, or
    '' for a line without a puzzle.
  """
  units = None
  if evals.variant != 'standard':
    units = variants.units_of(evals.variant, box)
  is_candidates = isinstance(model, SudokuCandidates)
  is_fixed = units is not None or not is_candidates
  solvers = {}
  has_animation = not evals.animation

  def encode(problem):
    if problem.puzzle.size not in solvers:
      solvers[problem.puzzle.size] = make_solver(
        model,
        problem.units,
        max_steps=evals.max_steps,
        restart_steps=evals.restart_steps if is_candidates else 0,
      )
    return {'puzzle': problem.puzzle}

  def solve(columns):
    puzzles = columns['puzzle']
    return np.column_stack(solvers[puzzles.shape[1]](puzzles))

  def finish(problem, row):
    nonlocal has_animation
    if not has_animation:
      has_animation = True
      _animate(model, problem, evals)
    return _judge(problem, row, evals.max_steps)

  problems = puzzle_text.read_puzzles(
    lines, box=box if is_fixed else None, units=units, symbols=evals.symbols
  )
  return answers.answer_problems(
    problems, encode=encode, solve=solve, finish=finish
  )


def _judge(
  problem: puzzle_text.Problem, row: np.ndarray, max_steps: int
) -> Answer | UserError:
  """Return the answer, and what is wrong with it or with its puzzle."""
  board, is_valid = row[:-1], row[-1]
  why = puzzle_text.diagnose(problem)
  if why == 'no solution':
    return UserError('the puzzle has no solution', line=problem.line)
  if why:
    logging.warning('line %d: the puzzle has %s', problem.line, why)
  failure, is_correct = '', None
  if not is_valid:
    failure = (
      f'breaks the rules after {max_steps} steps; try a larger'
      ' config.evals.max_steps'
    )
  if problem.solution is not None:
    is_correct = np.array_equal(board, problem.solution)
  text = puzzle_text.format_board(board, problem.symbols)
  return Answer(text, failure, is_correct, problem.line)


def _animate(model, problem: puzzle_text.Problem, evals):
  """Draw a puzzle's digits step by step, until they obey the rules."""
  if isinstance(model, SudokuCandidates):
    model = model.for_units(problem.units)
  puzzle = jnp.asarray(problem.puzzle[None], jnp.int32)
  logits = model(puzzle, num_steps=min(_MOST_FRAMES, evals.max_steps))[:, 0]
  valid = is_valid(logits.argmax(-1), puzzle, problem.units)
  last = int(valid.argmax()) if valid.any() else len(logits) - 1
  probabilities = np.asarray(jax.nn.softmax(logits[: last + 1]))
  path = evals.animation
  try:
    plots.animate_digits(path, problem.puzzle, probabilities, *problem.box)
  except (OSError, ValueError) as error:
    raise UserError(
      f'config.evals.animation={path} cannot be written: {one_line(error)};'
      ' give another path, with the suffix .gif'
    ) from error


def make_solver(
  model: Any,
  units: Int[np.ndarray, 'U n'],
  *,
  max_steps: int,
  restart_steps: int = 0,
) -> Callable[[Int[Array, 'B N']], tuple[np.ndarray, np.ndarray]]:
  """Return a function from puzzles 'B N' to answers.

  Args:
    model: any of `task.NETWORKS`. Candidates take boards of any units, the
      others those that they were trained on.
    units: the cells of each unit of the board.
    max_steps: of message passing, at most.
    restart_steps: steps after which the boards that are not solved start again
      from random states; 0: never. Candidates only.

  Returns:
    A jitted function. It returns the first answer of each board that obeys the
    rules, or else the last answer, int 'B N'; and whether it obeys them, bool
    'B'. It stops once all boards of a call are solved.
  """
  if isinstance(model, SudokuCandidates):
    model = model.for_units(units)
  graphdef, params = nnx.split(model)
  run = _run_once
  if hasattr(model, 'advance'):
    run = functools.partial(_run_in_segments, restart_steps=restart_steps)

  @jax.jit
  def solve(params, puzzles):
    puzzles = puzzles.astype(jnp.int32)
    return run(nnx.merge(graphdef, params), puzzles, units, max_steps)

  return functools.partial(solve, params)


def _run_once(model, puzzles, units, max_steps):
  answers = model(puzzles, num_steps=max_steps)[-1].argmax(-1)
  return answers, is_valid(answers, puzzles, units)


def _run_in_segments(model, puzzles, units, max_steps, restart_steps):
  def segment(carry):
    index, states, answers, is_solved = carry
    if restart_steps:
      is_restart = (index > 0) & (
        index % math.ceil(restart_steps / length) == 0
      )
      states = jax.lax.cond(
        is_restart,
        lambda: model.init_states(puzzles, jax.random.key(index)),
        lambda: states,
      )
    states, logits = model.advance(puzzles, states, num_steps=length)
    new = logits.argmax(-1)  # [T, B, N]
    valid = jax.vmap(is_valid, (0, None, None))(new, puzzles, units)
    first = jnp.where(valid.any(0), valid.argmax(0), length - 1)
    new = jnp.take_along_axis(new, first[None, :, None], 0)[0]
    answers = jnp.where(is_solved[:, None], answers, new)
    return index + 1, states, answers, is_solved | valid.any(0)

  length = min(_STEPS_AT_ONCE, max_steps)
  num_segments = math.ceil(max_steps / length)
  start = 0, model.init_states(puzzles), puzzles, jnp.zeros(len(puzzles), bool)
  *_, answers, is_solved = jax.lax.while_loop(
    lambda carry: (carry[0] < num_segments) & ~carry[-1].all(), segment, start
  )
  return answers, is_solved


def is_valid(
  answers: Int[Array, 'B N'],
  puzzles: Int[Array, 'B N'],
  units: Int[np.ndarray, 'U n'],
) -> Bool[Array, ' B']:
  """Return whether each answer solves its puzzle by the rules."""
  counts = jax.nn.one_hot(answers - 1, units.shape[1])[:, units]
  is_complete = (counts.sum(2) == 1).all((1, 2))
  return is_complete & ((puzzles == 0) | (puzzles == answers)).all(1)
