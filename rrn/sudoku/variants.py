"""Sudoku with other rules: more units, or other regions than boxes.

Variants:
  standard: rows, columns, and boxes, on boards up to 25 x 25.
  diagonal: both main diagonals are also units.
  windoku: four windows of 3 x 3 cells are also units; only on 9 x 9 boards.
  jigsaw: connected regions of n cells, named A, B, C, ..., replace the boxes.

Axes: N cells, n cells of a unit, U units.
"""

import math
import string

import numpy as np
from etils import epy

from core.errors import UserError
from rrn.sudoku import data

with epy.lazy_imports():  # SciPy is slow to import
  from scipy import ndimage

VARIANTS = 'standard', 'diagonal', 'windoku', 'jigsaw'

_RANDOM_FILL_SIDE = 16  # random guesses fill empty boards up to this side
_PUZZLES_PER_REGIONS = 64  # largest number of puzzles with the same regions
_REGION_SWAPS = 1000  # proposals
_FILL_PASSES = 500  # then new regions are drawn, as some have no solution


def units_of(variant: str, box: data.Box) -> np.ndarray:
  """Return the units of a board: int [U, n].

  Args:
    variant: 'standard', 'diagonal', 'windoku', or the regions of a jigsaw; see
      `jigsaw_units`.
    box: height and width of the boxes.

  Raises:
    UserError: boards of this size have no such variant.
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
      f'config.evals.variant={variant}: expected standard, diagonal, windoku'
      f' (only 9x9 boards), or {num_cells} letters for the regions of a jigsaw'
    )
  return jigsaw_units(variant)


def diagonal_units(box_height: int, box_width: int) -> np.ndarray:
  """Return rows, columns, boxes, and both diagonals: int [3n + 2, n]."""
  side = box_height * box_width
  falling = np.arange(side) * (side + 1)
  rising = np.arange(1, side + 1) * (side - 1)
  return np.vstack([data.units(box_height, box_width), falling, rising])


def windoku_units() -> np.ndarray:
  """Return rows, columns, boxes, and four windows: int [31, 9]."""
  cells = np.arange(81).reshape(9, 9)
  windows = [cells[r : r + 3, c : c + 3] for r in (1, 5) for c in (1, 5)]
  return np.vstack([data.units(3, 3), np.reshape(windows, (4, 9))])


def jigsaw_units(regions: str) -> np.ndarray:
  """Return rows, columns, and regions: int [3n, n].

  Args:
    regions: the letter of each cell's region, in reading order.

  Raises:
    UserError: there are not n letters that occur n times each.
  """
  side = math.isqrt(len(regions))
  letters, counts = np.unique(list(regions), return_counts=True)
  if side**2 != len(regions) or letters.size != side or (counts != side).any():
    raise UserError(
      'invalid regions of a jigsaw board: expected n different letters, n times'
      ' each, but found'
      + ', '.join(f' {c} x {a}' for a, c in zip(letters, counts, strict=True))
    )
  cells = np.argsort(list(regions), kind='stable').reshape(side, side)
  return np.vstack([data.units(1, side)[: 2 * side], cells])


def random_regions(rng: np.random.Generator, side: int) -> str:
  """Draw connected regions for `jigsaw_units`: one letter per cell.

  At first, the regions are the rows. Then a random cell and a cell of a
  neighboring region are exchanged repeatedly, if both regions stay connected.
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
  """Generate puzzles with exactly one solution each.

  Args:
    rng: random generator.
    count: number of puzzles.
    box: height and width of the boxes; jigsaw boards use only their product.
    variant: one of `VARIANTS`, or the regions of a jigsaw board.
    givens: number of givens at which to stop removing them. None makes minimal
      puzzles.

  Returns:
    'puzzle' and 'solution', int8 [count, N]. 'jigsaw' also has 'regions', int8
    [count, N], where 0 is region A; consecutive puzzles may share them.

  Raises:
    UserError: the variant is unknown, has no boards of this size, or no
      complete board with its regions is found.
  """
  side = math.prod(box)
  if variant not in VARIANTS:
    units_of(variant, box)  # validates the regions of a jigsaw
  if variant == 'windoku' and box != (3, 3):
    raise UserError(
      f'windoku puzzles with boxes of {box[0]} x {box[1]}; expected 3 x 3'
    )
  if variant != 'standard' and side > _RANDOM_FILL_SIDE:
    raise UserError(
      f'{variant} puzzles of side {side}; expected at most {_RANDOM_FILL_SIDE}'
    )
  if variant == 'jigsaw':
    return _generate_jigsaw(rng, count, side, givens)
  if variant not in VARIANTS:
    columns = _generate_jigsaw(rng, count, side, givens, variant)
    return {name: columns[name] for name in ('puzzle', 'solution')}
  if side > _RANDOM_FILL_SIDE:
    solutions = _shuffled_patterns(rng, count, box)
    units = data.units(*box)
    puzzles = data.minimize(rng, solutions, givens, units=units)
  else:
    units = {'diagonal': diagonal_units(*box), 'windoku': windoku_units()}
    puzzles, solutions = data.generate(
      rng, count, *box, givens, units=units.get(variant)
    )
  return {'puzzle': puzzles, 'solution': solutions}


def _generate_jigsaw(
  rng: np.random.Generator,
  count: int,
  side: int,
  givens: int | None,
  layout: str = '',
) -> dict[str, np.ndarray]:
  columns = {'puzzle': [], 'solution': [], 'regions': []}
  empty = np.zeros((_PUZZLES_PER_REGIONS, side**2), np.int8)
  total = 0
  while total < count:
    regions = layout or random_regions(rng, side)
    units = jigsaw_units(regions)
    masks = data.candidates(empty)
    solutions = data.fill(rng, masks, units, max_passes=_FILL_PASSES)
    solutions = solutions[solutions.all(1)]
    if layout and not len(solutions):
      raise UserError(
        f'jigsaw regions {layout}: found no complete board; use other regions'
      )
    labels = np.array([ord(name) - ord('A') for name in regions], np.int8)
    columns['regions'].append(np.tile(labels, (len(solutions), 1)))
    columns['solution'].append(solutions)
    columns['puzzle'].append(data.minimize(rng, solutions, givens, units=units))
    total += len(solutions)
  return {name: np.concatenate(c)[:count] for name, c in columns.items()}


def _shuffled_patterns(
  rng: np.random.Generator, count: int, box: data.Box
) -> np.ndarray:
  """Generate solutions of large boards, which random guesses rarely complete.

  Start from a cyclic pattern with randomly named digits. Then, 8 n times, empty
  the cells of two or three digits and fill them at random. The result has about
  as many 2 x 2 Latin squares as random solutions; the pattern itself has none
  if its side is odd.

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
