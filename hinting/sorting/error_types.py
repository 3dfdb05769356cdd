"""Types of errors in answers to sorting, and groups of lists, in NumPy.

The first wrong token determines the type, because it may cause later errors.
The shares of the types therefore sum to the error rate.

Axes: B lists, N values, A = N + 1 answer tokens.
"""

import numpy as np
from jaxtyping import Bool, Int

from core import metrics
from hinting import vocabulary
from hinting.vocabulary import Token

ERRORS = (
  'early EOS',  # values are left
  'late EOS',  # no value is left, but the token is not EOS
  'not in list',
  'extra copy',  # the token repeats the previous value
  'missing copy',  # copies of the previous value are left
  'skipped value',  # the token is larger than the next value
  'order break',  # the token is smaller than the previous value
)
MULTIPLICITIES = '1 to 3', '4', '5', '6 or more'
DENSITIES = 'sparse', 'middle', 'dense'

Array = np.ndarray


def first_error(answer: Int[Array, ' A'], values: Int[Array, ' N']) -> str:
  """Return the type of the first error of an answer, '' if it is correct."""
  tokens = vocabulary.value_token(np.sort(values))
  targets = np.append(tokens, Token.EOS)
  if (answer == targets).all():
    return ''
  place = int((answer != targets).argmax())
  predicted, target = answer[place], targets[place]
  before = tokens[place - 1] if place else -1
  if predicted == Token.EOS:
    return 'early EOS'
  if target == Token.EOS:
    return 'late EOS'
  if predicted not in tokens:
    return 'not in list'
  if predicted == before:
    return 'extra copy'
  if predicted < before:
    return 'order break'
  return 'missing copy' if target == before else 'skipped value'


def share_of_errors(
  answers: Int[Array, 'B A'], values: Int[Array, 'B N']
) -> dict[str, float]:
  """Return the share of answers with each type of first error, and 'right'."""
  names = [first_error(*pair) for pair in zip(answers, values, strict=True)]
  shares = {name: names.count(name) / len(names) for name in ERRORS}
  return {'right': names.count('') / len(names)} | shares


def multiplicity(values: Int[Array, 'B N']) -> Int[Array, ' B']:
  """Return the group of each list by the count of its most frequent value.

  Returns:
    Indices into `MULTIPLICITIES`.
  """
  copies = np.array([np.bincount(row).max() for row in values])
  return np.clip(copies - 3, 0, 3)


def density(values: Int[Array, 'B N']) -> Int[Array, ' B']:
  """Return the group of each list by its number of pairs v, v + 1.

  The groups are split at the terciles of the lists. Lists with equal counts are
  in the same group: random lists of 20 form groups of 35, 47, and 18 %.

  Returns:
    Indices into `DENSITIES`.
  """
  pairs = np.array([(np.diff(np.unique(row)) == 1).sum() for row in values])
  return np.searchsorted(np.quantile(pairs, [1 / 3, 2 / 3]), pairs)


def accuracy_by_group(
  is_right: Bool[Array, ' B'], groups: Int[Array, ' B'], names: tuple[str, ...]
) -> dict[str, dict[str, float]]:
  """Return the accuracy of each group, its count, and its 95 % interval."""
  table = {}
  for index, name in enumerate(names):
    inside = is_right[groups == index]
    if len(inside):
      low, high = metrics.wilson_interval(int(inside.sum()), len(inside))
      table[name] = {
        'accuracy': float(inside.mean()),
        'count': len(inside),
        'low': low,
        'high': high,
      }
  return table
