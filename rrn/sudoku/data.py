"""The rules of Sudoku, an exact solver, and a generator, with NumPy.

A board of side n is an int8 row of N = n * n cells in reading order. Digits are
1 to n, and 0 is an empty cell. A batch of boards is [B, N].

A unit is a set of n cells in which every digit occurs exactly once. `units`,
int [U, n], lists the rows, the columns, the n regions, and any further units;
`variants` has the units of other rules. If `units` is None, the regions are
boxes of h x w cells, with n = h w and `box` = (h, w). Without a `box`,
boxes have the squarest shape with h <= w, such as 2 x 3 on a 6 x 6 board.

The solver processes a whole batch at once: bit d of the mask of a cell tells
whether digit d + 1 is still possible there. Boards are on the *last* axis, so
that each NumPy call works on long contiguous memory.
"""

import itertools
import math

import numpy as np

from core.errors import UserError

Box = tuple[int, int]

_CELLS_PER_PASS = 1 << 15  # their masks fit in a core's cache


def box_shape(num_cells: int, box: Box | None = None) -> Box:
  """Return the (height, width) of the boxes of a board of `num_cells` cells.

  Raises:
    UserError: there is no such board, or the boxes do not fit on it.
  """
  side = math.isqrt(num_cells)
  if side**2 != num_cells or not 1 < side < 26:
    raise UserError(
      f'a board of {num_cells} cells; expected n * n cells, with n from 2 to 25'
    )
  if box is None:
    height = max(h for h in range(1, side) if side % h == 0 and h * h <= side)
    return height, side // height
  if box[0] * box[1] != side:
    raise UserError(
      f'boxes of {box[0]} x {box[1]} cells do not fit on a board of side'
      f' {side}; height times width must be the side'
    )
  return box


def units(box_height: int, box_width: int) -> np.ndarray:
  """Return the cells of all rows, then columns, then boxes: int [3n, n]."""
  side = box_height * box_width
  rows = np.arange(side**2).reshape(side, side)
  boxes = rows.reshape(box_width, box_height, box_height, box_width)
  boxes = boxes.swapaxes(1, 2).reshape(side, side)
  return np.concatenate([rows, rows.T, boxes])


def _resolve_units(
  num_cells: int, box: Box | None, given: np.ndarray | None
) -> np.ndarray:
  """Return the given units, or if there are none, those of the boxes."""
  return units(*box_shape(num_cells, box)) if given is None else given


def neighbors(box_height: int, box_width: int) -> np.ndarray:
  """Return the cells that share a unit with each cell, sorted: int32 [N, K]."""
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
  units: np.ndarray | None = None,
) -> np.ndarray:
  """Return which boards [B, N] obey the rules and keep the givens: bool [B].

  The boards may hold any integers. `puzzles` [B, N] has the givens; with None,
  only the rules are checked.
  """
  units = _resolve_units(boards.shape[-1], box, units)
  values = np.sort(boards[..., units], axis=-1)  # [B, U, n]
  valid = (values == np.arange(1, units.shape[1] + 1)).all((-2, -1))
  if puzzles is not None:
    valid &= ((puzzles == 0) | (puzzles == boards)).all(-1)
  return valid


def find_contradiction(
  puzzle: np.ndarray,
  *,
  box: Box | None = None,
  units: np.ndarray | None = None,
  text: str = '',  # the puzzle as the input writes it, if not in numbers
) -> str | None:
  """Describe two givens of a puzzle [N] that contradict each other, or None."""
  regions = 'box' if units is None else 'region'
  units = _resolve_units(puzzle.size, box, units)
  side = units.shape[1]
  for index, unit in enumerate(units):
    for digit in range(1, side + 1):
      clash = unit[puzzle[unit] == digit]
      if clash.size > 1:
        group = min(index // side, 3)
        kind = ('row', 'column', regions, 'extra unit')[group]
        symbol = text[clash[0]] if text else digit
        first, second = (f'r{c // side + 1}c{c % side + 1}' for c in clash[:2])
        return (
          f'digit {symbol} twice in {kind} {index - group * side + 1}'
          f' (cells {first} and {second})'
        )
  return None


def solve(
  puzzles: np.ndarray,
  *,
  limit: int = 2,
  box: Box | None = None,
  units: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Solve puzzles exactly.

  Args:
    puzzles: [B, N]; 0 is an empty cell.
    limit: number of solutions after which the search for a puzzle stops.
    box, units: see the module docstring.

  Returns:
    One solution of each puzzle, int8 [B, N], zeros if there is none; and the
    number of solutions, int [B], at most `limit`.
  """
  units = _resolve_units(puzzles.shape[-1], box, units)
  found, owners, _ = search(candidates(puzzles), limit, units)
  solutions = np.zeros(puzzles.shape, np.int8)
  solutions[owners] = found
  return solutions, np.bincount(owners, minlength=len(puzzles)).clip(max=limit)


def candidates(puzzles: np.ndarray) -> np.ndarray:
  """Return the bit masks of puzzles [B, N]: uint16 or uint32 [N, B]."""
  side = math.isqrt(puzzles.shape[1])
  table = [(1 << side) - 1, *(1 << digit for digit in range(side))]
  dtype = np.uint16 if side <= 16 else np.uint32
  return np.array(table, dtype).take(puzzles.T)


def _boards(masks: np.ndarray) -> np.ndarray:
  """Return the digits [B, N] of masks [N, B] with one bit each."""
  return (np.bitwise_count(masks - 1) + 1).T.astype(np.int8)


def search(
  masks: np.ndarray, limit: int, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Enumerate the solutions of boards.

  Args:
    masks: candidates [N, B]; see `candidates`.
    limit: number of solutions after which the search for a board stops. The
      last pass may find a few more.
    units: [U, n].

  Returns:
    Solutions, int8 [S, N]; the index of the board of each solution, int [S];
    and the number of guesses for each board, int [B].
  """
  num_cells, num_boards = masks.shape
  tables = _tables(units)
  width = max(64, _CELLS_PER_PASS // num_cells)
  waiting, owners, started = masks[:, :0], np.arange(0), 0
  solutions, solved_owners = [np.zeros((0, num_cells), np.int8)], [owners]
  counts, guesses = np.zeros((2, num_boards), np.int64)
  while owners.size or started < num_boards:
    # The newest boards come first, as in a depth-first search, so that memory
    # stays small even if the puzzles have few givens.
    end = min(num_boards, started + max(0, width - owners.size))
    waiting = np.concatenate([waiting, masks[:, started:end]], axis=1)
    owners = np.concatenate([owners, np.arange(started, end)])
    started = end
    cut = max(0, owners.size - width)
    old, owner = waiting[:, cut:], owners[cut:]
    new, alive, solved = _narrow(old, tables)
    is_open = alive & ~solved
    stuck = is_open & (new == old).all(0)
    solutions.append(_boards(new[:, solved]))
    solved_owners.append(owner[solved])
    np.add.at(counts, owner[solved], 1)
    np.add.at(guesses, owner[stuck], 1)
    branches, parent = _branch(new[:, stuck])
    moving = is_open & ~stuck
    branch_owners = owner[stuck][parent]
    owners = np.concatenate([owners[:cut], owner[moving], branch_owners])
    waiting = np.concatenate([waiting[:, :cut], new[:, moving], branches], 1)
    if solved.any():
      unfinished = counts[owners] < limit
      waiting, owners = waiting[:, unfinished], owners[unfinished]
  return np.concatenate(solutions), np.concatenate(solved_owners), guesses


def _tables(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Return the cells of each unit, [n, U], and the units of each cell, [K, N].

  A cell in fewer than K units repeats one of them.
  """
  contains = np.zeros((len(units), units.max() + 1), bool)
  np.put_along_axis(contains, units, True, axis=1)
  count = contains.sum(0)
  order = (~contains).argsort(0, kind='stable')[: count.max()]
  order = np.where(np.arange(len(order))[:, None] < count, order, order[0])
  return np.ascontiguousarray(units.T), order


def _where_zero(test: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Return the values where `test` is 0, else 0; np.where is far slower."""
  return values & (np.minimum(test, 1) - 1)


def _narrow(
  masks: np.ndarray, tables: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Remove candidates [N, B] once, by naked and hidden singles.

  Returns:
    The new masks, [N, B]; whether no contradiction was found, bool [B]; and
    whether the given masks are a solution, bool [B].
  """
  # take() is several times faster than indexing with an array.
  unit_cells, cell_units = tables
  single = _where_zero(masks & (masks - 1), masks)
  taken = np.bitwise_or.reduce(single.take(unit_cells, 0), 0)  # [U, B]
  taken = np.bitwise_or.reduce(taken.take(cell_units, 0), 0)  # [N, B]
  masks = single | (masks & ~taken)
  alive = masks.all(0)
  seen = np.zeros((unit_cells.shape[1], masks.shape[1]), masks.dtype)
  twice = seen.copy()  # digits with several places in a unit [U, B]
  for cells in unit_cells:
    cell_masks = masks.take(cells, 0)
    twice |= seen & cell_masks
    seen |= cell_masks
  alive &= (seen == (1 << len(unit_cells)) - 1).all(0)
  twice = twice.take(cell_units, 0)  # [K, N, B]
  # Digits with no other place in some unit of the cell.
  only = masks & ~np.bitwise_and.reduce(twice, 0)
  clash = single & np.bitwise_or.reduce(twice, 0) | only & (only - 1)
  alive &= ~clash.any(0)
  solved = alive & single.all(0)
  return only | _where_zero(only, masks), alive, solved


def propagate(
  masks: np.ndarray, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Remove candidates by naked and hidden singles until nothing changes.

  Args:
    masks: candidates [N, B]; see `candidates`.
    units: [U, n].

  Returns:
    The new masks [N, B], and whether no contradiction was found, bool [B].
  """
  masks, tables = masks.copy(), _tables(units)
  alive = np.ones(masks.shape[1], bool)
  active = np.arange(masks.shape[1])
  while active.size:
    old = masks[:, active]
    new, alive[active], solved = _narrow(old, tables)
    masks[:, active] = new
    active = active[alive[active] & ~solved & (new != old).any(0)]
  return masks, alive


def _branch(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Try each candidate of one cell of each board [N, B].

  The cell is the first one with the fewest candidates, but at least two.

  Returns:
    One board per candidate, [N, C], and the index of its parent, int [C].
  """
  bits = np.bitwise_count(masks)
  cells = np.where(bits > 1, bits, 99).argmin(0)
  options = masks[cells, np.arange(cells.size)]
  parents, digits = np.nonzero(options[:, None] >> np.arange(32) & 1)
  branches = masks.take(parents, 1)
  branches[cells[parents], np.arange(parents.size)] = 1 << digits
  return branches, parents


def fill(
  rng: np.random.Generator,
  masks: np.ndarray,
  units: np.ndarray,
  max_passes: int | None = None,
) -> np.ndarray:
  """Complete boards of candidates [N, B] with random guesses.

  A board with a contradiction starts again, which happens to about 3 % of empty
  9 x 9 boards. Without `max_passes`, a board without a solution would start
  again forever.

  Returns:
    int8 [B, N]; zeros for a board that is not complete after `max_passes`.
  """
  tables = _tables(units)
  boards = np.zeros(masks.T.shape, np.int8)
  start, owners = masks, np.arange(masks.shape[1])
  for passes in itertools.count():
    if not owners.size or passes == max_passes:
      break
    new, alive, solved = _narrow(masks, tables)
    boards[owners[solved]] = _boards(new[:, solved])
    stuck = np.flatnonzero(alive & ~solved & (new == masks).all(0))
    branches, parents = _branch(new[:, stuck])
    order = rng.permutation(parents.size)
    guess = order[np.unique(parents[order], return_index=True)[1]]
    new[:, stuck] = branches[:, guess]
    new[:, ~alive] = start[:, owners[~alive]]
    masks, owners = new[:, ~solved], owners[~solved]
  return boards


def generate(
  rng: np.random.Generator,
  count: int,
  box_height: int,
  box_width: int,
  givens: int | None = None,
  *,
  units: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Generate puzzles with exactly one solution each.

  A minimal 9 x 9 puzzle takes about 3 ms. Random guesses can fill boards up to
  16 x 16; use `variants.generate` for larger boards.

  Returns:
    Puzzles and solutions, int8 [count, N] each. See `minimize` for `givens`.
  """
  box = box_height, box_width
  units = _resolve_units(math.prod(box) ** 2, box, units)
  empty = np.zeros((count, units.max() + 1), np.int8)
  solutions = fill(rng, candidates(empty), units)
  return minimize(rng, solutions, givens, units=units), solutions


def minimize(
  rng: np.random.Generator,
  puzzles: np.ndarray,
  givens: int | None = None,
  *,
  units: np.ndarray | None = None,
) -> np.ndarray:
  """Remove givens in random order while the solution stays unique.

  Each of the puzzles [B, N] must have exactly one solution; the result is a
  copy. Removal stops at `givens` givens; None makes each puzzle minimal.
  """
  puzzles = puzzles.copy()
  units = _resolve_units(puzzles.shape[1], None, units)
  order = np.where(puzzles > 0, rng.random(puzzles.shape), 2).argsort(1)
  for cells in order[:, : (puzzles > 0).sum(1).max(initial=0)].T:
    boards = np.flatnonzero((puzzles > 0).sum(1) > (givens or 0))
    boards = boards[puzzles[boards, cells[boards]] > 0]
    masks = candidates(puzzles[boards])
    # Any other solution has a different digit in the cell to be emptied.
    masks[cells[boards], np.arange(boards.size)] ^= (1 << units.shape[1]) - 1
    owners = search(masks, 1, units)[1]
    boards = np.delete(boards, np.unique(owners))
    puzzles[boards, cells[boards]] = 0
  return puzzles


def add_givens(
  rng: np.random.Generator,
  puzzles: np.ndarray,
  solutions: np.ndarray,
  count: int | np.ndarray,
) -> np.ndarray:
  """Fill `count` (an int, or [B]) random empty cells of puzzles [B, N]."""
  order = np.where(puzzles == 0, rng.random(puzzles.shape), 2).argsort(1)
  rank = order.argsort(1)  # empty cells in random order, then the givens
  chosen = rank < np.reshape(count, (-1, 1))
  return np.where((puzzles == 0) & chosen, solutions, puzzles)


def relabel(solutions: np.ndarray) -> np.ndarray:
  """Rename digits so that the first row of each solution [B, N] is 1 to n."""
  side = math.isqrt(solutions.shape[1])
  names = solutions[:, :side].argsort(1) + 1  # digit d becomes names[d - 1]
  return np.take_along_axis(names, solutions - 1, 1).astype(solutions.dtype)
