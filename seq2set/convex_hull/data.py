"""Convex hulls in NumPy: points, their hulls by scipy, and a text format.

A hull is the indices of its corners, counter-clockwise, from the lowest index.

In text a set is a line: coordinates, and where they are known `output` and the
hull, which counts from 1 and closes with its first corner:

  0.1 0.2 0.9 0.1 0.5 0.8 0.5 0.3 output 1 2 3 1
"""

import numpy as np
import scipy.spatial

from core.errors import UserError

MAX_POINTS = 500
DISTRIBUTIONS = 'uniform', 'normal'  # in the unit square; around 0


def draw(
  rng: np.random.Generator, count: int, num_points: int, distribution: str
) -> dict[str, np.ndarray]:
  """Draws sets of points and their hulls.

  Returns:
    'points' float32 [count, N, 2]; 'hull' [count, M], M the most corners that a
    hull has, and beyond its own N; 'num_corners' [count]. Indices have the
    smallest unsigned type.
  """
  shape = count, num_points, 2
  if distribution == 'uniform':
    points = rng.random(shape, np.float32)
  else:
    points = rng.standard_normal(shape, np.float32)
  index_type = np.min_scalar_type(num_points)
  hulls = np.full(shape[:2], num_points, index_type)
  num_corners = np.zeros(count, index_type)
  for row, one in enumerate(points):
    corners = hull(one)
    hulls[row, : len(corners)] = corners
    num_corners[row] = len(corners)
  hulls = hulls[:, : num_corners.max()]
  return {'points': points, 'hull': hulls, 'num_corners': num_corners}


def hull(points: np.ndarray) -> np.ndarray:
  """The hull of points [N, 2] that are not all on one line."""
  corners = scipy.spatial.ConvexHull(points).vertices  # counter-clockwise
  return np.roll(corners, -corners.argmin())


def spread(points: np.ndarray, distribution: str) -> np.ndarray:
  """Maps points [N, 2] to where networks are trained, in float32.

  Each axis is scaled by itself: the hull stays the same.
  """
  low, scale = points.min(0), np.ptp(points, 0)
  if distribution == 'normal':
    low, scale = points.mean(0), points.std(0)
  return ((points - low) / scale).astype(np.float32)


def parse(line: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads a line: points, float32 [N, 2], and the hull if it is there.

  Raises:
    UserError: it is no such line; the text says what is wrong.
  """
  before, has_output, after = line.partition('output')
  numbers = [_number(word) for word in before.split()]
  if len(numbers) % 2 or not 6 <= len(numbers) <= 2 * MAX_POINTS:
    raise UserError(
      f'{len(numbers)} numbers; x and y of 3 to {MAX_POINTS} points expected'
    )
  points = np.array(numbers, np.float32).reshape(-1, 2)
  if np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2:
    raise UserError('the points are all on one line: there is no hull')
  if not has_output:
    return points, None
  words = after.split()
  known = {str(1 + index) for index in range(len(points))}
  if len(words) < 4 or words[0] != words[-1] or not set(words) <= known:
    raise UserError(
      f'output {after.strip()[:40]!r}: indices of points from 1 expected, the'
      ' first one again at the end'
    )
  corners = np.array([int(word) - 1 for word in words[:-1]])
  return points, np.roll(corners, -corners.argmin())


def format_hull(corners: np.ndarray) -> str:
  """A hull as in the text format: from 1, closed."""
  return ' '.join(str(1 + index) for index in (*corners, *corners[:1]))


def _number(word: str) -> float:
  try:
    number = float(word)
  except ValueError:
    raise UserError(f'{word[:40]!r} is no number') from None
  if not abs(number) < 1e6:
    raise UserError(f'{word[:40]!r} is too large, or not finite')
  return number
