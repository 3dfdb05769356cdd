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
    ('', 'not a nonnegative integer'),
    ('-3', "'-3' is not a nonneg"),
    ('1 2', 'not a nonnegative integer'),
    ('1.5', 'not a nonnegative integer'),
    ('1e3', 'not a nonnegative integer'),
    ('1\x85', 'not a nonnegative integer'),
    ('٣', 'not a nonnegative integer'),
    ('12345', '5 digits; expected at most 4; .*data.max_predict_length'),
  ],
)
def test_bad_lines(line, message):
  with pytest.raises(UserError, match=message):
    data.parse(line, max_length=4)
