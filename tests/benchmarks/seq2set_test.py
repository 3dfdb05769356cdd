"""The contenders agree; a difference between outputs is an error."""

import pytest

from benchmarks import harness, seq2set

pytestmark = pytest.mark.slow


def make_contenders():
  config = seq2set.make_config(8, set_size=4, num_process_steps=3, width=16)
  return seq2set.make_contenders(config)


def test_contenders_agree_and_run():
  for contenders in make_contenders():
    assert {'plain form', 'ours'} <= set(contenders)
    harness.measure(harness.Case('sets', contenders, 8), 1, 'sets')


def test_a_difference_is_an_error(monkeypatch):
  plain_process = seq2set.plain_process
  monkeypatch.setattr(
    seq2set,
    'plain_process',
    lambda *args, **options: plain_process(*args, **options) * 1.01,
  )
  blocks, _ = make_contenders()
  with pytest.raises(ArithmeticError, match='plain form'):
    harness.measure(harness.Case('Process', blocks, 8), 1, 'sets')
