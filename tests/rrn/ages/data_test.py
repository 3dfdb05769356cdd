"""Tests of parsing and solving age problems."""

import numpy as np
import pytest

from core.errors import UserError
from rrn.ages import data

# Ages A to H: 30 18 26 8 40 31 50 3.
PROBLEM = 'A=B+12; C = A - 4; D=C-18; E=A+10; F=A+1; H=D-5; G=E+10; F=31; G=?'


def test_parse_sorts_and_orders_the_facts():
  parsed = data.parse(PROBLEM + ';\n')
  assert parsed['question'] == 6
  assert parsed['answer'] == 50
  np.testing.assert_array_equal(
    parsed['facts'],
    [
      (0, 1, data.OLDER, 12),
      (0, 2, data.OLDER, 4),
      (0, 4, data.YOUNGER, 10),
      (0, 5, data.YOUNGER, 1),
      (2, 3, data.OLDER, 18),
      (3, 7, data.OLDER, 5),
      (4, 6, data.YOUNGER, 10),
      (5, 5, data.IS, 31),
    ],
  )
  statements = PROBLEM.split(';')
  for other in (statements[::-1], statements[4:] + statements[:4]):
    again = data.parse(';'.join(other))
    np.testing.assert_array_equal(again['facts'], parsed['facts'])
  turned = data.parse(PROBLEM.replace('A=B+12', 'B=A-12'))
  np.testing.assert_array_equal(turned['facts'], parsed['facts'])


def test_solve_by_hand():
  ages, jumps = data.solve(data.parse(PROBLEM)['facts'])
  np.testing.assert_array_equal(ages, [30, 18, 26, 8, 40, 31, 50, 3])
  np.testing.assert_array_equal(jumps, [1, 2, 2, 3, 2, 0, 3, 4])


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('A=B+12;', '', 'differences: 6, ages: 1, questions: 1'),
    ('F=31', 'F=A+1', 'differences: 8, ages: 0, questions: 1'),
    ('G=?', '', 'ages: 1, questions: 0; expected 7, 1, 1'),
    ('F=31', '', "statement 8 is ''; expected a difference such as A=B"),
    ('G=?', 'G=?; H=?', 'ages: 1, questions: 2'),
    ('A=B+12', 'A=B', "statement 1 is 'A=B'; expected"),
    ('A=B+12', 'A=B+-1', "statement 1 is 'A=B[+]-1'"),
    ('A=B+12', 'A=J+12', "unknown person 'J'; expected one of A, B"),
    ('A=B+12', 'AB=C+12', "unknown person 'AB'"),
    ('A=B+12', 'C=F+12', 'connects the given age to B'),
    ('A=B+12', 'B=B+12', 'connects the given age to B'),
    ('F=31', 'F=3', 'the age of B would be -10; expected ages from 0 to 98'),
    ('F=31', 'F=90', 'the age of E would be 99'),
    ('A=B+12', 'A=B+4', 'B and C would both be 26 years old'),
    ('A=B+12', 'A=B+0', 'A and B would both be 30 years old'),
    ('A=B+12', 'A=B+' + '9' * 20, "statement 1 is 'A=B[+]99999"),
    ('F=31', 'F=' + '9' * 5000, "statement 8 is 'F=9{38}'; expected"),
  ],
)
def test_parse_says_what_is_wrong(old, new, message):
  with pytest.raises(UserError, match=message) as error:
    data.parse(PROBLEM.replace(old, new))
  assert '\n' not in str(error.value)


def test_each_tree_is_in_one_split():
  splits = data.split_trees()
  assert len(splits['train']) == 235_930 and len(splits['test']) == 26_214
  everything = np.sort(np.concatenate([*splits.values()]))
  np.testing.assert_array_equal(everything, np.arange(8**6))
  np.testing.assert_array_equal(splits['test'], data.split_trees()['test'])
  assert (np.diff(splits['train'][:100]) < 0).any()  # shuffled
