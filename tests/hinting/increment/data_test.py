"""Numbers as text."""

import pytest

from core.errors import UserError
from hinting.increment import data


def test_parse():
  assert data.parse(' 1399\n', max_length=4).tolist() == [1, 3, 9, 9]
  assert data.parse('000', max_length=4).tolist() == [0]
  assert data.parse('0000012', max_length=4).tolist() == [1, 2]


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('', 'no number'),
    ('-3', "'-3' is no number"),
    ('1 2', 'no number'),
    ('1.5', 'no number'),
    ('1e3', 'no number'),
    ('٣', 'no number'),
    ('12345', '5 digits; at most 4 expected, see config.data.longest_list'),
  ],
)
def test_bad_lines(line, message):
  with pytest.raises(UserError, match=message):
    data.parse(line, max_length=4)
