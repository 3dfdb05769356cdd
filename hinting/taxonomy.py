"""What goes wrong first in an answer to sorting, and on which lists.

The first wrong token decides, as all later ones may follow from it, so that the
shares of the errors add up to that of the wrong answers. NumPy.

Axes: B lists, N values, A = N + 1 answer tokens.
"""

import numpy as np
from jaxtyping import Bool, Int

from core import metrics
from hinting import vocabulary
from hinting.vocabulary import Token

ERRORS = (
  'early EOS',  # values are left
  'late EOS',  # no value is left, whatever was said instead
  'not in list',
  'extra copy',  # the value before once more
  'missing copy',  # copies of the value before are left
  'skipped value',  # larger than the next
  'order break',  # smaller than the value before
)
MULTIPLICITIES = '1 to 3', '4', '5', '6 or more'
DENSITIES = 'sparse', 'middle', 'dense'

Array = np.ndarray


def first_error(answer: Int[Array, ' A'], values: Int[Array, ' N']) -> str:
  """Names what is wrong with an answer's tokens, '' if nothing is."""
  tokens = vocabulary.value_token(np.sort(values))
  targets = np.append(tokens, Token.EOS)
  if (answer == targets).all():
    return ''
  place = int((answer != targets).argmax())
  said, target = answer[place], targets[place]
  before = tokens[place - 1] if place else -1
  if said == Token.EOS:
    return 'early EOS'
  if target == Token.EOS:
    return 'late EOS'
  if said not in tokens:
    return 'not in list'
  if said == before:
    return 'extra copy'
  if said < before:
    return 'order break'
  return 'missing copy' if target == before else 'skipped value'


def share_of_errors(
  answers: Int[Array, 'B A'], values: Int[Array, 'B N']
) -> dict[str, float]:
  """The share of answers with each first error, and 'right'."""
  names = [first_error(*pair) for pair in zip(answers, values, strict=True)]
  shares = {name: names.count(name) / len(names) for name in ERRORS}
  return {'right': names.count('') / len(names)} | shares


def multiplicity(values: Int[Array, 'B N']) -> Int[Array, ' B']:
  """The index in `MULTIPLICITIES` of the copies of each list's commonest."""
  copies = np.array([np.bincount(row).max() for row in values])
  return np.clip(copies - 3, 0, 3)


def density(values: Int[Array, 'B N']) -> Int[Array, ' B']:
  """The index in `DENSITIES`, by how many pairs v, v + 1 a list has.

  Cut at a third and two thirds of the lists; those with as many pairs stay
  together, so that of random lists of 20 the groups have 35, 47 and 18 %.
  """
  pairs = np.array([(np.diff(np.unique(row)) == 1).sum() for row in values])
  return np.searchsorted(np.quantile(pairs, [1 / 3, 2 / 3]), pairs)


def accuracy_by_group(
  is_right: Bool[Array, ' B'], groups: Int[Array, ' B'], names: tuple[str, ...]
) -> dict[str, dict[str, float]]:
  """The accuracy of each group that occurs, its count and 95 % interval."""
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
