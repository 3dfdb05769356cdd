"""First errors of answers written by hand."""

import numpy as np
import pytest

from hinting.sorting import error_types
from hinting.vocabulary import Token, value_token

VALUES = np.array([7, 3, 7, 1])  # sorted: 1 3 7 7


def tokens(*words):
  return np.array(
    [w if isinstance(w, Token) else value_token(w) for w in words]
  )


@pytest.mark.parametrize(
  ('answer', 'error'),
  [
    ((1, 3, 7, 7, Token.EOS), ''),
    ((1, 3, Token.EOS, Token.EOS, Token.EOS), 'early EOS'),
    ((1, 3, 7, 7, 7), 'late EOS'),
    ((1, 3, 7, 7, Token.PAD), 'late EOS'),
    ((1, 2, 3, 7, 7), 'not in list'),
    ((1, Token.SORT, 3, 7, 7), 'not in list'),
    ((1, 1, 3, 7, 7), 'extra copy'),
    ((1, 3, 7, Token.EOS, Token.EOS), 'early EOS'),
    ((1, 7, 7, Token.EOS, Token.EOS), 'skipped value'),
    ((3, 7, 7, Token.EOS, Token.EOS), 'skipped value'),
    ((1, 3, 1, 7, 7), 'order break'),
    ((1, 3, 7, 3, 7), 'order break'),
  ],
)
def test_first_errors(answer, error):
  assert error_types.first_error(tokens(*answer), VALUES) == error


def test_a_missing_copy():
  answer = tokens(1, 7, 7, Token.EOS)
  assert error_types.first_error(answer, np.array([1, 7, 1])) == 'missing copy'


def test_shares_add_up():
  answers = np.stack(
    [
      tokens(1, 3, 7, 7, Token.EOS),
      tokens(1, 3, 7, 7, 7),
      tokens(1, 1, 3, 7, 7),
      tokens(1, 3, 7, 7, Token.EOS),
    ]
  )
  shares = error_types.share_of_errors(answers, np.stack([VALUES] * 4))
  assert shares['right'] == 0.5
  assert shares['late EOS'] == shares['extra copy'] == 0.25
  assert sum(shares.values()) == 1
  assert set(shares) == {'right', *error_types.ERRORS}


def test_multiplicity():
  lists = [[1, 2, 3, 4, 5, 6, 7]]
  lists += [[4] * k + [9] * (7 - k) for k in (4, 5, 6, 7)]
  np.testing.assert_array_equal(
    error_types.multiplicity(np.array(lists)), [0, 1, 2, 3, 3]
  )


def test_density_splits_into_thirds():
  lists = np.array([[1, 3, 5, 7], [1, 2, 5, 7], [1, 2, 3, 4]] * 5)
  np.testing.assert_array_equal(error_types.density(lists), [0, 1, 2] * 5)


def test_accuracy_by_group():
  table = error_types.accuracy_by_group(
    np.array([True, False, True, True]), np.array([0, 0, 2, 2]), ('a', 'b', 'c')
  )
  assert set(table) == {'a', 'c'}
  assert table['a']['accuracy'] == 0.5 and table['a']['count'] == 2
  assert table['a']['low'] < 0.5 < table['a']['high']
  assert table['c']['accuracy'] == 1
