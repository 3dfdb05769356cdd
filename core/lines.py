"""Answer lines of text, many in one call of the device.

A thread reads ahead. A call takes the lines that have arrived, and no answer
waits for a later line: a program may write one line to a pipe and read its
answer before it writes the next.
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

_AT_ONCE = 64  # questions in a call
_PAUSE = 0.05  # seconds without a new line after which a call goes ahead

Columns = Mapping[str, np.ndarray]


def answer_in_batches(
  items: Iterable[Any],
  *,
  parse: Callable[[Any], Columns],
  solve: Callable[[Columns], jax.Array | np.ndarray],
) -> Iterator[tuple[Any, Any]]:
  """Answer items such as lines or puzzles, in order, as they arrive.

  Args:
    items: read in a thread. None stands for an item without a question, and a
      UserError for one that could not be read; they are their own answers.
    parse: returns the columns of one item; raises UserError.
    solve: maps columns with a leading axis B to answers, [B] or rows [B, ...].
      It gets questions together whose columns have the same shapes. B is 64, or
      1 for a question that came alone: two compilations per shape.

  Yields:
    Each item with its answer (a NumPy number or row), None, or the UserError
    that says what is wrong with it.
  """
  for chunk in _chunks(items):
    answers = [_parse(parse, item) for item in chunk]
    places = collections.defaultdict(list)
    for place, columns in enumerate(answers):
      if isinstance(columns, Mapping):
        shapes = tuple((name, x.shape) for name, x in columns.items())
        places[shapes].append(place)
    for same in places.values():
      asked = [answers[place] for place in same]
      asked += [asked[0]] * (_AT_ONCE - len(asked) if len(asked) > 1 else 0)
      columns = {name: np.stack([x[name] for x in asked]) for name in asked[0]}
      for place, answer in zip(same, np.asarray(solve(columns)), strict=False):
        answers[place] = answer
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
  """Yield lists of up to 64 items; no item waits long for another.

  The reading thread is a daemon: the program can end while standard input is
  open and silent.
  """
  arrived = queue.Queue(_AT_ONCE)
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
        while not isinstance(last, _End) and len(chunk) < _AT_ONCE:
          chunk.append(last := arrived.get(timeout=_PAUSE))
      yield [item for item in chunk if not isinstance(item, _End)]
    if last.error:
      raise last.error
  finally:
    is_wanted = False
    with contextlib.suppress(queue.Empty):
      while True:  # a reader that waits for space sees that it may end
        arrived.get_nowait()
