"""Every line gets its answer, in order, however the lines arrive."""

import threading
import time

import numpy as np
import pytest

from core import batch_predict
from core.errors import UserError

SHAPES = []  # of the columns of each call


def parse(line):
  if line == 'bad':
    raise UserError('what is wrong')
  return {'x': np.array(int(line))}


def solve(columns):
  SHAPES.append(columns['x'].shape)
  return np.stack([columns['x'], 2 * columns['x']], 1)


def answer_texts(texts):
  """Yield the answers to lines; an empty line has no question."""
  items = (text or None for text in texts)
  pairs = batch_predict.answer_in_batches(items, parse=parse, solve=solve)
  return (answer for _, answer in pairs)


@pytest.mark.parametrize('count', [0, 1, 63, 64, 65, 200])
def test_answers_come_in_order(count):
  texts = [('bad', '', str(n))[n % 3] for n in range(count)]
  SHAPES.clear()
  answers = list(answer_texts(texts))
  assert len(answers) == count
  for n, answer in enumerate(answers):
    if n % 3 == 0:
      assert isinstance(answer, UserError)
    elif n % 3 == 1:
      assert answer is None
    else:
      np.testing.assert_array_equal(answer, [n, 2 * n])
  assert set(SHAPES) <= {(1,), (64,)}  # compiled twice at most


def test_without_questions_nothing_is_called():
  SHAPES.clear()
  answers = answer_texts(['', ''])
  assert list(answers) == [None, None]
  assert not SHAPES


def test_fast_input_fills_the_chunks(monkeypatch):
  # A busy machine may take long to deliver the next line.
  monkeypatch.setattr(batch_predict, '_PAUSE', 30)
  SHAPES.clear()
  texts = [str(n) for n in range(128)]
  assert len(list(answer_texts(texts))) == 128
  assert SHAPES == [(64,), (64,)]


def test_answers_come_without_the_next_line():
  """A client may read the answers to some lines before it writes more.

  If an answer waited for a later line, both sides would wait forever.
  """
  answered = threading.Semaphore(0)

  def texts():
    for burst in (1, 1, 3, 2, 70):
      for _ in range(burst):
        yield str(burst)
      for _ in range(burst):
        assert answered.acquire(timeout=30)

  count = 0
  for answer in answer_texts(texts()):
    answered.release()
    count += 1
    assert answer[1] == 2 * answer[0]
  assert count == 77


def test_items_come_back_with_answers_by_shape(monkeypatch):
  monkeypatch.setattr(batch_predict, '_PAUSE', 30)
  items = [np.full(size, n) for n, size in enumerate((4, 9, 4, 9, 9, 16))]

  def total(columns):
    SHAPES.append(columns['x'].shape)
    return columns['x'].sum(1)

  SHAPES.clear()
  pairs = list(
    batch_predict.answer_in_batches(
      items, parse=lambda x: {'x': x}, solve=total
    )
  )
  assert all(x is item for (x, _), item in zip(pairs, items, strict=True))
  assert [answer for _, answer in pairs] == [x.sum() for x in items]
  assert sorted(SHAPES) == [(1, 16), (64, 4), (64, 9)]


def test_a_failure_while_reading_reaches_the_caller():
  def texts():
    yield '1'
    raise OSError('the disk')

  answers = answer_texts(texts())
  assert next(answers)[0] == 1
  with pytest.raises(OSError, match='the disk'):
    next(answers)


def test_a_caller_that_stops_ends_the_reader():
  before = threading.active_count()
  texts = (str(n) for n in range(1000))
  answers = answer_texts(texts)
  next(answers)
  answers.close()
  deadline = time.monotonic() + 30
  while threading.active_count() > before and time.monotonic() < deadline:
    time.sleep(0.01)
  assert threading.active_count() == before
