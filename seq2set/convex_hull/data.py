"""Convex hulls in NumPy and SciPy.

A hull is the indices of its corners in counterclockwise order. It starts at the
lowest index. In text, the first corner is repeated at the end.
"""

import numpy as np
import scipy.spatial

from core.errors import UserError

_TOLERANCE = 1e-9  # of cross products of points in the unit square, at least


def hull(points: np.ndarray) -> np.ndarray:
  """Return the hull of points [N, 2] that do not all lie on one line."""
  corners = scipy.spatial.ConvexHull(points).vertices  # counterclockwise
  return from_lowest(corners)


def from_lowest(corners: np.ndarray) -> np.ndarray:
  """Rotate a cycle of corners so that it starts at the lowest index."""
  return np.roll(corners, -corners.argmin())


def read(indices: np.ndarray) -> np.ndarray:
  """Convert the indices of a line of text to a hull.

  Raises:
    UserError: the cycle is not closed, or contains a corner twice.
  """
  if len(indices) < 4 or indices[0] != indices[-1]:
    raise UserError(
      'output: at least 3 corners, then the first corner again, expected'
    )
  corners = indices[:-1]
  if len(set(corners)) < len(corners):
    raise UserError('output: a corner occurs twice')
  return from_lowest(corners)


def is_same_cycle(corners: np.ndarray, other: np.ndarray) -> bool:
  """Return whether two cycles agree up to their start and their direction."""
  other = from_lowest(other)
  ways = from_lowest(corners), from_lowest(corners[::-1])
  return any(np.array_equal(way, other) for way in ways)


def failure(points: np.ndarray, corners: np.ndarray) -> str:
  """Return why corners cannot be the hull of a set, or ''.

  Args:
    points: float64 [N, 2], in any unit.
    corners: indices [K], in either direction.
  """
  if len(set(corners)) < 3:
    return 'has fewer than 3 corners'
  if len(set(corners)) < len(corners):
    return 'contains a corner twice'
  extent = np.ptp(points, 0)
  rounding = 8 * np.finfo(float).eps * np.abs(points).max() / extent.min()
  tolerance = max(_TOLERANCE, rounding)
  points = (points - points.min(0)) / extent  # keeps hulls
  start = points[corners]
  end = np.roll(start, -1, 0)
  if (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum() < 0:
    start, end = end, start  # clockwise
  sides = _sides(start, end, start)  # of each corner, seen from each edge
  other_sides = _sides(start, end, end)
  separates = sides * other_sides < -(tolerance**2)
  if (separates & separates.T).any():
    return 'crosses itself'
  if (sides < -tolerance).any():
    return 'is not convex'
  num_outside = (_sides(start, end, points) < -tolerance).any(0).sum()
  if num_outside:
    return f'leaves {num_outside} of {len(points)} points outside'
  return ''


def _sides(start: np.ndarray, end: np.ndarray, points: np.ndarray):
  """Return on which side of each edge each point lies.

  Args:
    start, end: the ends [K, 2] of the edges.
    points: [N, 2].

  Returns:
    [K, N], positive on the left.
  """
  edge = (end - start)[:, None]
  to_point = points - start[:, None]
  return edge[..., 0] * to_point[..., 1] - edge[..., 1] * to_point[..., 0]
