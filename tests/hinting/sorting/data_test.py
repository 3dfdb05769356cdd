"""Lists as text."""

import pytest

from core.errors import UserError
from hinting.sorting import data


def parse(line):
  return data.parse(line, num_values=100, max_length=4).tolist()


def test_parse():
  assert parse('7 3, 7\t100\n') == [7, 3, 7, 100]
  assert parse('+5;05') == [5, 5]
  assert parse('[7, 3]') == [7, 3]


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (' , ', 'no numbers'),
    ('1 2 3 4 5', '5 numbers; expected at most 4'),
    ('1 0', "'0' is not an integer from 1 to 100"),
    ('101', "'101' is not an"),
    ('2.5', 'not an integer'),
    ('-3', 'not an integer'),
    ('1e1', 'not an integer'),
    ('٣', 'not an integer'),
    ('9' * 99, 'not an integer'),
    ('1\x852', 'not an integer'),
    ('1\r2', 'not an integer'),
  ],
)
def test_bad_lines(line, message):
  with pytest.raises(UserError, match=message):
    parse(line)


@pytest.mark.parametrize(
  ('answer', 'failure'),
  [
    ([1, 3, 7, 7], ''),
    ([1, 7, 3, 7], 'not in ascending order: 7 comes before 3'),
    ([1, 3, 7], 'not a permutation of the list: it lacks 7'),
    ([1, 3, 7, 7, 7], 'not a permutation of the list: it adds 7'),
    ([None, 3, 7, 8], 'it lacks 1, 7 and adds ?, 8'),
    ([2] * 4, 'it lacks 1, 3, 7, ... and adds 2, 2, 2, ...'),
    ([], 'it lacks 1, 3, 7, ...'),
  ],
)
def test_find_failure(answer, failure):
  found = data.find_failure(answer, [7, 3, 7, 1])
  assert found.endswith(failure) and bool(found) == bool(failure)
