"""Lists of integers as text, in NumPy."""

import collections
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.errors import UserError


def parse(line: str, *, num_values: int, max_length: int) -> np.ndarray:
  """Read a list of integers from 1 to `num_values`.

  Args:
    line: integers, separated by spaces, tabs, commas, or semicolons. Brackets
      around the list are allowed.
    num_values: largest value.
    max_length: largest number of values.

  Returns:
    The values, int32 [N], N at least 1.

  Raises:
    UserError: the line has no values, too many values, or a value out of range.
  """
  text = line.strip(' \t\r\n')
  if text.startswith('[') and text.endswith(']'):
    text = text[1:-1]
  words = re.findall(r'[^ \t,;]+', text)
  if not words:
    raise UserError('the line has no numbers; expected a list such as 7 3 7 1')
  if len(words) > max_length:
    raise UserError(
      f'{len(words)} numbers; expected at most {max_length}; to allow more, set'
      ' config.data.max_predict_length'
    )
  for word in words:
    is_integer = re.fullmatch(r'\+?[0-9]{1,9}', word)
    if not is_integer or not 0 < int(word) <= num_values:
      raise UserError(f'{word[:40]!r} is not an integer from 1 to {num_values}')
  return np.array([int(word) for word in words], np.int32)


def find_failure(answer: Sequence[Any], values: Sequence[Any]) -> str:
  """Return why an answer does not sort a list.

  Args:
    answer: values of the answer; None for a token that is not a value.
    values: values of the list.

  Returns:
    A verb phrase; '' if the answer sorts the list.
  """
  found = collections.Counter(answer)
  expected: collections.Counter[int | None] = collections.Counter(values)
  if found != expected:
    differences = ('lacks', expected - found), ('adds', found - expected)
    details = [
      f'{name} {_first(difference)}'
      for name, difference in differences
      if difference
    ]
    return f'is not a permutation of the list: it {" and ".join(details)}'
  # A permutation of the list has no None; the filter is for the type checker.
  predicted = [value for value in answer if value is not None]
  for before, after in itertools.pairwise(predicted):
    if before > after:
      return f'is not in ascending order: {before} comes before {after}'
  return ''


def _first(values: collections.Counter) -> str:
  """Return the three smallest values in ascending order, as text."""
  numbers = sorted(value or 0 for value in values.elements())
  words = [str(number or '?') for number in numbers]
  return ', '.join(words[:3]) + (', ...' if len(words) > 3 else '')
