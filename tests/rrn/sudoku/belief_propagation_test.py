"""Messages and the marginals on trees are exact, and boards are solved."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from rrn.sudoku import belief_propagation, data

BOX = 2, 2


def test_messages_are_sums_over_all_fillings():
  weights = np.random.default_rng(0).random((4, 4, 3))
  weights[1, 2] = 0
  expected = np.zeros_like(weights)
  for digits in itertools.permutations(range(4)):
    for cell, digit in enumerate(digits):
      others = [weights[c, d] for c, d in enumerate(digits) if c != cell]
      expected[cell, digit] += np.prod(others, axis=0)
  np.testing.assert_allclose(
    belief_propagation.all_different(weights), expected, rtol=1e-12
  )


def test_marginals_are_exact_on_a_tree():
  """A row and a column share one cell: a tree of seven cells."""
  state = belief_propagation.Beliefs(np.zeros((2, 16), np.int8), BOX)
  state.prior = np.random.default_rng(0).random(state.prior.shape)
  row, column = 0, 4
  for _ in range(3):
    state.update(np.array([row, column]))
  cells = np.union1d(state.units[row], state.units[column])
  expected = np.zeros((16, 4, 2))
  for digits in itertools.product(range(4), repeat=len(cells)):
    board = dict(zip(cells, digits, strict=True))
    if all(
      len({board[cell] for cell in state.units[unit]}) == 4
      for unit in (row, column)
    ):
      chance = np.prod([state.prior[c, d] for c, d in board.items()], axis=0)
      for cell, digit in board.items():
        expected[cell, digit] += chance
  expected = expected[cells] / expected[cells].sum(1, keepdims=True)
  np.testing.assert_allclose(state.probabilities()[cells], expected, rtol=1e-9)


def test_balancing_makes_rows_and_columns_sum_to_one():
  weights = np.random.default_rng(0).random((9, 9, 5)) + 0.1
  balanced = belief_propagation.balance(weights)
  np.testing.assert_allclose(balanced.sum(0), 1, atol=1e-3)
  np.testing.assert_allclose(balanced.sum(1), 1, atol=1e-9)


@pytest.mark.parametrize('variant', list(belief_propagation.PAPER))
def test_small_boards_are_solved(variant):
  puzzles, solutions = data.generate(np.random.default_rng(0), 40, *BOX)
  answers = belief_propagation.solve(puzzles, variant, box=BOX, steps=30)
  solved = (answers == solutions).all(1)
  assert solved.mean() > 0.9
  assert not answers[~solved].any()


def test_names_of_digits_and_transposition_do_not_matter():
  puzzles, _ = data.generate(np.random.default_rng(1), 20, *BOX)
  names = np.array([0, 3, 1, 4, 2], np.int8)
  moved = np.arange(16).reshape(4, 4).T.ravel()

  def probabilities(puzzles):
    state = belief_propagation.Beliefs(puzzles, BOX)
    for step in range(3):
      state.update(np.arange(12), is_balanced=step == 1)
    return state.probabilities()

  np.testing.assert_allclose(
    probabilities(names[puzzles][:, moved])[:, names[1:] - 1],
    probabilities(puzzles)[moved],
    atol=1e-12,
  )


def test_contradictions_end_without_an_answer():
  puzzle = np.zeros((1, 16), np.int8)
  puzzle[0, [0, 1, 2, 7]] = 1, 2, 3, 4  # no digit is left for cell 3
  for variant in belief_propagation.PAPER:
    answers = belief_propagation.solve(puzzle, variant, box=BOX, steps=5)
    assert not answers.any()


def run(*args, **env):
  return subprocess.run(
    [sys.executable, '-m', 'rrn.sudoku.belief_propagation', *args],
    capture_output=True,
    text=True,
    env=env,
    timeout=300,
  )


def test_missing_data_is_one_clear_line(tmp_path):
  folders = dict.fromkeys(
    ('LEARNED_ALGORITHMS_DATA', 'LEARNED_ALGORITHMS_CACHE'), str(tmp_path)
  )
  result = run('--num_boards=5', **folders)
  assert result.returncode == 2
  assert result.stdout == ''
  last = result.stderr.splitlines()[-1]
  assert last.startswith('error: ') and 'LEARNED_ALGORITHMS_DATA' in last
  assert '--config' not in last  # a flag of main.py
