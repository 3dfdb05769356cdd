"""Answer lines of text, with many lines in one call on the device.

A thread reads ahead. A call takes up to 64 lines, and starts earlier if the
next line does not arrive within 0.05 seconds. A program may therefore write a
line to a pipe, and read its answer before it writes the next line.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from core.errors import UserError

_QUESTIONS_PER_CALL = 64
_PAUSE = 0.05  # seconds to wait for each further line before a call

Columns = Mapping[str, np.ndarray]


def answer_in_batches(
  items: Iterable[Any],
  *,
  parse: Callable[[Any], Columns],
  solve: Callable[[Columns], jax.Array | np.ndarray],
) -> Iterator[tuple[Any, Any]]:
  """Answer items such as lines or puzzles, in order, as they arrive.

  Args:
    items: items, which a thread reads. None stands for an item without a
      question, and a UserError for an item that could not be read; both are
      yielded as their own answers.
    parse: returns the columns of one item; may raise UserError.
    solve: maps columns with a leading axis B to answers [B, ...]. One call gets
      questions whose columns have the same shapes. B is 64, or 1 for a single
      question, so each shape is compiled at most twice.

  Yields:
    Each item, with its answer (a NumPy number or row), None, or a UserError
    that says what is wrong with the item.
  """
  for chunk in _chunks(items):
    parsed = [_parse(parse, item) for item in chunk]
    answers: list[Any] = [None] * len(chunk)
    by_shape = collections.defaultdict(list)
    for index, columns in enumerate(parsed):
      if isinstance(columns, Mapping):
        shapes = tuple((name, x.shape) for name, x in columns.items())
        by_shape[shapes].append(index)
      else:  # None or a UserError
        answers[index] = columns
    for indices in by_shape.values():
      rows = [parsed[index] for index in indices]
      if len(rows) > 1:  # pad to one batch size, which is compiled once
        rows += [rows[0]] * (_QUESTIONS_PER_CALL - len(rows))
      columns = {name: np.stack([x[name] for x in rows]) for name in rows[0]}
      solved = np.asarray(solve(columns))
      for index, answer in zip(indices, solved, strict=False):
        answers[index] = answer
    yield from zip(chunk, answers, strict=True)


def _parse(parse, item):
  if isinstance(item, UserError | None):
    return item
  try:
    return parse(item)
  except UserError as error:
    return error


@dataclasses.dataclass(frozen=True)
class _End:
  error: BaseException | None = None


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
  """Yield lists of up to 64 items, and wait up to `_PAUSE` for each next item.

  The reading thread is a daemon, so that the program can end while standard
  input is open and silent.
  """
  arrived = queue.Queue(_QUESTIONS_PER_CALL)
  is_wanted = True

  def read():
    end = _End()
    try:
      for item in items:
        arrived.put(item)
        if not is_wanted:
          return
    except BaseException as error:
      end = _End(error)
    arrived.put(end)

  threading.Thread(target=read, daemon=True).start()
  last = None
  try:
    while not isinstance(last, _End):
      chunk = [last := arrived.get()]
      with contextlib.suppress(queue.Empty):
        while not isinstance(last, _End) and len(chunk) < _QUESTIONS_PER_CALL:
          chunk.append(last := arrived.get(timeout=_PAUSE))
      yield [item for item in chunk if not isinstance(item, _End)]
    if last.error:
      raise last.error
  finally:
    is_wanted = False
    with contextlib.suppress(queue.Empty):
      while True:  # make space, so that a waiting reader can end
        arrived.get_nowait()
