"""Numbers to sort, in NumPy: reading them from text.

A set is a line of numbers, parted by spaces or commas.
"""

import re

import numpy as np

from core.errors import UserError

MAX_NUMBERS = 1000


def parse(line: str) -> tuple[list[str], np.ndarray]:
  """Reads a set: its numbers as they are written, and as float64 [N].

  Raises:
    UserError: no number, too many, or something that is none.
  """
  words = re.findall(r'[^\s,;]+', line)
  if not words:
    raise UserError('no numbers; expected as in 0.3 0.1 0.2')
  if len(words) > MAX_NUMBERS:
    raise UserError(f'{len(words)} numbers; at most {MAX_NUMBERS} expected')
  values = np.zeros(len(words))
  for index, word in enumerate(words):
    try:
      values[index] = float(word)
    except ValueError:
      raise UserError(f'{word[:40]!r} is no number') from None
    if not np.isfinite(values[index]):
      raise UserError(f'{word[:40]!r} is not finite')
  return words, values


def rescale(values: np.ndarray) -> np.ndarray:
  """Maps numbers [N] into (0, 1), where networks are trained, in float32.

  The smallest and the largest go where those of N uniform numbers are on
  average. Numbers that differ by less than float32 can tell become equal.
  """
  count = len(values)
  # Halves, so that the difference of two finite numbers is finite.
  low, width = values.min() / 2, values.max() / 2 - values.min() / 2
  share = (values / 2 - low) / width if width > 0 else np.full(count, 0.5)
  return ((1 + (count - 1) * share) / (count + 1)).astype(np.float32)
