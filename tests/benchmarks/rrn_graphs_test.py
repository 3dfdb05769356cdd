"""The contenders agree; a difference between states is an error."""

import dataclasses

import pytest

from benchmarks import harness, rrn_graphs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('name', rrn_graphs.CASES)
def test_contenders_agree_and_run(name):
  case = dataclasses.replace(rrn_graphs.CASES[name], width=16)
  contenders = rrn_graphs.make_contenders(case, batch_size=8)
  assert {'plain form', 'ours'} <= set(contenders)
  harness.measure(harness.Case(name, contenders, 8), 1, 'graphs')


def test_a_difference_is_an_error(monkeypatch):
  case = dataclasses.replace(rrn_graphs.CASES['Pretty-CLEVR'], width=16)
  pass_messages = rrn_graphs.reference.pass_messages
  monkeypatch.setattr(
    rrn_graphs.reference,
    'pass_messages',
    lambda *args, **options: pass_messages(*args, **options) * 1.01,
  )
  contenders = rrn_graphs.make_contenders(case, batch_size=8)
  with pytest.raises(ArithmeticError, match='plain form'):
    harness.measure(harness.Case('graphs', contenders, 8), 1, 'graphs')
