"""Lists as text."""

import pytest

from core.errors import UserError
from hinting.sorting import data


def parse(line):
  return data.parse(line, num_values=100, max_length=4).tolist()


def test_parse():
  assert parse('7 3, 7\t100\n') == [7, 3, 7, 100]
  assert parse('+5;05') == [5, 5]


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (' , ', 'no numbers'),
    ('1 2 3 4 5', '5 numbers; at most 4'),
    ('1 0', "'0' is no integer from 1 to 100"),
    ('101', "'101' is no"),
    ('2.5', 'no integer'),
    ('-3', 'no integer'),
    ('1e1', 'no integer'),
    ('٣', 'no integer'),
    ('9' * 99, 'no integer'),
  ],
)
def test_bad_lines(line, message):
  with pytest.raises(UserError, match=message):
    parse(line)
