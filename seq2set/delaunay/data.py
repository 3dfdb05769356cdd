"""Delaunay triangulations in NumPy, by scipy.

A triangulation is triangles, rows of three indices that increase, in the order
of their incenters: by x, and by y where that is equal (Vinyals, Fortunato,
Jaitly 2015). In text it is these triples one after the other.
"""

import numpy as np
import scipy.spatial

from core.errors import UserError


def triangulate(points: np.ndarray) -> np.ndarray:
  """The triangles [K, 3] of points [N, 2] that are not all on one line."""
  triangles = np.sort(scipy.spatial.Delaunay(points).simplices, 1)
  x, y = incenters(points[triangles]).T
  return triangles[np.lexsort((y, x))]


def incenters(corners: np.ndarray) -> np.ndarray:
  """The centres [K, 2] of the circles inside triangles [K, 3, 2].

  They are means of the corners, weighted by the lengths of the sides opposite.
  """
  sides = np.roll(corners, 1, 1) - np.roll(corners, 2, 1)
  lengths = np.linalg.norm(sides, axis=-1, keepdims=True)
  return (lengths * corners).sum(1) / lengths.sum(1)


def max_triangles(num_points: int) -> int:
  """The most that N points have: 2 N - 2 - h of h on the hull, 3 or more."""
  return 2 * num_points - 5


def read(indices: np.ndarray) -> np.ndarray:
  """The triangles of a text's indices, in the order of the text.

  Raises:
    UserError: they are no triangles.
  """
  if len(indices) % 3:
    raise UserError(f'output: {len(indices)} indices; 3 a triangle expected')
  triangles = np.sort(indices.reshape(-1, 3), 1)
  if (np.diff(triangles) == 0).any():
    raise UserError('output: a triangle has the same corner twice')
  if len(np.unique(triangles, axis=0)) < len(triangles):
    raise UserError('output: the same triangle twice')
  return triangles
