"""Numbers as text, in NumPy: one a line, in decimal digits."""

import re

import numpy as np

from core.errors import UserError


def parse(line: str, *, max_length: int) -> np.ndarray:
  """Reads a number: its digits, most significant first, int32 [n].

  Zeros before the first other digit are left out.

  Raises:
    UserError: it is no number, is negative, or has more than `max_length`
      digits.
  """
  word = line.strip()
  if not re.fullmatch('[0-9]+', word):
    raise UserError(f'{word[:40]!r} is no number; expected as in 1399')
  digits = word.lstrip('0') or '0'
  if len(digits) > max_length:
    raise UserError(
      f'{len(digits)} digits; at most {max_length} expected, see'
      ' config.data.longest_list'
    )
  return np.array([int(digit) for digit in digits], np.int32)
