"""The benchmark compares equals: it raises where outputs differ."""

import pytest

from benchmarks import seq2set

pytestmark = pytest.mark.slow


def make_contenders():
  config = seq2set.make_config(8, set_size=4, num_process_steps=3, width=16)
  return seq2set.make_contenders(config)


def test_contenders_agree_and_run():
  for calls in make_contenders():
    assert {'plain form', 'ours'} <= set(calls)
    for call in calls.values():
      call()


def test_a_difference_is_noticed(monkeypatch):
  plain_process = seq2set.plain_process
  monkeypatch.setattr(
    seq2set,
    'plain_process',
    lambda *args, **options: plain_process(*args, **options) * 1.01,
  )
  with pytest.raises(ArithmeticError, match='plain form'):
    make_contenders()
