"""Hulls are convex and contain all points."""

import numpy as np
import pytest

from seq2set import cycles
from seq2set.convex_hull import data


def test_hulls_contain_all_points():
  for points in np.random.default_rng(0).standard_normal((100, 7, 2)):
    corners = data.convex_hull(points)
    assert corners.argmin() == 0
    assert 3 <= len(corners) == len(set(corners))
    a, b = points[corners], points[np.roll(corners, -1)]
    edge, to = b - a, points[:, None] - a
    cross = edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0]
    assert (cross >= -1e-6).all()  # on the left of every edge


SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]])


@pytest.mark.parametrize('scale', [1, 1e-7, 1e9])
@pytest.mark.parametrize(
  'corners, why',
  [
    ((0, 1, 2, 3), ''),
    ((2, 1, 0, 3), ''),
    ((), 'has fewer than 3 corners'),
    ((0, 2), 'has fewer than 3 corners'),
    ((0, 1, 2, 0), 'contains a corner twice'),
    ((0, 2, 1, 3), 'crosses itself'),
    ((0, 1, 4, 2, 3), 'is not convex'),
    ((0, 3, 2, 4, 1), 'is not convex'),
    ((0, 1, 2), 'leaves 1 of 5 points outside'),
    ((1, 2, 4), 'leaves 2 of 5 points outside'),
  ],
)
def test_hulls_that_break_a_rule(scale, corners, why):
  points = scale * SQUARE + 5 * scale
  assert data.find_failure(points, np.array(corners, int)) == why


def test_computed_hulls_break_no_rule():
  for points in np.random.default_rng(0).random((50, 20, 2)):
    hull = data.convex_hull(points)
    assert not data.find_failure(points, hull)
    assert not data.find_failure(points * [1, 1e-6] + 1000, hull[::-1])
    assert cycles.is_same_cycle(np.roll(hull[::-1], 2), hull)
    assert not cycles.is_same_cycle(hull[1:], hull)
