import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from rrn.sudoku import data

BOXES = [(2, 2), (2, 3), (3, 2)]
ROYLE = (
  '000000010400000000020000000000050407008000300001090000300400200050100000'
  '000806000'
)
ROYLE_SOLUTION = (
  '693784512487512936125963874932651487568247391741398625319475268856129743'
  '274836159'
)


def board(digits):
  return np.array([*digits], np.int8)


def brute_force(puzzle, box):
  """Count solutions by plain backtracking, without code of the solver."""
  height, width = box
  side = height * width

  def place(board):
    if 0 not in board:
      return 1
    cell = board.index(0)
    row, column = divmod(cell, side)
    seen = {
      board[other]
      for other in range(side * side)
      if other // side == row
      or other % side == column
      or (
        other // side // height == row // height
        and other % side // width == column // width
      )
    }
    return sum(
      place([*board[:cell], digit, *board[cell + 1 :]])
      for digit in range(1, side + 1)
      if digit not in seen
    )

  return place([int(digit) for digit in puzzle])


@pytest.mark.parametrize('box', BOXES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_generated_puzzles_have_one_solution_and_are_minimal(box, seed):
  rng = np.random.default_rng(seed)
  puzzles, solutions = data.generate(rng, 3, *box)
  assert puzzles.dtype == solutions.dtype == np.int8
  assert data.is_solution(solutions, puzzles, box=box).all()
  for puzzle in puzzles:
    assert brute_force(puzzle, box) == 1
    for cell in np.flatnonzero(puzzle):
      fewer = puzzle.copy()
      fewer[cell] = 0
      assert data.solve(fewer[None], box=box)[1] == 2


def test_solver_counts_as_brute_force_does():
  rng = np.random.default_rng(0)
  puzzles, solutions = data.generate(rng, 30, 2, 2)
  puzzles[np.arange(30), rng.integers(0, 16, 30)] = 0
  puzzles[:10, 5] = solutions[:10, 5] % 4 + 1  # most of these have none
  expected = [brute_force(puzzle, (2, 2)) for puzzle in puzzles]
  assert {0, 1} < set(expected)
  np.testing.assert_array_equal(data.solve(puzzles, limit=99)[1], expected)
  found, counts = data.solve(puzzles)
  np.testing.assert_array_equal(counts, np.minimum(expected, 2))
  np.testing.assert_array_equal(data.is_solution(found, puzzles), counts > 0)
  assert not found[counts == 0].any()


def test_the_empty_4x4_board_has_288_solutions():
  assert data.solve(np.zeros((1, 16), np.int8), limit=1000)[1] == 288


def test_solves_a_17_clue_puzzle():
  puzzle = board(ROYLE)
  solutions, counts = data.solve(puzzle[None])
  assert counts == 1
  np.testing.assert_array_equal(solutions[0], board(ROYLE_SOLUTION))


def test_solves_more_boards_than_fit_in_one_pass():
  rng = np.random.default_rng(1)
  names = rng.permuted(np.tile(np.arange(1, 10), (1500, 1)), axis=1)
  names = np.insert(names, 0, 0, axis=1).astype(np.int8)
  puzzles = names[:, board(ROYLE)]
  solutions = names[:, board(ROYLE_SOLUTION)]
  found, counts = data.solve(puzzles)
  assert (counts == 1).all()
  np.testing.assert_array_equal(found, solutions)


def test_generate_stops_at_the_givens_asked_for():
  rng = np.random.default_rng(0)
  puzzles, _ = data.generate(rng, 8, 3, 3, givens=40)
  np.testing.assert_array_equal((puzzles > 0).sum(1), 40)
  assert (data.solve(puzzles)[1] == 1).all()
  big, solutions = data.generate(rng, 1, 4, 4, givens=200)
  assert data.is_solution(solutions, big).all()
  assert solutions.max() == 16


def test_generate_is_a_function_of_the_seed():
  first, again, other = (
    data.generate(np.random.default_rng(seed), 4, 2, 2)[0] for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


@pytest.mark.parametrize('box', [*BOXES, (3, 3)])
def test_neighbors_share_a_unit(box):
  height, width = box
  side = height * width
  table = data.neighbors(*box)
  assert table.shape == (side**2, 3 * side - height - width - 1)
  edges = {(i, int(j)) for i, row in enumerate(table) for j in row}
  assert all((j, i) in edges and i != j for i, j in edges)
  assert (np.diff(table, axis=1) > 0).all()
  if side == 9:
    assert len(edges) == 1620
    assert set(table[0]) == {*range(1, 9), *range(9, 81, 9), 10, 11, 19, 20}


def test_relabel_forgets_digit_names_only():
  rng = np.random.default_rng(0)
  solutions = data.generate(rng, 6, 3, 3, givens=80)[1]
  names = rng.permutation(9) + 1
  renamed = names[solutions - 1].astype(np.int8)
  canonical = data.relabel(solutions)
  np.testing.assert_array_equal(data.relabel(renamed), canonical)
  assert (canonical[:, :9] == np.arange(1, 10)).all()
  assert len(np.unique(canonical, axis=0)) == 6


def test_add_givens_fills_from_the_solution():
  rng = np.random.default_rng(0)
  puzzles, solutions = data.generate(rng, 5, 2, 3)
  counts = np.array([0, 1, 2, 3, 36])
  filled = data.add_givens(rng, puzzles, solutions, counts)
  expected = np.minimum((puzzles > 0).sum(1) + counts, 36)
  np.testing.assert_array_equal((filled > 0).sum(1), expected)
  assert ((filled == puzzles) | (puzzles == 0)).all()
  assert ((filled == solutions) | (filled == 0)).all()


def test_is_solution_refuses_wrong_boards():
  solution = board(ROYLE_SOLUTION)
  puzzle = board(ROYLE)
  swapped = solution.copy()
  swapped[[0, 1]] = swapped[[1, 0]]
  renamed = 10 - solution
  boards = np.stack([solution, swapped, renamed, puzzle])
  puzzles = np.tile(puzzle, (4, 1))
  valid = data.is_solution(boards, puzzles)
  np.testing.assert_array_equal(valid, [True, False, False, False])
  np.testing.assert_array_equal(
    data.is_solution(boards), [True, False, True, False]
  )


def test_masks_hold_25_digits():
  for side, dtype in ((16, np.uint16), (25, np.uint32)):
    masks = data.candidates(np.zeros((1, side**2), np.int8))
    assert masks.dtype == dtype
    assert (np.bitwise_count(masks) == side).all()


def test_minimize_stops_and_keeps_its_arguments():
  rng = np.random.default_rng(0)
  solutions = data.generate(rng, 3, 3, 3, givens=81)[1]
  given = data.add_givens(rng, np.zeros_like(solutions), solutions, 70)
  copy = given.copy()
  puzzles = data.minimize(rng, given, 40)
  np.testing.assert_array_equal(given, copy)
  np.testing.assert_array_equal((puzzles > 0).sum(1), 40)
  assert ((puzzles == 0) | (puzzles == given)).all()
  assert (data.solve(puzzles)[1] == 1).all()


def test_boxes_must_fit_the_board():
  assert data.box_shape(36) == (2, 3)
  assert data.box_shape(144) == (3, 4)
  with pytest.raises(UserError, match='do not fit'):
    data.box_shape(81, (2, 3))
