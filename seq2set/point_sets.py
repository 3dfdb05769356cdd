"""Sets of points in the plane, in NumPy: sampled, or parsed from text.

One line of text is one set: its coordinates and, if the answer is known, the
word `output` and point indices that start at 1. This is the format of Pointer
Networks (Vinyals, Fortunato, Jaitly 2015). The experiment defines the meaning
of the indices. In this example they are the corners of the convex hull:

  0.1 0.2 0.9 0.1 0.5 0.8 0.5 0.3 output 1 2 3 1
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from core.answers import has_content
from core.errors import UserError
from core.io import data_files
from seq2set import padding

MAX_POINTS = 500
DISTRIBUTIONS = 'uniform', 'normal'  # in the unit square; standard normal
INPUTS = 'random', 'angle'  # order of the points; 'angle': around their mean

_MAX_COORDINATE = 1e100  # larger values overflow when they are squared
_MIN_DEVIATION = 1e-12  # from a line, relative to the extent of the set
_MAX_NORMAL = 6  # larger coordinates of normal samples are improbable
_MIN_EXTENT = 0.1  # smallest extent of a file that needs no rescaling


def draw(
  rng: np.random.Generator, count: int, num_points: int, distribution: str
) -> np.ndarray:
  """Sample sets of points from one of `DISTRIBUTIONS`.

  Returns:
    float32 [count, N, 2].
  """
  shape = count, num_points, 2
  if distribution == 'uniform':
    return rng.random(shape, np.float32)
  return rng.standard_normal(shape, np.float32)


def input_order(points: np.ndarray, inputs: str) -> np.ndarray:
  """Return the order in which the network reads points.

  Args:
    points: [..., N, 2].
    inputs: one of `INPUTS`.

  Returns:
    Point indices [..., N].
  """
  if inputs == 'random':
    return np.broadcast_to(np.arange(points.shape[-2]), points.shape[:-1])
  x, y = np.moveaxis(points - points.mean(-2, keepdims=True), -1, 0)
  return np.argsort(np.arctan2(y, x))


def rescale(
  points: np.ndarray, distribution: str, *, keep_angles: bool
) -> np.ndarray:
  """Rescale a set to the range of the training sets.

  Args:
    points: float64 [N, 2], in any unit and at any position.
    distribution: one of `DISTRIBUTIONS`.
    keep_angles: scale both axes by the same factor.

  Returns:
    float32 [N, 2].
  """
  if distribution == 'uniform':
    middle, scale = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0)
    center = 0.5
  else:
    middle, scale, center = points.mean(0), points.std(0), 0.0
  if keep_angles:
    scale = scale.max()
  return ((points - middle) / scale + center).astype(np.float32)


def pad_answers(answers: Sequence[np.ndarray], num_points: int) -> np.ndarray:
  """Stack answers, padded with N, in the smallest unsigned integer type."""
  return padding.stack(answers, num_points, np.min_scalar_type(num_points))


def parse(
  line: str, *, allow_collinear: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
  """Parse one line.

  Args:
    line: in the format of this module.
    allow_collinear: accept points on one line, unless all are the same.

  Returns:
    The points, float64 [N, 2], and the indices of the answer from 0, or None if
    the line carries no answer.

  Raises:
    UserError: the line is malformed, or its points have no answer.
  """
  before, has_output, after = line.partition('output')
  numbers = [_parse_number(word) for word in before.split()]
  if len(numbers) % 2 or not 6 <= len(numbers) <= 2 * MAX_POINTS:
    raise UserError(
      f'{len(numbers)} numbers; expected x and y of 3 to {MAX_POINTS} points'
    )
  points = np.array(numbers).reshape(-1, 2)
  if allow_collinear and (points == points[0]).all():
    raise UserError(
      f'all {len(points)} points are the same; expected different points'
    )
  if not allow_collinear and is_collinear(points):
    raise UserError(
      f'all {len(points)} points lie on one line; expected at least 3 corners'
    )
  if not has_output:
    return points, None
  known = {str(1 + index): index for index in range(len(points))}
  words = after.split()
  if not words or not known.keys() >= set(words):
    raise UserError(
      f'output {after.strip()[:40]!r}: expected indices from 1 to {len(points)}'
    )
  return points, np.array([known[word] for word in words])


def is_collinear(points: np.ndarray) -> bool:
  """Return whether points [N, 2] lie on one line.

  The tolerance is relative to the extent of the set, but at least the rounding
  error of the coordinates. The result depends neither on the unit nor on the
  position.
  """
  offsets = points - points[0]
  extent = np.abs(offsets).max()
  if extent == 0:
    return True
  rounding = 8 * np.finfo(float).eps * np.abs(points).max() / extent
  deviation = np.linalg.svd(offsets / extent, compute_uv=False)[1]
  return bool(deviation <= max(_MIN_DEVIATION, rounding))


def format_answer(indices: Iterable[int]) -> str:
  """Format point indices in the text format, where they start at 1."""
  return ' '.join(str(1 + index) for index in indices)


def load(
  path: str,
  read_answer: Callable[[np.ndarray, int], np.ndarray],
  inputs: str,
  *,
  distribution: str,
  keep_angles: bool,
  allow_collinear: bool = False,
) -> dict[str, np.ndarray]:
  """Load a file of sets with answers.

  If any set of the file lies outside the range of the training sets, or the
  largest set has an extent below 0.1, all sets are rescaled.

  Args:
    path: the file; blank lines and comments are skipped.
    read_answer: converts the indices of a line and the number of its points to
      an answer, which is an array of point indices of any shape. It may raise
      UserError.
    inputs: one of `INPUTS`.
    distribution: one of `DISTRIBUTIONS`.
    keep_angles: see `rescale`.
    allow_collinear: see `parse`.

  Returns:
    'points' float32 [n, N, 2], where N is the size of the largest set; 'mask'
    [n, N], False for padding; 'answer' [n, ...], padded with N.

  Raises:
    UserError: the file cannot be read, has no set, or has a bad line. The
      message gives the number of the line.
  """
  sets, answers = _read_sets(path, read_answer, allow_collinear)
  if not _are_in_range(sets, distribution):
    sets = [rescale(x, distribution, keep_angles=keep_angles) for x in sets]
  for row, points in enumerate(sets):
    order = input_order(points, inputs)
    sets[row] = points[order]
    answers[row] = np.argsort(order)[answers[row]]
  sizes = np.array([len(points) for points in sets])
  return {
    'points': padding.stack(sets, 0, np.float32),
    'mask': np.arange(sizes.max()) < sizes[:, None],
    'answer': pad_answers(answers, sizes.max()),
  }


def _read_sets(
  path, read_answer, allow_collinear
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Read the points and the answer of each line."""
  try:
    lines = data_files.read_lines(path)
  except UserError as error:
    raise UserError(f'config.evals.source={path!r}: {error}') from error
  sets, answers = [], []
  for number, line in enumerate(lines, start=1):
    if not has_content(line):
      continue
    try:
      points, indices = parse(line, allow_collinear=allow_collinear)
      if indices is None:
        raise UserError("the points are not followed by 'output' and an answer")
      answers.append(read_answer(indices, len(points)))
    except UserError as error:
      raise UserError(f'{path}, line {number}: {error}') from error
    sets.append(points)
  if not sets:
    raise UserError(f'{path} has no sets; expected one set per line')
  return sets, answers


def _are_in_range(sets: Sequence[np.ndarray], distribution: str) -> bool:
  """Return whether all sets lie in the training range, and one is not tiny."""
  low, high = -_MAX_NORMAL, _MAX_NORMAL
  if distribution == 'uniform':
    low, high = 0, 1
  stacked = np.concatenate(sets)
  is_inside = stacked.min() >= low and stacked.max() <= high
  extent = max(np.ptp(points, axis=0).max() for points in sets)
  return bool(is_inside and extent >= _MIN_EXTENT)


def _parse_number(word: str) -> float:
  try:
    number = float(word)
  except ValueError:
    raise UserError(
      f'{word[:40]!r} is not a number; expected coordinates such as 0.1 0.2'
    ) from None
  if not abs(number) < _MAX_COORDINATE:
    raise UserError(
      f'{word[:40]!r} is too large or not finite; expected an absolute value'
      f' below {_MAX_COORDINATE:g}'
    )
  return number
