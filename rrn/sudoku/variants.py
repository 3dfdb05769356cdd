"""Sudoku under further rules: more units, or other regions than boxes.

standard  Rows, columns and boxes, on boards of up to 25 x 25.
diagonal  Both main diagonals are units.
windoku   Four windows of 3 x 3 cells are units; 9 x 9 boards only.
jigsaw    Connected regions of n cells, called A, B, C, ..., replace the boxes.
"""

import math
import string

import numpy as np
from scipy import ndimage

from core.errors import UserError, check_choice
from rrn.sudoku import data

VARIANTS = 'standard', 'diagonal', 'windoku', 'jigsaw'

_RANDOM_FILL_SIDE = 16  # random guesses fill empty boards up to this side
_PUZZLES_PER_REGIONS = 64  # at most
_REGION_SWAPS = 1000  # proposals
_FILL_PASSES = 500  # then new regions are drawn: some have no solution


def units_of(variant: str, box: data.Box) -> np.ndarray:
  """Return the units of a board: int [U, n].

  Args:
    variant: 'standard', 'diagonal', 'windoku', or the regions of a jigsaw; see
      `jigsaw_units`.
    box: height and width of the boxes.

  Raises:
    UserError: no such variant of a board of this size.
  """
  if variant == 'standard':
    return data.units(*box)
  if variant == 'diagonal':
    return diagonal_units(*box)
  if variant == 'windoku' and box == (3, 3):
    return windoku_units()
  num_cells = math.prod(box) ** 2
  if len(variant) != num_cells:
    raise UserError(
      f'config.evals.variant={variant}: standard, diagonal, windoku (9x9 boards'
      f' only), or the {num_cells} letters of the regions of a jigsaw expected'
    )
  return jigsaw_units(variant)


def diagonal_units(box_height: int, box_width: int) -> np.ndarray:
  """Return `data.units` and both diagonals: int [3n + 2, n]."""
  side = box_height * box_width
  falling = np.arange(side) * (side + 1)
  rising = np.arange(1, side + 1) * (side - 1)
  return np.vstack([data.units(box_height, box_width), falling, rising])


def windoku_units() -> np.ndarray:
  """Return the units of 9 x 9 boards and four windows: int [31, 9]."""
  cells = np.arange(81).reshape(9, 9)
  windows = [cells[r : r + 3, c : c + 3] for r in (1, 5) for c in (1, 5)]
  return np.vstack([data.units(3, 3), np.reshape(windows, (4, 9))])


def jigsaw_units(regions: str) -> np.ndarray:
  """Return rows, columns, and the regions that N letters name: int [3n, n].

  Raises:
    UserError: not n * n letters, n of each.
  """
  side = math.isqrt(len(regions))
  letters, counts = np.unique(list(regions), return_counts=True)
  if side**2 != len(regions) or letters.size != side or (counts != side).any():
    raise UserError(
      'the regions of a jigsaw board are n * n letters, n different ones, each'
      f' n times; {len(regions)} characters given:'
      + ', '.join(f' {c} x {a}' for a, c in zip(letters, counts, strict=True))
    )
  cells = np.argsort(list(regions), kind='stable').reshape(side, side)
  return np.vstack([data.units(1, side)[: 2 * side], cells])


def random_regions(rng: np.random.Generator, side: int) -> str:
  """Draw connected regions for `jigsaw_units`: one letter per cell.

  Starts with rows as regions. A random cell joins the region of a neighbor,
  which gives a cell in return, if both regions stay connected.
  """
  region = np.arange(side).repeat(side).reshape(side, side)
  steps = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
  for _ in range(_REGION_SWAPS):
    cell = rng.integers(side, size=2)
    neighbor = (cell + steps[rng.integers(4)]).clip(0, side - 1)
    ours, theirs = region[tuple(cell)], region[tuple(neighbor)]
    touching = ndimage.binary_dilation(region == ours) & (region == theirs)
    new = region.copy()
    new[tuple(rng.choice(np.argwhere(touching)))] = ours
    new[tuple(cell)] = theirs
    if all(ndimage.label(new == name)[1] == 1 for name in (ours, theirs)):
      region = new
  return ''.join(string.ascii_uppercase[name] for name in region.flat)


def generate(
  rng: np.random.Generator,
  count: int,
  *,
  box: data.Box = (3, 3),
  variant: str = 'standard',
  givens: int | None = None,
) -> dict[str, np.ndarray]:
  """Make puzzles of one of `VARIANTS`, with exactly one solution each.

  Args:
    rng: the source of randomness.
    count: number of puzzles.
    box: height and width; of jigsaw boards only the side counts.
    variant: of the rules.
    givens: number of givens at which to stop; None makes minimal puzzles.

  Returns:
    'puzzle' and 'solution', int8 [count, N]. Jigsaw puzzles also have
    'regions', int8 [count, N], 0 for A; a few neighboring puzzles share them.

  Raises:
    UserError: unknown variant, or a board that the variant does not have.
  """
  side = math.prod(box)
  check_choice('variant', variant, VARIANTS)
  if variant == 'windoku' and box != (3, 3):
    raise UserError('windoku puzzles have boxes of 3 x 3')
  if variant != 'standard' and side > _RANDOM_FILL_SIDE:
    raise UserError(
      f'{variant} puzzles have sides up to {_RANDOM_FILL_SIDE}; {side} given'
    )
  if variant == 'jigsaw':
    return _generate_jigsaw(rng, count, side, givens)
  if side > _RANDOM_FILL_SIDE:
    solutions = _shuffled_patterns(rng, count, box)
    units = data.units(*box)
    puzzles = data.minimize(rng, solutions, solutions, givens, units=units)
  else:
    units = {'diagonal': diagonal_units(*box), 'windoku': windoku_units()}
    puzzles, solutions = data.generate(
      rng, count, *box, givens, units=units.get(variant)
    )
  return {'puzzle': puzzles, 'solution': solutions}


def _generate_jigsaw(
  rng: np.random.Generator, count: int, side: int, givens: int | None
) -> dict[str, np.ndarray]:
  columns = {'puzzle': [], 'solution': [], 'regions': []}
  empty = np.zeros((_PUZZLES_PER_REGIONS, side**2), np.int8)
  total = 0
  while total < count:
    regions = random_regions(rng, side)
    units = jigsaw_units(regions)
    masks = data.candidates(empty)
    solutions = data.fill(rng, masks, units, max_passes=_FILL_PASSES)
    solutions = solutions[solutions.all(1)]
    labels = np.array([ord(name) - ord('A') for name in regions], np.int8)
    columns['regions'].append(np.tile(labels, (len(solutions), 1)))
    columns['solution'].append(solutions)
    columns['puzzle'].append(
      data.minimize(rng, solutions, solutions, givens, units=units)
    )
    total += len(solutions)
  return {name: np.concatenate(c)[:count] for name, c in columns.items()}


def _shuffled_patterns(
  rng: np.random.Generator, count: int, box: data.Box
) -> np.ndarray:
  """Make solutions of big boards, which random guesses rarely complete.

  Starts from a cyclic pattern with random names of the digits. Then it empties
  the cells of two or three digits, 8 n times, and fills them at random. That
  makes about as many 2 x 2 Latin squares as random solutions have; the pattern
  of odd side has none.

  Returns:
    int8 [count, N].
  """
  height, width = box
  side = height * width
  row, column = np.divmod(np.arange(side**2), side)
  pattern = (row % height * width + row // height + column) % side
  names = np.tile(np.arange(1, side + 1, dtype=np.int8), (count, 1))
  solutions = rng.permuted(names, axis=1)[:, pattern]
  for _ in range(8 * side):
    digits = rng.choice(side, rng.integers(2, 4), replace=False) + 1
    puzzles = np.where(np.isin(solutions, digits), 0, solutions)
    masks = data.candidates(puzzles)
    filled = data.fill(rng, masks, data.units(*box), max_passes=50)
    solutions = np.where(filled.all(1, keepdims=True), filled, solutions)
  return solutions
