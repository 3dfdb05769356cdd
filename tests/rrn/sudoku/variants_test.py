import collections
import itertools

import numpy as np
import pytest

from core.errors import UserError
from rrn.sudoku import data, variants

JIGSAW = 'AABBACCBACDBDCDD'
BIG_JIGSAW = 'AAAAABBBBBCCCDDDCCDDEEEEE'


def brute_force(puzzle, units):
  """Count solutions by plain backtracking, without code of the solver."""
  side = len(units[0])
  shared = [
    {c for unit in units if cell in unit for c in unit}
    for cell in range(side**2)
  ]

  def place(board):
    if 0 not in board:
      return 1
    options = {
      cell: set(range(1, side + 1)) - {board[c] for c in shared[cell]}
      for cell in range(side**2)
      if board[cell] == 0
    }
    cell = min(options, key=lambda c: len(options[c]))
    return sum(
      place([*board[:cell], digit, *board[cell + 1 :]])
      for digit in options[cell]
    )

  board = [int(digit) for digit in puzzle]
  for unit in units:
    givens = [board[cell] for cell in unit if board[cell]]
    if len(set(givens)) < len(givens):
      return 0
  return place(board)


def lines(side):
  rows = [[side * r + c for c in range(side)] for r in range(side)]
  return rows + [list(column) for column in zip(*rows, strict=True)]


def regions(letters):
  groups = collections.defaultdict(list)
  for cell, letter in enumerate(letters):
    groups[letter].append(cell)
  return list(groups.values())


def boxes(height, width):
  side = height * width
  return regions(
    [(c // side // height, c % side // width) for c in range(side**2)]
  )


def diagonals(side):
  return [
    [side * i + i for i in range(side)],
    [side * i + side - 1 - i for i in range(side)],
  ]


WINDOWS = [
  [9 * (r + i) + c + j for i in range(3) for j in range(3)]
  for r in (1, 5)
  for c in (1, 5)
]
CASES = {
  'diagonal 2x2': (
    variants.diagonal_units(2, 2),
    [*lines(4), *boxes(2, 2), *diagonals(4)],
  ),
  'diagonal 2x3': (
    variants.diagonal_units(2, 3),
    [*lines(6), *boxes(2, 3), *diagonals(6)],
  ),
  'jigsaw 4': (
    variants.jigsaw_units(JIGSAW),
    [*lines(4), *regions(JIGSAW)],
  ),
  'jigsaw 5': (
    variants.jigsaw_units(BIG_JIGSAW),
    [*lines(5), *regions(BIG_JIGSAW)],
  ),
  'windoku': (variants.windoku_units(), [*lines(9), *boxes(3, 3), *WINDOWS]),
}


@pytest.mark.parametrize('name', CASES)
def test_units(name):
  units, expected = CASES[name]
  assert {frozenset(u) for u in units.tolist()} == {
    frozenset(u) for u in expected
  }


@pytest.mark.parametrize('name', CASES)
def test_solver_counts_as_brute_force_does(name):
  units, expected = CASES[name]
  side = units.shape[1]
  rng = np.random.default_rng(0)
  givens = 40 if side == 9 else None  # keeps brute force fast
  puzzles, solutions = data.generate(rng, 24, 1, side, givens, units=units)
  assert data.is_solution(solutions, puzzles, units=units).all()
  for puzzle in puzzles[:6]:
    assert brute_force(puzzle, expected) == 1
  boards = data.add_givens(rng, puzzles, solutions, side // 3)
  rows = np.arange(24)
  boards[rows, boards.argmax(1)] = 0
  boards[rows[:8], boards[:8].argmin(1)] = rng.integers(1, side + 1, 8)
  counts = [brute_force(board, expected) for board in boards]
  assert 0 in counts
  assert max(counts) > 1
  np.testing.assert_array_equal(
    data.solve(boards, limit=1000, units=units)[1], counts
  )


def test_only_the_variant_rules_out_a_solution_of_the_standard_rules():
  board = data.generate(np.random.default_rng(0), 1, 3, 3, givens=81)[1]
  assert data.is_solution(board).all()
  for units in (variants.diagonal_units(3, 3), variants.windoku_units()):
    assert not data.is_solution(board, units=units).any()


def test_contradictions_name_the_unit():
  puzzle = np.zeros(81, np.int8)
  puzzle[[10, 20]] = 5
  assert 'digit 5 twice in box 1' in data.find_contradiction(puzzle)
  puzzle = np.zeros(81, np.int8)
  puzzle[[0, 80]] = 5
  assert data.find_contradiction(puzzle) is None
  clash = data.find_contradiction(puzzle, units=variants.diagonal_units(3, 3))
  assert clash == 'digit 5 twice in extra unit 1 (cells r1c1 and r9c9)'
  puzzle = np.zeros(16, np.int8)
  puzzle[[1, 4]] = 3
  clash = data.find_contradiction(puzzle, units=variants.jigsaw_units(JIGSAW))
  assert clash == 'digit 3 twice in region 1 (cells r1c2 and r2c1)'


@pytest.mark.parametrize('letters', ['AAB', 'A' * 16, JIGSAW[:-1] + 'A'])
def test_bad_regions(letters):
  with pytest.raises(UserError, match='regions of a jigsaw board'):
    variants.jigsaw_units(letters)


@pytest.mark.parametrize('side', [4, 7, 9])
def test_random_regions_are_connected(side):
  rng = np.random.default_rng(0)
  drawn = [variants.random_regions(rng, side) for _ in range(2)]
  assert drawn[0] != drawn[1]
  for letters in drawn:
    for cells in regions(letters):
      assert len(cells) == side
      reached, edge = set(), {cells[0]}
      while edge:
        reached |= edge
        edge = {
          c
          for c in cells
          for e in edge
          if abs(c // side - e // side) + abs(c % side - e % side) == 1
        } - reached
      assert reached == set(cells)


@pytest.mark.parametrize('variant', ['standard', 'diagonal', 'windoku'])
def test_generate(variant):
  columns = variants.generate(np.random.default_rng(0), 4, variant=variant)
  extra = {'diagonal': diagonals(9), 'windoku': WINDOWS}.get(variant, [])
  units = np.array([*lines(9), *boxes(3, 3), *extra])
  check(columns, [units] * 4)


def check(columns, units):
  puzzles, solutions = columns['puzzle'], columns['solution']
  assert puzzles.dtype == solutions.dtype == np.int8
  for puzzle, solution, own in zip(puzzles, solutions, units, strict=True):
    assert data.is_solution(solution[None], puzzle[None], units=own).all()
    assert data.solve(puzzle[None], units=own)[1] == 1
    cells = np.flatnonzero(puzzle)
    fewer = np.tile(puzzle, (cells.size, 1))
    fewer[np.arange(cells.size), cells] = 0
    assert (data.solve(fewer, units=own)[1] == 2).all()


def test_jigsaw_regions_without_a_complete_board():
  with pytest.raises(UserError, match='found no complete board'):
    variants.generate(
      np.random.default_rng(0), 1, box=(2, 2), variant='AAABBBBACCCCDDDD'
    )


def test_generate_jigsaw():
  columns = variants.generate(
    np.random.default_rng(0), 70, box=(1, 5), variant='jigsaw'
  )
  assert columns['regions'].dtype == np.int8
  assert len(np.unique(columns['regions'], axis=0)) > 1
  check(
    columns, [np.array([*lines(5), *regions(r)]) for r in columns['regions']]
  )


def test_generate_big_boards():
  box, side = (3, 7), 21
  columns = variants.generate(np.random.default_rng(0), 2, box=box, givens=350)
  puzzles, solutions = columns['puzzle'], columns['solution']
  np.testing.assert_array_equal((puzzles > 0).sum(1), 350)
  assert data.is_solution(solutions, puzzles, box=box).all()
  found, counts = data.solve(puzzles, box=box)
  np.testing.assert_array_equal(counts, 1)
  np.testing.assert_array_equal(found, solutions)
  # Count 2 x 2 Latin squares: two rows with the same two digits in the same two
  # columns. The pattern that the solutions start from has none.
  rows = solutions[0].reshape(side, side)
  squares = 0
  for a, b in itertools.combinations(rows, 2):
    step = a.argsort()[b - 1]  # the column in which a has the digit of b
    squares += (step[step] == np.arange(side)).sum() // 2
  assert squares > side


@pytest.mark.parametrize(
  ('variant', 'box', 'message'),
  [
    ('killer', (3, 3), 'variant=killer: expected standard, diagonal'),
    ('windoku', (2, 2), '3 x 3'),
    ('diagonal', (5, 5), 'side 25; expected at most 16'),
  ],
)
def test_generate_refuses(variant, box, message):
  with pytest.raises(UserError, match=message):
    variants.generate(np.random.default_rng(0), 1, box=box, variant=variant)
