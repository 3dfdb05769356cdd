"""Triangulations agree with the definition, triangle by triangle."""

import itertools

import numpy as np
import pytest

from core.errors import UserError
from seq2set.delaunay import data


def is_empty(points, triangle):
  """Whether the circle through a triangle's corners holds no other point."""
  a, b, c = points[list(triangle)]
  center = np.linalg.solve(
    2 * np.array([b - a, c - a]), [b @ b - a @ a, c @ c - a @ a]
  )
  distances = np.linalg.norm(points - center, axis=1)
  others = np.delete(distances, triangle)
  return (others > np.linalg.norm(a - center)).all()


@pytest.mark.parametrize('num_points', [3, 5, 8])
def test_triangles_are_those_with_empty_circumcircles(num_points):
  for points in np.random.default_rng(0).random((30, num_points, 2)):
    true = {
      triangle
      for triangle in itertools.combinations(range(num_points), 3)
      if is_empty(points, triangle)
    }
    triangles = data.triangulate(points)
    assert set(map(tuple, triangles.tolist())) == true
    assert len(triangles) == len(true) <= data.max_triangles(num_points)


def test_triangles_are_in_the_order_of_their_incenters():
  points = np.random.default_rng(0).random((12, 2))
  triangles = data.triangulate(points)
  assert (np.diff(triangles) > 0).all()
  centers = data.incenters(points[triangles])
  assert (np.diff(centers[:, 0]) > 0).all()
  # Each center is equally far from the three sides of its triangle.
  for center, corners in zip(centers, points[triangles], strict=True):
    sides = np.roll(corners, -1, 0) - corners
    to = center - corners
    cross = sides[:, 0] * to[:, 1] - sides[:, 1] * to[:, 0]
    distances = cross / np.linalg.norm(sides, axis=1)
    np.testing.assert_allclose(distances, distances[0])


def test_triangles_are_read_in_the_order_of_the_text():
  triangles = data.from_indices(np.array([3, 1, 2, 0, 1, 3]))
  np.testing.assert_array_equal(triangles, [[1, 2, 3], [0, 1, 3]])
  for text, why in [
    ([0, 1, 2, 0], '4 indices'),
    ([0, 1, 1], 'same corner twice'),
    ([0, 1, 2, 2, 1, 0], 'same triangle occurs twice'),
  ]:
    with pytest.raises(UserError, match=why):
      data.from_indices(np.array(text))


SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]])
TRIANGLES = [[0, 1, 4], [1, 2, 4], [2, 3, 4], [0, 3, 4]]


@pytest.mark.parametrize('scale', [1, 1e-7, 1e9])
@pytest.mark.parametrize(
  'triangles, why',
  [
    (TRIANGLES, ''),
    (TRIANGLES[::-1], ''),
    ([], 'has no triangles'),
    (TRIANGLES[:3], 'does not cover the convex hull'),
    ([[0, 1, 2], [0, 2, 3]], 'circumcircle contains another point'),
  ],
)
def test_triangulations_that_break_a_rule(scale, triangles, why):
  triangles = np.array(triangles, int).reshape(-1, 3)
  failure = data.find_failure(scale * SQUARE + 5 * scale, triangles)
  assert failure.endswith(why) and bool(failure) == bool(why)


def test_both_diagonals_of_a_square_overlap():
  triangles = np.array(list(itertools.combinations(range(4), 3)))
  assert (
    data.find_failure(SQUARE[:4], triangles) == 'has triangles that overlap'
  )
  assert not data.find_failure(SQUARE[:4], triangles[[0, 2]])


def test_computed_triangulations_break_no_rule():
  for points in np.random.default_rng(0).random((30, 20, 2)):
    triangles = data.triangulate(points)
    assert not data.find_failure(points, triangles)
    assert not data.find_failure(1e-6 * points + 3, triangles)
    assert data.is_same_triangulation(triangles[::-1], triangles)
