"""Convex hulls in NumPy and SciPy.

A hull is an array of the indices of its corners in counterclockwise order, from
the lowest index. `seq2set.cycles` compares hulls and converts them to text.
"""

import numpy as np
import scipy.spatial

_TOLERANCE = 1e-9  # smallest tolerance of cross products in the unit square


def convex_hull(points: np.ndarray) -> np.ndarray:
  """Return the hull [K] of points [N, 2] that do not all lie on one line."""
  corners = scipy.spatial.ConvexHull(points).vertices  # counterclockwise
  return np.roll(corners, -corners.argmin())  # from the lowest index


def find_failure(points: np.ndarray, corners: np.ndarray) -> str:
  """Return why the corners are not the convex hull of the points.

  Args:
    points: float64 [N, 2], in any unit.
    corners: indices [K], in either direction.

  Returns:
    A verb phrase, or '' if the corners are the hull.
  """
  if len(set(corners)) < 3:
    return 'has fewer than 3 corners'
  if len(set(corners)) < len(corners):
    return 'contains a corner twice'
  extent = np.ptp(points, 0)
  rounding = 8 * np.finfo(float).eps * np.abs(points).max() / extent.min()
  tolerance = max(_TOLERANCE, rounding)
  points = (points - points.min(0)) / extent  # does not change the hull
  start = points[corners]
  end = np.roll(start, -1, 0)
  if (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum() < 0:
    start, end = end, start  # make it counterclockwise
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
