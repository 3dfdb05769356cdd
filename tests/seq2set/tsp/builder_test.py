"""Tours of many points are computed once."""

import numpy as np

from seq2set import point_sets
from seq2set.tsp import builder, data


def test_tours_are_computed_once(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('LEARNED_ALGORITHMS_CACHE', str(tmp_path))
  points, others = (
    point_sets.draw(np.random.default_rng(seed), 4, 13, 'uniform')
    for seed in (0, 1)
  )
  expected = data.shortest_tours(points)
  np.testing.assert_array_equal(builder.load(points), expected)
  assert 'computing 4 tours once' in caplog.text
  with monkeypatch.context() as patch:
    patch.setattr(data, 'shortest_tours', None)
    np.testing.assert_array_equal(builder.load(points), expected)
  np.testing.assert_array_equal(
    builder.load(others), data.shortest_tours(others)
  )
