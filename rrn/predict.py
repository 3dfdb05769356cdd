"""Answer the problems of a text line by line, and score the answers."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from core import metrics
from core.errors import UserError
from core.lines import answer_in_batches

Columns = Mapping[str, np.ndarray]
Problem = Columns | UserError | None


def parse_lines(
  lines: Iterable[str], parse: Callable[[str], Columns]
) -> Iterator[Problem]:
  """Parse a text with one problem per line.

  Yields:
    For each line its columns, None if the line is blank or starts with '#', or
    the UserError that `parse` raised.
  """
  for line in lines:
    if not line.strip() or line.lstrip().startswith('#'):
      yield None
      continue
    try:
      yield parse(line)
    except UserError as error:
      yield error


def answer_problems(
  problems: Iterable[Problem],
  solve: Callable[[Columns], jax.Array],
  names: Sequence[str],
) -> Iterator[str | UserError]:
  """Answer problems in order, as they arrive.

  Logs a warning for each wrong answer, and the accuracy at the end.

  Args:
    problems: what each input line holds. Column 'answer' is the class of the
      known answer, or -1 if no answer is known.
    solve: maps columns with a leading axis B to the predicted classes [B].
    names: text of each class.

  Yields:
    For each line the predicted answer, '' if the line has no problem, or the
    UserError that says what is wrong with it.
  """
  score = AnswerScore()
  results = answer_in_batches(problems, parse=_raise_error, solve=solve)
  for line, (problem, result) in enumerate(results, start=1):
    if result is None:
      yield ''
    elif isinstance(result, UserError):
      yield result
    else:
      answer, expected = names[int(result)], int(problem['answer'])
      if expected >= 0:
        score.add(line, answer, names[expected])
      yield answer
  score.log_accuracy()


def _raise_error(problem: Problem) -> Columns | None:
  if isinstance(problem, UserError):
    raise problem
  return problem


@dataclasses.dataclass
class AnswerScore:
  """Counts right answers and names the input lines of wrong ones.

  Attributes:
    num_right: answers that equal the known answer.
    num_scored: answers whose known answer is given.
  """

  num_right: int = 0
  num_scored: int = 0

  def add(self, line: int, answer: str, expected: str):
    """Count one answer, and log a warning with its line if it is wrong.

    Args:
      line: number of the input line, from 1.
      answer: the predicted answer.
      expected: the known answer.
    """
    self.num_scored += 1
    if answer == expected:
      self.num_right += 1
    else:
      logging.warning(
        'line %d: the answer %s is wrong; %s is right', line, answer, expected
      )

  def log_accuracy(self):
    """Log the accuracy with its 95 % confidence interval, if any was scored."""
    if not self.num_scored:
      return
    low, high = metrics.wilson_interval(self.num_right, self.num_scored)
    logging.warning(
      'accuracy: %.1f %% (95 %% confidence interval: %.1f to %.1f %%), %d of %d'
      ' answers are right',
      100 * self.num_right / self.num_scored,
      100 * low,
      100 * high,
      self.num_right,
      self.num_scored,
    )
