"""Delaunay triangulations in NumPy and SciPy.

A triangulation is a list of triangles, each a row of three increasing indices.
The triangles are ordered by the x coordinate of their incenters, and by y where
x is equal (Vinyals, Fortunato, Jaitly 2015). In text, the triples follow each
other.
"""

import numpy as np
import scipy.spatial

from core.errors import UserError

_AREA_TOLERANCE = 1e-6  # relative to the area of the convex hull
_CIRCLE_TOLERANCE = 1e-9  # of the determinant, at least, for sets of extent 1


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
  """Return the largest number: 2 N - 2 - h, with h = 3 points on the hull."""
  return 2 * num_points - 5


def read(indices: np.ndarray) -> np.ndarray:
  """Convert the indices of a line of text to triangles, in the same order.

  Raises:
    UserError: the indices are not distinct triangles.
  """
  if len(indices) % 3:
    raise UserError(f'output: {len(indices)} indices; 3 per triangle expected')
  triangles = np.sort(indices.reshape(-1, 3), 1)
  if (np.diff(triangles) == 0).any():
    raise UserError('output: a triangle has the same corner twice')
  if len(np.unique(triangles, axis=0)) < len(triangles):
    raise UserError('output: the same triangle occurs twice')
  return triangles


def is_same(triangles: np.ndarray, other: np.ndarray) -> bool:
  """Return whether two lists [K, 3] hold the same triangles, in any order."""
  return set(map(tuple, triangles)) == set(map(tuple, other))


def failure(points: np.ndarray, triangles: np.ndarray) -> str:
  """Return why triangles cannot be the triangulation of a set, or ''.

  Args:
    points: float64 [N, 2], in any unit.
    triangles: [K, 3].
  """
  if not len(triangles):
    return 'has no triangles'
  offsets = points - points.mean(0)
  extent = np.abs(offsets).max()
  rounding = 64 * np.finfo(float).eps * np.abs(points).max() / extent
  offsets /= extent  # keeps circles
  tolerance = max(_CIRCLE_TOLERANCE, rounding)
  if _any_circle_holds_a_point(offsets[triangles], offsets, tolerance):
    return 'has a triangle whose circumcircle contains another point'
  square = (points - points.min(0)) / np.ptp(points, 0)  # keeps shares of area
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


def _any_circle_holds_a_point(
  corners: np.ndarray, points: np.ndarray, tolerance: float
) -> bool:
  """Return whether any circumcircle of [K, 3, 2] contains any of [N, 2].

  The sign of a determinant decides: rows (x, y, x² + y²) of the three corners,
  relative to the point.
  """
  is_clockwise = _double_areas(corners) < 0
  corners = np.where(is_clockwise[:, None, None], corners[:, ::-1], corners)
  relative = corners[:, None] - points[:, None]  # [K, N, 3, 2]
  squares = (relative**2).sum(-1, keepdims=True)
  determinants = np.linalg.det(np.concatenate([relative, squares], -1))
  return bool((determinants > tolerance).any())
