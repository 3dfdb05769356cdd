"""Hulls are convex and hold all points; lines are read or refused."""

import numpy as np
import pytest

from core.errors import UserError
from seq2set.convex_hull import data


@pytest.mark.parametrize('distribution', data.DISTRIBUTIONS)
def test_hulls_hold_all_points(distribution):
  rng = np.random.default_rng(0)
  drawn = data.draw(rng, 50, 7, distribution)
  for points, hull, count in zip(*drawn.values(), strict=True):
    corners = hull[:count]
    assert (hull[count:] == 7).all() and corners.argmin() == 0
    assert 3 <= count == len(set(corners))
    a, b = points[corners], points[np.roll(corners, -1)]
    edge, to = b - a, points[:, None] - a
    cross = edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0]
    assert (cross >= -1e-6).all()  # on the left of every edge


def test_text_format_round_trips():
  line = '0.1 0.2 0.9 0.1 0.5 0.8 0.5 0.3 output 1 2 3 1'
  points, corners = data.parse(line)
  assert points.shape == (4, 2)
  np.testing.assert_array_equal(corners, [0, 1, 2])
  np.testing.assert_array_equal(data.hull(points), corners)
  assert data.format_hull(corners) == '1 2 3 1'
  assert data.parse(line.partition('output')[0])[1] is None
  _, turned = data.parse(line.replace('1 2 3 1', '2 3 1 2'))
  np.testing.assert_array_equal(turned, corners)


@pytest.mark.parametrize(
  'line, why',
  [
    ('', '0 numbers'),
    ('1 2 3 4', '4 numbers'),
    ('1 2 3 4 5 6 7', '7 numbers'),
    ('0 0 1 1 x 1', "'x' is no number"),
    ('0 0 1 1 nan 1', 'not finite'),
    ('0 0 1e30 1 0 1', 'too large'),
    ('0 0 1 1 2 2', 'on one line'),
    ('0 0 1 0 0 1 output 1 2 4 1', 'indices of points'),
    ('0 0 1 0 0 1 output 1 2 3', 'indices of points'),
  ],
)
def test_bad_lines(line, why):
  with pytest.raises(UserError, match=why):
    data.parse(line)
