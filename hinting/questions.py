"""Lines of text with a question and, optionally, its answer.

A line of `predict` is a question, such as `3 1 2`, or a question and its
answer, such as `3 1 2 -> 1 2 3`. Predictions are scored against such answers.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from core import answers
from core.errors import UserError

_TWO_COLUMNS = re.compile(r'([^\t,;]+)[\t,;]([^\t,;]+)')


class Question(NamedTuple):
  """The values of a line, and whether the line contains an answer."""

  values: list[int]
  has_answer: bool


def read_line(
  line: str,
  *,
  parse: Callable[[str], np.ndarray],
  solve: Callable[[list[int]], str],
) -> Question:
  """Read a question, and check the answer on its line if there is one.

  Args:
    line: see `split_line`.
    parse: maps the text of a question to its values.
    solve: maps values to the correct answer.

  Raises:
    UserError: the line cannot be read, or its answer is wrong.
  """
  question, answer = split_line(line)
  values = parse(question).tolist()
  if answer is not None:
    check_answer(answer, solve(values))
  return Question(values, answer is not None)


def split_line(line: str) -> tuple[str, str | None]:
  """Split a line into a question and its answer.

  A separator of `core.answers.split_answer` precedes the answer. A single tab,
  comma, or semicolon also separates two lists of the same length, if each has
  at least two values.

  Args:
    line: a line of text.

  Returns:
    The question, and the answer or None.

  Raises:
    UserError: the line has more than one separator.
  """
  text = line.strip(' \t\r\n')
  question, answer = answers.split_answer(text)
  columns = _TWO_COLUMNS.fullmatch(text)
  if answer is None and columns:
    left, right = columns.groups()
    if len(left.split()) == len(right.split()) >= 2:
      return left, right
  return question, answer


def check_answer(given: str, expected: str):
  """Check that the answer on a line is correct.

  Args:
    given: the answer on the line. Commas, semicolons, and square brackets
      count as spaces.
    expected: the correct answer, with single spaces between values.

  Raises:
    UserError: the answers differ.
  """
  given = ' '.join(re.findall(r'[^ \t,;\[\]]+', given))
  if given != expected:
    raise UserError(
      f'the line has the answer {_shorten(given)}, which is wrong; expected'
      f' {_shorten(expected)}, or a line without an answer'
    )


def _shorten(text: str) -> str:
  return repr(text if len(text) <= 40 else f'{text[:40]}...')
