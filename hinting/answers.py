"""Lines of text that ask a question and may carry its answer.

A line of `predict` holds a question, such as `3 1 2`, or a question and its
answer, such as `3 1 2 -> 1 2 3`. Predictions are scored against such answers.
"""

import re
from collections.abc import Callable

import numpy as np

from core import metrics
from core.errors import UserError

_SEPARATOR = re.compile(r'->|=>|→|=|\||\boutput\b')
_TWO_COLUMNS = re.compile(r'([^\t,;]+)[\t,;]([^\t,;]+)')


def read_line(
  line: str,
  *,
  parse: Callable[[str], np.ndarray],
  solve: Callable[[list[int]], str],
) -> tuple[list[int], bool] | None:
  """Read a question, and check the answer that its line may carry.

  Args:
    line: See `split_line`.
    parse: Maps the text of a question to its values.
    solve: Maps values to the right answer.

  Returns:
    The values and whether the line carries the answer, None without a question.

  Raises:
    UserError: The line cannot be read, or its answer is wrong.
  """
  parts = split_line(line)
  if parts is None:
    return None
  question, answer = parts
  values = parse(question).tolist()
  if answer is not None:
    check_answer(answer, solve(values))
  return values, answer is not None


def split_line(line: str) -> tuple[str, str | None] | None:
  """Split a line into a question and the answer that it carries.

  Args:
    line: A line of text. `->`, `=>`, `→`, `=`, `|`, or the word `output`
      separates the answer. A single tab, comma, or semicolon does so between
      two lists of the same length, of at least two values each.

  Returns:
    The question, and the answer or None. None for a blank line and for a
    comment, which starts with `#`.

  Raises:
    UserError: The line has more than one separator.
  """
  text = line.strip(' \t\r\n')
  if not text or text.startswith('#'):
    return None
  parts = _SEPARATOR.split(text)
  if len(parts) > 2:
    raise UserError(
      f'{len(parts) - 1} separators between a question and its answer;'
      ' expected one, as in 3 1 2 -> 1 2 3'
    )
  if len(parts) == 2:
    return parts[0], parts[1]
  columns = _TWO_COLUMNS.fullmatch(text)
  if columns:
    question, answer = columns.groups()
    if len(question.split()) == len(answer.split()) >= 2:
      return question, answer
  return text, None


def check_answer(given: str, expected: str):
  """Raise an error if the answer on a line is not the right one.

  Args:
    given: The answer on the line. Commas, semicolons, and brackets are ignored.
    expected: The right answer, with single spaces between values.

  Raises:
    UserError: They differ.
  """
  given = ' '.join(re.findall(r'[^ \t,;\[\]]+', given))
  if given != expected:
    raise UserError(
      f'the line carries the answer {_shorten(given)}, which is wrong; expected'
      f' {_shorten(expected)}, or a line without an answer'
    )


def accuracy_text(num_right: int, num_answers: int) -> str:
  """Return the accuracy on lines that carry an answer, with its interval."""
  low, high = metrics.wilson_interval(num_right, num_answers)
  return (
    f'accuracy {num_right / num_answers:.1%} on {num_answers} lines that carry'
    f' their answer (95 % confidence interval {low:.1%} to {high:.1%})'
  )


def _shorten(text: str) -> str:
  return repr(text if len(text) <= 40 else f'{text[:40]}...')
