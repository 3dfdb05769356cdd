"""Delaunay triangulations in NumPy and SciPy.

A triangulation is a list of triangles, each a row of three increasing indices.
The triangles are sorted by the x coordinate of their incenters, and by y if the
x coordinates are equal (Vinyals, Fortunato, Jaitly 2015). In text, a
triangulation is the concatenation of its triangles.
"""

import numpy as np
import scipy.spatial

from core.errors import UserError

_AREA_TOLERANCE = 1e-6  # relative to the area of the convex hull
_CIRCLE_TOLERANCE = 1e-9  # smallest tolerance of the determinant, at extent 1


def triangulate(points: np.ndarray) -> np.ndarray:
  """Return the triangles [K, 3] of points [N, 2] that are not collinear."""
  triangles = np.sort(scipy.spatial.Delaunay(points).simplices, 1)
  x, y = incenters(points[triangles]).T
  return triangles[np.lexsort((y, x))]


def incenters(corners: np.ndarray) -> np.ndarray:
  """Return the centers [K, 2] of the incircles of triangles [K, 3, 2].

  An incenter is the mean of the corners, weighted by the lengths of the
  opposite sides.
  """
  sides = np.roll(corners, 1, 1) - np.roll(corners, 2, 1)
  lengths = np.linalg.norm(sides, axis=-1, keepdims=True)
  return (lengths * corners).sum(1) / lengths.sum(1)


def max_triangles(num_points: int) -> int:
  """Return the largest number of triangles of N points.

  A triangulation with h points on the hull has 2 N - 2 - h triangles, and h is
  at least 3.
  """
  return 2 * num_points - 5


def from_indices(indices: np.ndarray) -> np.ndarray:
  """Convert the indices [3 K] of a line of text to triangles [K, 3].

  Raises:
    UserError: the indices are not distinct triangles.
  """
  if len(indices) % 3:
    raise UserError(f'output: {len(indices)} indices; expected 3 per triangle')
  triangles = np.sort(indices.reshape(-1, 3), 1)
  if (np.diff(triangles) == 0).any():
    raise UserError(
      'output: a triangle has the same corner twice; expected three different'
      ' points per triangle'
    )
  if len(np.unique(triangles, axis=0)) < len(triangles):
    raise UserError(
      'output: the same triangle occurs twice; expected each triangle once'
    )
  return triangles


def is_same_triangulation(triangles: np.ndarray, other: np.ndarray) -> bool:
  """Return whether two lists [K, 3] hold the same triangles, in any order."""
  return set(map(tuple, triangles)) == set(map(tuple, other))


def find_failure(points: np.ndarray, triangles: np.ndarray) -> str:
  """Return why triangles are not the triangulation of a set.

  Args:
    points: float64 [N, 2], in any unit.
    triangles: point indices [K, 3].

  Returns:
    A verb phrase; '' if no rule is broken.
  """
  if not len(triangles):
    return 'has no triangles'
  offsets = points - points.mean(0)
  extent = np.abs(offsets).max()
  rounding = 64 * np.finfo(float).eps * np.abs(points).max() / extent
  offsets /= extent  # one factor for both axes keeps circles
  tolerance = max(_CIRCLE_TOLERANCE, rounding)
  if _any_circumcircle_contains_point(offsets[triangles], offsets, tolerance):
    return 'has a triangle whose circumcircle contains another point'
  # Independent factors for the axes keep ratios of areas.
  square = (points - points.min(0)) / np.ptp(points, 0)
  covered = np.abs(_double_areas(square[triangles])).sum() / 2
  share = covered / scipy.spatial.ConvexHull(square).volume
  if share < 1 - _AREA_TOLERANCE:
    return 'does not cover the convex hull'
  return 'has triangles that overlap' if share > 1 + _AREA_TOLERANCE else ''


def _double_areas(corners: np.ndarray) -> np.ndarray:
  """Return twice the signed areas of triangles [K, 3, 2]."""
  (ux, uy), (vx, vy) = (
    np.moveaxis(corners[:, k] - corners[:, 0], -1, 0) for k in (1, 2)
  )
  return ux * vy - uy * vx


def _any_circumcircle_contains_point(
  corners: np.ndarray, points: np.ndarray, tolerance: float
) -> bool:
  """Return whether the circumcircle of any triangle contains any point.

  A circumcircle contains a point if a determinant is positive. Its rows are
  (x, y, x² + y²) of the three corners, relative to the point.

  Args:
    corners: corners of the triangles [K, 3, 2].
    points: [N, 2].
    tolerance: smaller determinants count as 0.
  """
  is_clockwise = _double_areas(corners) < 0
  corners = np.where(is_clockwise[:, None, None], corners[:, ::-1], corners)
  relative = corners[:, None] - points[:, None]  # [K, N, 3, 2]
  squares = (relative**2).sum(-1, keepdims=True)
  determinants = np.linalg.det(np.concatenate([relative, squares], -1))
  return bool((determinants > tolerance).any())
