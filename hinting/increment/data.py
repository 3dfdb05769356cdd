"""Decimal numbers as text, in NumPy."""

import re

import numpy as np

from core.errors import UserError


def parse(line: str, *, max_length: int) -> np.ndarray:
  """Read a nonnegative integer.

  Args:
    line: decimal digits. Leading zeros are dropped.
    max_length: largest number of digits.

  Returns:
    The digits, most significant first, int32 [N].

  Raises:
    UserError: the line is not a nonnegative integer, or has too many digits.
  """
  word = line.strip(' \t\r\n')
  if not re.fullmatch('[0-9]+', word):
    raise UserError(
      f'{word[:40]!r} is not a nonnegative integer; expected digits, such as'
      ' 1399'
    )
  digits = word.lstrip('0') or '0'
  if len(digits) > max_length:
    raise UserError(
      f'{len(digits)} digits; expected at most {max_length}; to allow more, set'
      ' config.data.max_predict_length'
    )
  return np.array([int(digit) for digit in digits], np.int32)
