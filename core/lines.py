"""Answers to lines of text, many lines in one call of the device."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from core.errors import UserError

_AT_ONCE = 64  # lines in a call


def answer_lines(
  lines: Iterable[str],
  *,
  parse: Callable[[str], Mapping[str, np.ndarray] | None],
  solve: Callable[[Mapping[str, np.ndarray]], jax.Array],
) -> Iterator[Any]:
  """Answers each line, in order.

  Args:
    lines: of text.
    parse: the columns of one line, or None where it asks nothing; raises
      UserError.
    solve: the answers, [B] or rows [B, ...], to columns with a leading axis B,
      which is the same in all calls.

  Yields:
    For each line its answer (a NumPy number or row), None where it asks
    nothing, or the UserError that says what is wrong with it.
  """
  lines = iter(lines)
  while chunk := list(itertools.islice(lines, _AT_ONCE)):
    parsed = [_parse(parse, line) for line in chunk]
    asked = [item for item in parsed if isinstance(item, Mapping)]
    answers = iter(())
    if asked:
      asked += [asked[0]] * (_AT_ONCE - len(asked))
      columns = {name: np.stack([x[name] for x in asked]) for name in asked[0]}
      answers = iter(np.asarray(solve(columns)))
    for item in parsed:
      yield next(answers) if isinstance(item, Mapping) else item


def _parse(parse, line: str):
  try:
    return parse(line)
  except UserError as error:
    return error
