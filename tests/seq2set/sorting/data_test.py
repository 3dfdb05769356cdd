"""Lines of numbers are parsed, or an error says why not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.answers import split_answer
from core.errors import UserError
from seq2set.sorting import data


def test_parse():
  words, values = data.parse(' 0.5, -1e3;7\t 08\n')
  assert words == ['0.5', '-1e3', '7', '08']
  np.testing.assert_array_equal(values, [0.5, -1000, 7, 8])


@pytest.mark.parametrize(
  'line, why',
  [
    ('', 'no numbers'),
    (' , ;', 'no numbers'),
    ('1 two 3', "'two' is not a number"),
    ('1 nan', "'nan' is not finite"),
    ('1e999 2', "'1e999' is not finite"),
    ('1 ' * 1001, '1001 numbers'),
  ],
)
def test_bad_lines(line, why):
  with pytest.raises(UserError, match=why):
    data.parse(line)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_rescale_keeps_the_order_inside_the_unit_interval(numbers):
  values = np.array(numbers)
  rescaled = data.rescale(values)
  assert ((rescaled > 0) & (rescaled < 1)).all()
  assert (np.diff(rescaled[np.argsort(values)]) >= 0).all()


def test_rescale_by_hand():
  np.testing.assert_allclose(
    data.rescale(np.array([3.0, 1, 2])), [0.75, 0.25, 0.5]
  )
  np.testing.assert_allclose(data.rescale(np.array([4.0, 4])), [0.5, 0.5])


def test_a_line_may_carry_its_answer():
  for line in (
    '3 1 2 output 1 2 3',
    '3,1,2 -> 1.0,2,3',
    '[3, 1, 2] => [1, 2, 3]',
    '3 1 2 | 1 2 3',
  ):
    _, values, answer = data.parse_example(*split_answer(line))
    np.testing.assert_array_equal(values, [3, 1, 2])
    np.testing.assert_array_equal(answer, [1, 2, 3])
  assert data.parse_example('3 1 2', None)[2] is None
  for line, why in [
    ('3 1 2 output 1 2 4', 'differ from those of the set'),
    ('3 1 2 output 1 2', 'differ from those of the set'),
    ('3 1 2 output 3 2 1', 'not in ascending order'),
    ('3 1 2 output', 'no numbers'),
    ('output 1 2', 'no numbers'),
  ]:
    with pytest.raises(UserError, match=why):
      data.parse_example(*split_answer(line))
