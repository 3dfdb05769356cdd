"""Solve the puzzles of a text, for `--mode=predict`."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epy

from core import answers
from core.answers import Answer
from core.errors import UserError, one_line
from rrn.sudoku import data, puzzle_text, solver, variants
from rrn.sudoku.model import SudokuCandidates

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from rrn.sudoku import plots

_MOST_FRAMES = 128  # of an animation


def answer(
  model: Any, lines: Iterable[str], *, box: data.Box, evals
) -> Iterator[str | UserError]:
  """Solve the puzzles of a text in order, as they arrive.

  Logs a warning for puzzles with several solutions, and for answers that break
  the rules.

  Args:
    model: one of `task.NETWORKS`.
    lines: lines of text, in any format of `puzzle_text`.
    box: height and width of the boxes that the model was trained on.
    evals: the section `evals` of the config.

  Yields:
    The answer to each puzzle, a UserError that says what is wrong with it, or
    '' for a line without a puzzle.
  """
  units = None
  if evals.variant != 'standard':
    units = variants.units_of(evals.variant, box)
  is_fixed_size = units is not None or not isinstance(model, SudokuCandidates)
  solvers = {}
  is_animation_due = bool(evals.animation)

  def encode(problem):
    if problem.puzzle.size not in solvers:
      solvers[problem.puzzle.size] = solver.make_solver(
        model,
        problem.units,
        max_steps=evals.max_steps,
        assume_after=evals.assume_after,
      )
    return {'puzzle': problem.puzzle}

  def run(columns):
    # A row has the answer, and then the number of steps.
    puzzles = columns['puzzle']
    return np.column_stack(solvers[puzzles.shape[1]](puzzles))

  def finish(problem, row):
    nonlocal is_animation_due
    if is_animation_due:
      is_animation_due = False
      _animate(model, problem, evals)
    return _judge(problem, row, evals.max_steps)

  problems = puzzle_text.read_puzzles(
    lines,
    box=box if is_fixed_size else None,
    units=units,
    symbols=evals.symbols,
  )
  return answers.answer_problems(
    problems, encode=encode, solve=run, finish=finish
  )


def _judge(
  problem: puzzle_text.Problem, row: np.ndarray, max_steps: int
) -> Answer | UserError:
  """Return the answer with its failure, if any, or the puzzle's error."""
  board, num_steps = row[:-1], row[-1]
  why = puzzle_text.diagnose(problem)
  if why == 'no solution':
    return UserError('the puzzle has no solution', line=problem.line)
  if why:
    logging.warning('line %d: the puzzle has %s', problem.line, why)
  failure, is_correct = '', None
  if not num_steps:
    failure = (
      f'breaks the rules after {max_steps} steps; try a larger'
      ' config.evals.max_steps'
    )
  if problem.solution is not None:
    is_correct = np.array_equal(board, problem.solution)
  text = puzzle_text.format_board(board, problem.symbols)
  return Answer(text, failure, is_correct, problem.line)


def _animate(model, problem: puzzle_text.Problem, evals):
  """Animate a puzzle's digits step by step, until they obey the rules."""
  if isinstance(model, SudokuCandidates):
    model = model.for_units(problem.units)
  puzzle = jnp.asarray(problem.puzzle[None], jnp.int32)
  logits = model(puzzle, num_steps=min(_MOST_FRAMES, evals.max_steps))[:, 0]
  answers = logits.argmax(-1)
  puzzles = jnp.broadcast_to(puzzle, answers.shape)
  valid = solver.is_valid(answers, puzzles, problem.units)
  last = int(valid.argmax()) if valid.any() else len(logits) - 1
  probabilities = np.asarray(jax.nn.softmax(logits[: last + 1]))
  path = evals.animation
  try:
    plots.animate_digits(path, problem.puzzle, probabilities, *problem.box)
  except (OSError, ValueError) as error:
    raise UserError(
      f'config.evals.animation={path} cannot be written: {one_line(error)};'
      ' choose another path, with the suffix .gif'
    ) from error
