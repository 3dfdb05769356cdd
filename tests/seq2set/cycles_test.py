"""Cycles are parsed, compared, arranged, and measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from seq2set import cycles

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], np.float32)


def outputs(*points):
  return jnp.array([[*points, *[5] * (6 - len(points))]])


def test_cycles_are_read_from_any_point():
  for text in [0, 1, 2, 0], [1, 2, 0, 1]:
    np.testing.assert_array_equal(
      cycles.from_closed_cycle(np.array(text)), [0, 1, 2]
    )
  for text in [0, 1, 2], [0, 1, 0], [0, 1, 2, 3]:
    with pytest.raises(UserError, match='the first point again'):
      cycles.from_closed_cycle(np.array(text))
  with pytest.raises(UserError, match='twice'):
    cycles.from_closed_cycle(np.array([0, 1, 2, 1, 0]))
  assert cycles.to_closed_cycle(np.array([3, 1, 2])) == [1, 2, 3, 1]


def test_cycles_are_equal_from_any_start_in_both_directions():
  true = outputs(0, 1, 2, 3)
  for other, is_same in [
    ((1, 2, 3, 0), True),
    ((3, 2, 1, 0), True),
    ((0, 2, 1, 3), False),
    ((0, 1, 2), False),
    ((0, 1, 2, 3, 4), False),
    ((), False),
  ]:
    assert cycles.are_same_cycles(outputs(*other), true, 5)[0] == is_same
    if other:
      assert cycles.is_same_cycle(np.array(other), np.arange(4)) == is_same
  later = jnp.array([[0, 1, 2, 3, 5, 4]])  # 4, after the stop, is ignored
  assert cycles.are_same_cycles(later, true, 5)[0]
  assert cycles.are_same_cycles(later, true[:, :5], 5)[0]
  whole = jnp.array([[0, 4, 1, 2, 3]])  # without a stop
  assert cycles.are_same_cycles(whole, outputs(3, 2, 1, 4, 0), 5)[0]
  assert not cycles.are_same_cycles(whole, outputs(3, 2, 1, 0, 4), 5)[0]


def test_area_and_length():
  for points, area, length in [
    ((0, 1, 2, 3), 1, 4),
    ((3, 2, 1, 0), -1, 4),
    ((0, 1), 0, 2),
    ((), 0, 0),
  ]:
    given = SQUARE[None], outputs(*points)
    assert cycles.signed_area(*given)[0] == pytest.approx(area)
    assert cycles.cycle_length(*given)[0] == pytest.approx(length)


@pytest.mark.parametrize(
  'start, expected',
  [('lowest', [0, 3, 2, 4, 4, 4]), ('leftmost', [2, 0, 3, 4, 4, 4])],
)
def test_fixed_starts(start, expected):
  points = jnp.array([[0.5, 0.9], [0.4, 0.5], [0.1, 0.2], [0.2, 0.1]])
  cycle = jnp.array([3, 2, 0, 4, 4])
  written = cycles.arrange(jax.random.key(0), points, cycle, start)
  assert written.tolist() == expected


def test_random_starts_cover_all_points_and_both_directions():
  points, cycle = jnp.asarray(SQUARE), jnp.array([0, 1, 2, 3, 5])
  keys = jax.random.split(jax.random.key(0), 100)
  written = jax.vmap(lambda key: cycles.arrange(key, points, cycle, 'random'))(
    keys
  )
  assert cycles.are_same_cycles(written, jnp.tile(cycle, (100, 1)), 5).all()
  assert {tuple(row) for row in written[:, :2].tolist()} == {
    (0, 1),
    (1, 2),
    (2, 3),
    (3, 0),
    (1, 0),
    (2, 1),
    (3, 2),
    (0, 3),
  }
