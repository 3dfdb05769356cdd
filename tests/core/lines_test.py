"""Every line has its answer, in order, whatever the chunks."""

import numpy as np
import pytest

from core.errors import UserError
from core.lines import answer_lines

SHAPES = []  # of the columns of each call


def parse(line):
  if line == 'bad':
    raise UserError('what is wrong')
  return {'x': np.array(int(line))} if line else None


def solve(columns):
  SHAPES.append(columns['x'].shape)
  return np.stack([columns['x'], 2 * columns['x']], 1)


@pytest.mark.parametrize('count', [0, 1, 63, 64, 65, 200])
def test_answers_come_in_order(count):
  lines = [('bad', '', str(n))[n % 3] for n in range(count)]
  SHAPES.clear()
  answers = list(answer_lines(lines, parse=parse, solve=solve))
  assert len(answers) == count
  for n, answer in enumerate(answers):
    if n % 3 == 0:
      assert isinstance(answer, UserError)
    elif n % 3 == 1:
      assert answer is None
    else:
      np.testing.assert_array_equal(answer, [n, 2 * n])
  assert len(set(SHAPES)) <= 1  # compiled once


def test_nothing_asked_calls_nothing():
  SHAPES.clear()
  assert list(answer_lines(['', ''], parse=parse, solve=solve)) == [None, None]
  assert not SHAPES
