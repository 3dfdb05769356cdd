"""Hulls are convex and hold all points; closed ones are read."""

import numpy as np
import pytest

from core.errors import UserError
from seq2set.convex_hull import data


def test_hulls_hold_all_points():
  for points in np.random.default_rng(0).standard_normal((100, 7, 2)):
    corners = data.hull(points)
    assert corners.argmin() == 0
    assert 3 <= len(corners) == len(set(corners))
    a, b = points[corners], points[np.roll(corners, -1)]
    edge, to = b - a, points[:, None] - a
    cross = edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0]
    assert (cross >= -1e-6).all()  # on the left of every edge


def test_hulls_are_read_from_any_corner():
  for text in [0, 1, 2, 0], [1, 2, 0, 1]:
    np.testing.assert_array_equal(data.read(np.array(text)), [0, 1, 2])
  for text in [0, 1, 2], [0, 1, 0], [0, 1, 2, 3]:
    with pytest.raises(UserError, match='again at the end'):
      data.read(np.array(text))
  with pytest.raises(UserError, match='twice'):
    data.read(np.array([0, 1, 2, 1, 0]))
