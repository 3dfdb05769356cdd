"""Sudoku in NumPy: rules, an exact solver, a generator, text.

A board of side n has boxes of h x w cells, n = h w. It is an int8 row of
N = n * n cells in reading order, digits 1..n, 0 = empty; a batch is [B, N].
`box` is always (h, w); None is the squarest one, lying: 2 x 3 on a 6 x 6 board.

The solver narrows a whole batch at once: bit d of a cell's mask says that digit
d + 1 is still possible there. Boards lie on the *last* axis, so that each NumPy
call works on long contiguous runs.
"""

import math

import numpy as np

from core.errors import UserError

Box = tuple[int, int]

_SYMBOLS = '123456789ABCDEFG'  # the masks have 16 bits
_FRONTIER = 1024  # boards narrowed at once: their masks stay in a core's cache


def box_shape(num_cells: int, box: Box | None = None) -> Box:
  """The (height, width) of the boxes of a board of `num_cells` cells.

  Raises:
    UserError: no such board, or boxes that do not fit it.
  """
  side = math.isqrt(num_cells)
  if side**2 != num_cells or not 1 < side <= len(_SYMBOLS):
    raise UserError(
      f'a board has n * n cells, n from 2 to {len(_SYMBOLS)}; {num_cells} given'
    )
  if box is None:
    height = max(
      h for h in range(1, side + 1) if side % h == 0 and h**2 <= side
    )
    return height, side // height
  if box[0] * box[1] != side:
    raise UserError(
      f'boxes of {box[0]} x {box[1]} cells do not fit a board of side {side}:'
      ' height times width must be the side'
    )
  return box


def units(box_height: int, box_width: int) -> np.ndarray:
  """The cells of each row, then each column, then each box: int [3n, n]."""
  side = box_height * box_width
  rows = np.arange(side**2).reshape(side, side)
  boxes = rows.reshape(box_width, box_height, box_height, box_width)
  boxes = boxes.swapaxes(1, 2).reshape(side, side)
  return np.concatenate([rows, rows.T, boxes])


def neighbours(box_height: int, box_width: int) -> np.ndarray:
  """The other cells sharing a unit with each cell, sorted: int32 [N, K]."""
  side = box_height * box_width
  shared = np.zeros((side**2, side**2), bool)
  for unit in units(box_height, box_width):
    shared[np.ix_(unit, unit)] = True
  np.fill_diagonal(shared, False)
  return np.nonzero(shared)[1].astype(np.int32).reshape(side**2, -1)


def is_solution(
  boards: np.ndarray,
  puzzles: np.ndarray | None = None,
  *,
  box: Box | None = None,
) -> np.ndarray:
  """Tells which boards [B, N] obey the rules and keep the givens.

  Args:
    boards: any integers.
    puzzles: the givens [B, N], 0 = none; None leaves them out.
    box: see the module.

  Returns:
    bool [B].
  """
  box = box_shape(boards.shape[-1], box)
  side = math.prod(box)
  values = np.sort(boards[..., units(*box)], axis=-1)  # [B, 3n, n]
  valid = (values == np.arange(1, side + 1)).all((-2, -1))
  if puzzles is not None:
    valid &= ((puzzles == 0) | (puzzles == boards)).all(-1)
  return valid


def contradictions(puzzle: np.ndarray, *, box: Box | None = None) -> str | None:
  """Names the first two givens of a puzzle [N] that clash; None if none do."""
  box = box_shape(puzzle.size, box)
  side = math.prod(box)
  for index, unit in enumerate(units(*box)):
    for digit in range(1, side + 1):
      clash = unit[puzzle[unit] == digit]
      if clash.size > 1:
        kind = ('row', 'column', 'box')[index // side]
        first, second = (f'r{c // side + 1}c{c % side + 1}' for c in clash[:2])
        return (
          f'digit {_SYMBOLS[digit - 1]} twice in {kind} {index % side + 1}'
          f' (cells {first} and {second})'
        )
  return None


def solve(
  puzzles: np.ndarray, *, limit: int = 2, box: Box | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Solves puzzles exactly.

  Args:
    puzzles: [B, N], 0 = empty.
    limit: solutions of a puzzle after which its search ends.
    box: see the module.

  Returns:
    A solution each [B, N], zeros where there is none, and the number of
    solutions [B], at most `limit`: 1 means exactly one.
  """
  box = box_shape(puzzles.shape[-1], box)
  return _search(_masks(puzzles, box), limit, box)


def _masks(puzzles: np.ndarray, box: Box) -> np.ndarray:
  """Candidates of puzzles [B, N]: uint16 [N, B]."""
  side = math.prod(box)
  table = np.array([(1 << side) - 1, *(1 << d for d in range(side))], np.uint16)
  return table[puzzles.T]


def _boards(masks: np.ndarray) -> np.ndarray:
  """Digits [B, N] of masks [N, B] with one bit each."""
  return (np.bitwise_count(masks - 1) + 1).T.astype(np.int8)


def _search(
  masks: np.ndarray, limit: int, box: Box
) -> tuple[np.ndarray, np.ndarray]:
  """Solves boards of candidates [N, B]; limit and results as in `solve`."""
  num_cells, num_boards = masks.shape
  solutions = np.zeros((num_boards, num_cells), np.int8)
  counts = np.zeros(num_boards, np.int64)
  for start in range(0, num_boards, _FRONTIER):
    waiting = masks[:, start : start + _FRONTIER]
    owners = np.arange(start, start + waiting.shape[1])
    # The newest boards first, as in a depth-first search, and no more at once
    # than there are puzzles, or puzzles of few givens would fill the memory.
    width = max(64, owners.size)
    while owners.size:
      cut = max(0, owners.size - width)
      old, owner = waiting[:, cut:], owners[cut:]
      new, alive, solved = _narrow(old, box)
      stuck = alive & ~solved & (new == old).all(0)
      moving = alive & ~solved & ~stuck
      solutions[owner[solved]] = _boards(new[:, solved])
      np.add.at(counts, owner[solved], 1)
      branches, parent = _branch(new[:, stuck])
      waiting = np.concatenate(
        [waiting[:, :cut], new[:, moving], branches], axis=1
      )
      owners = np.concatenate(
        [owners[:cut], owner[moving], owner[stuck][parent]]
      )
      open_ = counts[owners] < limit
      waiting, owners = waiting[:, open_], owners[open_]
  return solutions, counts.clip(max=limit)


def _narrow(
  masks: np.ndarray, box: Box
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Strikes out candidates once, by naked and hidden singles.

  Args:
    masks: [N, B].
    box: (height, width).

  Returns:
    The new masks; bool [B], no contradiction was met; bool [B], the given masks
    are a solution.
  """
  height, width = box
  full = np.uint16((1 << height * width) - 1)
  # [band, row in band, stack, column in stack, board]
  grid = masks.reshape(width, height, height, width, -1)
  unit_axes = (2, 3), (0, 1), (1, 3)  # the cells of a row, a column, a box
  single = np.where(grid & (grid - 1), np.uint16(0), grid)
  taken = np.uint16(0)
  for axes in unit_axes:
    taken = taken | np.bitwise_or.reduce(single, axes, keepdims=True)
  grid = np.where(single, grid, grid & ~taken)
  alive = np.asarray(grid.all((0, 1, 2, 3)))
  repeated, always_repeated = np.uint16(0), full
  for axes in unit_axes:
    cells = np.moveaxis(grid, axes, (0, 1))
    seen = np.zeros(cells.shape[2:], np.uint16)
    twice = np.zeros_like(seen)
    for cell in np.ndindex(cells.shape[:2]):
      twice |= seen & cells[cell]
      seen |= cells[cell]
    alive &= (seen == full).all((0, 1))
    twice = np.expand_dims(twice, axes)
    repeated, always_repeated = repeated | twice, always_repeated & twice
  only = grid & ~always_repeated  # digits with no other place in some unit
  clash = (single & repeated) | (only & (only - 1))
  alive &= ~clash.any((0, 1, 2, 3))
  solved = alive & single.all((0, 1, 2, 3))
  return np.where(only, only, grid).reshape(masks.shape), alive, solved


def _branch(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Tries each candidate of an open cell that has the fewest.

  Args:
    masks: unsolved boards [N, B].

  Returns:
    One board a candidate [N, C], and which board each came from: int [C].
  """
  bits = np.bitwise_count(masks)
  cells = np.where(bits > 1, bits, 99).argmin(0)
  options = masks[cells, np.arange(cells.size)]
  parents, digits = np.nonzero(options[:, None] >> np.arange(16) & 1)
  branches = masks[:, parents]
  branches[cells[parents], np.arange(parents.size)] = 1 << digits
  return branches, parents


def _random_solutions(
  rng: np.random.Generator, count: int, box_height: int, box_width: int
) -> np.ndarray:
  """Fills `count` empty boards by random guesses: int8 [count, N].

  A board that meets a contradiction starts anew: about 3 % do on 9 x 9.
  """
  box = box_height, box_width
  empty = _masks(np.zeros((1, math.prod(box) ** 2), np.int8), box)
  masks = np.repeat(empty, count, axis=1)
  full_boards = np.zeros((0, len(empty)), np.int8)
  while len(full_boards) < count:
    new, alive, solved = _narrow(masks, box)
    full_boards = np.concatenate([full_boards, _boards(new[:, solved])])
    stuck = np.flatnonzero(alive & ~solved & (new == masks).all(0))
    branches, parents = _branch(new[:, stuck])
    order = rng.permutation(parents.size)
    guess = order[np.unique(parents[order], return_index=True)[1]]
    new[:, stuck] = branches[:, guess]
    new[:, ~alive | solved] = empty
    masks = new
  return full_boards[:count]


def generate(
  rng: np.random.Generator,
  count: int,
  box_height: int,
  box_width: int,
  givens: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Makes puzzles with exactly one solution each.

  Takes givens away in random order, each unless that admits a second solution.
  About 10 ms a minimal 9 x 9 board, but some seconds a 16 x 16 one.

  Args:
    rng: the source of randomness.
    count: puzzles.
    box_height: h.
    box_width: w.
    givens: where to stop; a board from which no more can go keeps more. None
      makes each puzzle minimal.

  Returns:
    Puzzles and solutions, int8 [count, N] each.
  """
  box = box_height, box_width
  solutions = _random_solutions(rng, count, box_height, box_width)
  puzzles = solutions.copy()
  order = rng.permuted(np.tile(np.arange(puzzles.shape[1]), (count, 1)), axis=1)
  for cells in order.T:
    boards = np.flatnonzero((puzzles > 0).sum(1) > (givens or 0))
    cells = cells[boards]
    masks = _masks(puzzles[boards], box)
    # Any other solution has another digit in the cell to be emptied.
    masks[cells, np.arange(boards.size)] ^= (1 << math.prod(box)) - 1
    is_free = _search(masks, 1, box)[1] == 0
    puzzles[boards[is_free], cells[is_free]] = 0
  return puzzles, solutions


def add_givens(
  rng: np.random.Generator,
  puzzles: np.ndarray,
  solutions: np.ndarray,
  count: int | np.ndarray,
) -> np.ndarray:
  """Fills `count` (an int, or [B]) random empty cells of puzzles [B, N]."""
  order = np.where(puzzles == 0, rng.random(puzzles.shape), 2).argsort(1)
  rank = order.argsort(1)  # of a cell among the empty ones; givens come last
  chosen = rank < np.reshape(count, (-1, 1))
  return np.where((puzzles == 0) & chosen, solutions, puzzles)


def relabel(solutions: np.ndarray) -> np.ndarray:
  """Renames digits so that the first row of each solution [B, N] is 1..n."""
  side = math.isqrt(solutions.shape[1])
  names = solutions[:, :side].argsort(1) + 1  # digit d becomes names[d - 1]
  return np.take_along_axis(names, solutions - 1, 1).astype(solutions.dtype)


def parse(line: str, num_cells: int, *, box: Box | None = None) -> np.ndarray:
  """Reads a puzzle of `num_cells` characters: int8 [num_cells].

  0 or . is an empty cell; digits over 9 are letters, A = 10 to G = 16.

  Raises:
    UserError: wrong length, unknown characters, or givens that clash.
  """
  line = line.strip()
  box = box_shape(num_cells, box)
  if len(line) != num_cells:
    raise UserError(f'{num_cells} characters expected, {len(line)} found')
  symbols = _SYMBOLS[: math.prod(box)]
  for position, character in enumerate(line, 1):
    if character not in '0.' + symbols:
      raise UserError(
        f'character {character!r} at position {position}: expected one of'
        f' {symbols}, or 0 or . for an empty cell'
      )
  puzzle = np.array([symbols.find(c) + 1 for c in line], np.int8)
  if clash := contradictions(puzzle, box=box):
    raise UserError(f'no solution: {clash}')
  return puzzle


def format_board(board: np.ndarray) -> str:
  """Writes a board [N] as `parse` reads it, 0 for empty cells."""
  return ''.join(('0' + _SYMBOLS)[digit] for digit in board)
