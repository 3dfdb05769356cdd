"""Tests of lines with and without an answer."""

import pytest

from core.errors import UserError
from hinting import questions


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('3 1 2', ('3 1 2', None)),
    ('3 1 -> 1 3\r\n', ('3 1 ', ' 1 3')),
    ('3 1 => 1 3', ('3 1 ', ' 1 3')),
    ('3 1 | 1 3', ('3 1 ', ' 1 3')),
    ('3 1 output 1 3', ('3 1 ', ' 1 3')),
    ('1399=1400', ('1399', '1400')),
    # One tab or comma between lists of the same length makes two columns.
    ('3 1\t1 3', ('3 1', '1 3')),
    ('3 1,1 3', ('3 1', '1 3')),
    # These are lists.
    ('3\t1', ('3\t1', None)),
    ('3\t1\t2', ('3\t1\t2', None)),
    ('3 1\t2', ('3 1\t2', None)),
    ('3, 1, 2', ('3, 1, 2', None)),
  ],
)
def test_split_line(line, expected):
  assert questions.split_line(line) == expected


def test_several_separators_are_an_error():
  with pytest.raises(UserError, match='2 separators'):
    questions.split_line('3 1 -> 1 3 -> 1 3')


def test_answers_are_compared_without_punctuation():
  questions.check_answer(' [1, 3] ', '1 3')
  with pytest.raises(UserError, match="answer '3 1', .* expected '1 3'"):
    questions.check_answer('3 1', '1 3')
  with pytest.raises(UserError, match=r"'1 1 .*\.\.\.', which"):
    questions.check_answer('1 ' * 99, '1 3')
