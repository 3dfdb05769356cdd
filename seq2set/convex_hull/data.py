"""Convex hulls in NumPy, by scipy.

A hull is the indices of its corners, counter-clockwise, from the lowest index.
In text it closes with its first corner.
"""

import numpy as np
import scipy.spatial

from core.errors import UserError


def hull(points: np.ndarray) -> np.ndarray:
  """The hull of points [N, 2] that are not all on one line."""
  corners = scipy.spatial.ConvexHull(points).vertices  # counter-clockwise
  return from_lowest(corners)


def from_lowest(corners: np.ndarray) -> np.ndarray:
  """A round of corners, from the lowest index."""
  return np.roll(corners, -corners.argmin())


def read(indices: np.ndarray) -> np.ndarray:
  """The hull of a text's indices.

  Raises:
    UserError: it is not closed, or has a corner twice.
  """
  if len(indices) < 4 or indices[0] != indices[-1]:
    raise UserError('output: the first corner again at the end expected')
  corners = indices[:-1]
  if len(set(corners)) < len(corners):
    raise UserError('output: a corner is there twice')
  return from_lowest(corners)
