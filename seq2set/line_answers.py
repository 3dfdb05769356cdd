"""Answer the lines of a text: one answer per line, scored where possible."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from absl import logging

from core.errors import UserError
from core.metrics import wilson_interval


class Answer(NamedTuple):
  """The answer to one line.

  Attributes:
    text: what `predict` prints.
    failure: the rule that the answer breaks, as a verb phrase such as 'crosses
      itself'; '' if it breaks none.
    is_correct: whether it equals the answer that the line carries; None if the
      line carries none.
  """

  text: str
  failure: str = ''
  is_correct: bool | None = None


def has_content(line: str) -> bool:
  """Return False for a blank line and for a comment, which starts with `#`."""
  text = line.strip()
  return bool(text) and not text.startswith('#')


def answer_lines(
  lines: Iterable[str], answer_line: Callable[[str], Answer]
) -> Iterator[str | UserError]:
  """Answer each line as soon as it arrives.

  Logs a warning for every answer that breaks a rule, with its line number. At
  the end, logs the accuracy if lines carry their answers.

  Args:
    lines: input lines.
    answer_line: answers one line; raises UserError for a bad one.

  Yields:
    The text of the answer, '' for a blank line or a comment, or the UserError
    that says what is wrong with the line.
  """
  num_answers = num_failures = 0
  scores = []
  for number, line in enumerate(lines, start=1):
    if not has_content(line):
      yield ''
      continue
    try:
      answer = answer_line(line)
    except UserError as error:
      yield error
      continue
    num_answers += 1
    if answer.failure:
      num_failures += 1
      logging.warning('line %d: the answer %s', number, answer.failure)
    if answer.is_correct is not None:
      scores.append(answer.is_correct)
    yield answer.text
  if num_failures:
    logging.warning(
      '%d of %d answers break a rule of the task', num_failures, num_answers
    )
  if scores:
    logging.warning('%s', format_accuracy(sum(scores), len(scores)))


def format_accuracy(num_correct: int, count: int) -> str:
  """Format an accuracy with its count and its 95 % Wilson interval."""
  low, high = wilson_interval(num_correct, count)
  return (
    f'accuracy {num_correct / count:.1%} (95 % interval {low:.1%} to'
    f' {high:.1%}): {num_correct} of {count} answers equal those of the input'
  )
