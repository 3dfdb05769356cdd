"""Lists of integers, in NumPy: reading them from text.

A list is a line of integers, parted by spaces or commas.
"""

import re

import numpy as np

from core.errors import UserError


def parse(line: str, *, num_values: int, max_length: int) -> np.ndarray:
  """Reads a list of 1 to `max_length` values from 1 to `num_values`: int32 [n].

  Raises:
    UserError: no number, too many, or one that is no such value.
  """
  words = re.findall(r'[^\s,;]+', line)
  if not words:
    raise UserError('no numbers; expected as in 7 3 7 1')
  if len(words) > max_length:
    raise UserError(
      f'{len(words)} numbers; at most {max_length} expected, see'
      ' config.data.longest_list'
    )
  for word in words:
    if not (
      re.fullmatch(r'\+?[0-9]{1,9}', word) and 0 < int(word) <= num_values
    ):
      raise UserError(f'{word[:40]!r} is no integer from 1 to {num_values}')
  return np.array([int(word) for word in words], np.int32)
