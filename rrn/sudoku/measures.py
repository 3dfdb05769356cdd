"""Measure the share of boards that a network solves, by steps and by kind.

Axes: B batch, T steps, N cells, U units, n cells of a unit.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from core.metrics import Metric
from core.task import Batch, Metrics
from rrn.sudoku import solver

# Names of kinds of boards, and whether each board is of each kind.
Kinds = tuple[Sequence[str], Bool[Array, 'B kinds']]

_NO_LIMIT = 2**31 - 1
# Measure of difficulty -> kind of hard puzzle -> range; see `hard`.
DIFFICULTIES = {
  'guesses': {
    '0_guesses': (0, 0),
    '1_to_5_guesses': (1, 5),
    '6_to_20_guesses': (6, 20),
    '21_to_50_guesses': (21, 50),
    'over_50_guesses': (51, _NO_LIMIT),
  },
  'unrefuted': {
    '0_unrefuted': (0, 0),
    '1_to_50_unrefuted': (1, 50),
    '51_to_100_unrefuted': (51, 100),
    '101_to_150_unrefuted': (101, 150),
    'over_150_unrefuted': (151, _NO_LIMIT),
  },
}


def kinds_by_difficulty(measure: str, difficulty: Int[Array, ' B']) -> Kinds:
  """Return the kinds of hard puzzles by one measure of `DIFFICULTIES`."""
  ranges = DIFFICULTIES[measure]
  is_kind = [
    (low <= difficulty) & (difficulty <= high) for low, high in ranges.values()
  ]
  return list(ranges), jnp.stack(is_kind, axis=-1)


def kinds_by_givens(puzzle: Int[Array, 'B N'], low: int, high: int) -> Kinds:
  """Return a kind for each number of givens from `low` to `high`."""
  givens = jnp.arange(low, high + 1)
  is_kind = (puzzle > 0).sum(-1)[:, None] == givens[None]
  return [f'{count}_givens' for count in range(low, high + 1)], is_kind


def by_steps(
  model: Any,
  batch: Batch,
  kinds: Kinds,
  *,
  units: Int[np.ndarray, 'U n'],
  num_steps: Sequence[int],
  is_independent: bool,
) -> Metrics:
  """Measure the answers after given numbers of steps.

  Args:
    model: maps puzzles and a number of steps to logits 'T B N K'.
    batch: 'puzzle' and 'solution', int 'B N', and 'weight' 'B'.
    kinds: kinds of the boards.
    units: cells of each unit of the board.
    num_steps: numbers of steps after which answers are measured.
    is_independent: whether all boards of the set come from different puzzles.

  Returns:
    'solved_by_step' 'T kinds', and for each number of steps t:
      'steps_<t>/solved': share of boards that are solved.
      'steps_<t>/valid': share of answers that obey the rules.
      'steps_<t>/lost': share of boards that were solved earlier, but not now.
      'steps_<t>/cells': share of cells with the correct digit.
      'steps_<t>/solved_<kind>': share of the boards of a kind that are solved.
  """
  puzzle, solution = (
    batch[name].astype(jnp.int32) for name in ('puzzle', 'solution')
  )
  weight = batch['weight']
  answers = model(puzzle, num_steps=max(num_steps)).argmax(-1)  # [T, B, N]
  right = answers == solution[None]
  solved = right.all(-1)  # [T, B]
  names, is_kind = kinds
  kind_weight = jnp.where(is_kind, weight[:, None], 0)
  by_kind = Metric.mean(solved[:, :, None], kind_weight, axis=1)
  metrics = {'solved_by_step': by_kind}  # [T, kinds]
  for steps in num_steps:
    last = steps - 1
    name = f'steps_{steps}'
    for measure, share in (
      ('solved', solved[last]),
      ('valid', solver.is_valid(answers[last], puzzle, units)),
      ('lost', solved[:last].any(0) & ~solved[last]),
    ):
      metrics[f'{name}/{measure}'] = Metric.mean(
        share, weight, is_independent=is_independent
      )
    metrics[f'{name}/cells'] = Metric.mean(
      right[last], weight[:, None], is_independent=False
    )
    for column, kind in enumerate(names):
      metrics[f'{name}/solved_{kind}'] = by_kind[last, column]
  return metrics


def by_rules(
  model: Any,
  batch: Batch,
  kinds: Kinds,
  *,
  units: Int[np.ndarray, 'U n'],
  within_steps: Sequence[int],
  assume_after: int,
  is_independent: bool,
) -> Metrics:
  """Measure the share of boards with an answer that obeys the rules, by steps.

  The first such answer counts. It is correct, because only the one solution of
  a puzzle obeys the rules.

  Args:
    model: see `solver.solve`.
    batch: 'puzzle', int 'B N', and 'weight' 'B'.
    kinds: kinds of the boards.
    units: cells of each unit of the board.
    within_steps: numbers of steps after which boards are counted.
    assume_after: see `solver.solve`.
    is_independent: see `by_steps`.

  Returns:
    For each number of steps t, 'within_<t>_steps/solved' over all boards, and
    'within_<t>_steps/solved_<kind>' over the boards of each kind.
  """
  _, num_steps = solver.solve(
    model,
    batch['puzzle'],
    units,
    max_steps=max(within_steps),
    assume_after=assume_after,
  )
  weight = batch['weight']
  metrics = {}
  for steps in within_steps:
    name = f'within_{steps}_steps/solved'
    solved = (num_steps > 0) & (num_steps <= steps)
    metrics[name] = Metric.mean(solved, weight, is_independent=is_independent)
    for kind, is_kind in zip(kinds[0], kinds[1].T, strict=True):
      metrics[f'{name}_{kind}'] = Metric.mean(
        solved, jnp.where(is_kind, weight, 0)
      )
  return metrics
