"""Answer problems given as text; log wrong answers and the accuracy.

`answer_lines` answers one line at a time, and `answer_problems` answers many
problems in one call on the device.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from absl import logging

from core.batch_predict import Columns, answer_in_batches
from core.errors import UserError
from core.metrics import wilson_interval

_SEPARATOR = re.compile(r'->|=>|→|=|\||\boutput\b')


class Answer(NamedTuple):
  """The answer to one problem.

  Attributes:
    text: what `predict` prints.
    failure: what is wrong with the answer, as a verb phrase such as 'crosses
      itself'; '' if nothing is known to be wrong.
    is_correct: whether it matches the known answer; None if none is known.
    line: 1-based number of the first line of the problem; None if each line is
      a problem.
  """

  text: str
  failure: str = ''
  is_correct: bool | None = None
  line: int | None = None


def has_content(line: str) -> bool:
  """Return False for a blank line and for a comment, which starts with `#`."""
  text = line.strip()
  return bool(text) and not text.startswith('#')


def split_answer(line: str) -> tuple[str, str | None]:
  """Split a line into a question and its answer (None if it has none).

  The separator is `->`, `=>`, `→`, `=`, `|`, or the word `output`.

  Raises:
    UserError: the line has more than one separator.
  """
  question, *answers = _SEPARATOR.split(line)
  if len(answers) > 1:
    raise UserError(
      f'{len(answers)} separators between a question and its answer; expected'
      ' one, as in 3 1 2 -> 1 2 3'
    )
  return question, answers[0] if answers else None


def compare(text: str, expected: str) -> Answer:
  """Return the answer `text`, scored against the known answer."""
  if text == expected:
    return Answer(text, is_correct=True)
  return Answer(text, f'is {text}; expected {expected}', is_correct=False)


def map_lines(
  lines: Iterable[str], function: Callable[[str], Any]
) -> Iterator[Any]:
  """Apply a function to each line with content, as the lines arrive.

  Yields:
    For each line: the result, None for a blank line or a comment, or the
    UserError that the function raised.
  """
  for line in lines:
    try:
      yield function(line) if has_content(line) else None
    except UserError as error:
      yield error


def answer_lines(
  lines: Iterable[str], answer_line: Callable[[str], Answer]
) -> Iterator[str | UserError]:
  """Answer each line before the next one is read; see `report`.

  `answer_line` may raise UserError for a bad line.
  """
  return report(map_lines(lines, answer_line))


def answer_problems(
  problems: Iterable[Any],
  *,
  encode: Callable[[Any], Columns],
  solve: Callable[[Columns], Any],
  finish: Callable[[Any, Any], Answer | UserError],
) -> Iterator[str | UserError]:
  """Answer problems in batches, as they arrive; see `report`.

  Args:
    problems: problems, UserErrors, and None, as `map_lines` yields them.
    encode: returns the columns of one problem.
    solve: maps columns with a leading axis B to outputs [B, ...].
    finish: maps a problem and its output to its answer.
  """
  pairs = answer_in_batches(problems, parse=encode, solve=solve)
  return report(
    output if isinstance(output, UserError | None) else finish(problem, output)
    for problem, output in pairs
  )


def report(
  results: Iterable[Answer | UserError | None],
) -> Iterator[str | UserError]:
  """Yield the text of each result, and log which answers are wrong.

  Logs a warning with its line number for every answer that has a failure or
  does not match the known answer. At the end, logs the number of these answers
  and, if any answer is known, the accuracy with its 95 % confidence interval.

  Yields:
    The text of an answer, an unchanged UserError, or '' for None.
  """
  total = num_failures = 0
  scores = []
  for number, result in enumerate(results, start=1):
    if not isinstance(result, Answer):
      yield result or ''
      continue
    total += 1
    failure = result.failure
    if result.is_correct is not None:
      scores.append(result.is_correct)
      if not result.is_correct:
        failure = failure or 'differs from the known answer'
    if failure:
      num_failures += 1
      logging.warning('line %d: the answer %s', result.line or number, failure)
    yield result.text
  if num_failures:
    logging.warning('%d of %d answers failed a check', num_failures, total)
  if scores:
    correct, count = sum(scores), len(scores)
    low, high = wilson_interval(correct, count)
    # A warning, because `main.py` hides lower levels.
    logging.warning(
      'accuracy %.1f%% (95 %% confidence interval %.1f%% to %.1f%%): %d of %d'
      ' answers match the known answer',
      100 * correct / count,
      100 * low,
      100 * high,
      correct,
      count,
    )
