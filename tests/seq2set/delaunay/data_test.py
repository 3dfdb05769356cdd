"""Triangulations agree with the definition, triangle by triangle."""

import itertools

import numpy as np
import pytest

from core.errors import UserError
from seq2set.delaunay import data


def is_empty(points, triangle):
  """Whether the circle through a triangle's corners holds no other point."""
  a, b, c = points[list(triangle)]
  centre = np.linalg.solve(
    2 * np.array([b - a, c - a]), [b @ b - a @ a, c @ c - a @ a]
  )
  distances = np.linalg.norm(points - centre, axis=1)
  others = np.delete(distances, triangle)
  return (others > np.linalg.norm(a - centre)).all()


@pytest.mark.parametrize('num_points', [3, 5, 8])
def test_triangles_are_all_whose_circles_are_empty(num_points):
  for points in np.random.default_rng(0).random((30, num_points, 2)):
    true = {
      triangle
      for triangle in itertools.combinations(range(num_points), 3)
      if is_empty(points, triangle)
    }
    triangles = data.triangulate(points)
    assert set(map(tuple, triangles.tolist())) == true
    assert len(triangles) == len(true) <= data.max_triangles(num_points)


def test_triangles_are_in_the_order_of_their_incentres():
  points = np.random.default_rng(0).random((12, 2))
  triangles = data.triangulate(points)
  assert (np.diff(triangles) > 0).all()
  centres = data.incenters(points[triangles])
  assert (np.diff(centres[:, 0]) > 0).all()
  # As far from all three sides.
  for centre, corners in zip(centres, points[triangles], strict=True):
    sides = np.roll(corners, -1, 0) - corners
    to = centre - corners
    cross = sides[:, 0] * to[:, 1] - sides[:, 1] * to[:, 0]
    distances = cross / np.linalg.norm(sides, axis=1)
    np.testing.assert_allclose(distances, distances[0])


def test_triangles_are_read_in_the_order_of_the_text():
  triangles = data.read(np.array([3, 1, 2, 0, 1, 3]))
  np.testing.assert_array_equal(triangles, [[1, 2, 3], [0, 1, 3]])
  for text, why in [
    ([0, 1, 2, 0], '4 indices'),
    ([0, 1, 1], 'same corner twice'),
    ([0, 1, 2, 2, 1, 0], 'same triangle twice'),
  ]:
    with pytest.raises(UserError, match=why):
      data.read(np.array(text))
