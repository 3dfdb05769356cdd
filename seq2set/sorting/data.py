"""Sets of numbers, in NumPy: parsed from text, and rescaled.

One line is one set: numbers separated by spaces, commas or semicolons, with or
without brackets. A line may carry its answer, the sorted numbers, after the
word `output`, an arrow (`->`, `=>`), an equals sign or a vertical bar:

  0.3 0.1 0.2 output 0.1 0.2 0.3
"""

import re

import numpy as np

from core.errors import UserError

MAX_NUMBERS = 1000


def parse_example(
  question: str, answer: str | None
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
  """Parse a set and the answer that its line carries, if any.

  Args:
    question: the text of the set.
    answer: the text of the answer; None if the line carries none.

  Returns:
    The numbers as they are written; their values, float64 [N]; and the answer,
    float64 [N], or None if the line carries none.

  Raises:
    UserError: a part is not a set, or the answer is not the numbers of the set
      in ascending order.
  """
  words, values = parse(question)
  if answer is None:
    return words, values, None
  _, expected = parse(answer)
  if not np.array_equal(np.sort(values), np.sort(expected)):
    raise UserError(
      'the numbers of the answer differ from those of the set; expected the'
      ' same numbers in ascending order'
    )
  if (np.diff(expected) < 0).any():
    raise UserError('the numbers of the answer are not in ascending order')
  return words, values, expected


def parse(line: str) -> tuple[list[str], np.ndarray]:
  """Parse a set: its numbers as they are written, and as float64 [N].

  Raises:
    UserError: the line has no numbers, more than `MAX_NUMBERS`, or a word that
      is not a finite number.
  """
  words = re.findall(r'[^\s,;]+', re.sub(r'^\s*\[|\]\s*$', '', line))
  if not words:
    raise UserError('no numbers; expected a line such as 0.3 0.1 0.2')
  if len(words) > MAX_NUMBERS:
    raise UserError(f'{len(words)} numbers; expected at most {MAX_NUMBERS}')
  values = np.zeros(len(words))
  for index, word in enumerate(words):
    try:
      values[index] = float(word)
    except ValueError:
      raise UserError(
        f'{word[:40]!r} is not a number; expected a line such as 0.3 0.1 0.2'
      ) from None
    if not np.isfinite(values[index]):
      raise UserError(f'{word[:40]!r} is not finite; expected finite numbers')
  return words, values


def rescale(values: np.ndarray) -> np.ndarray:
  """Map numbers [N] to (0, 1), the range of the training sets, in float32.

  The smallest and the largest number are mapped to the expected minimum and
  maximum of N uniform samples. Numbers closer than the precision of float32
  become equal.
  """
  count = len(values)
  # The difference of two finite numbers may overflow; that of halves does not.
  low, width = values.min() / 2, values.max() / 2 - values.min() / 2
  if width > 0:
    share = (values / 2 - low) / width
  else:
    share = np.full(count, 0.5)
  return ((1 + (count - 1) * share) / (count + 1)).astype(np.float32)
