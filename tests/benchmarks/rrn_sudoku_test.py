"""The contenders agree; a difference between logits is an error."""

import numpy as np
import pytest

from benchmarks import harness, rrn_sudoku, sudoku_plain

pytestmark = pytest.mark.slow


def make_inputs(network):
  """Return a config, and a random batch for it."""
  config = rrn_sudoku.make_config(
    network, batch_size=16, num_steps=2, microbatch_size=1
  )
  boards = np.random.default_rng(0).integers(0, 10, (16, 81))
  return config, {'puzzle': boards, 'solution': np.maximum(boards, 1)}


@pytest.mark.parametrize('network', rrn_sudoku.PROGRAMS)
def test_contenders_agree_and_run(network):
  config, boards = make_inputs(network)
  contenders = rrn_sudoku.make_contenders(config, boards)
  assert {'plain form', 'ours'} <= set(contenders)
  limits = rrn_sudoku.make_limits(config, 8)
  case = harness.Case(network, contenders, 32, limits=limits)
  rows = harness.measure(case, 1, 'board_steps')
  assert all(row['metrics']['gflop_per_second'] for row in rows.values())


def test_a_difference_is_an_error(monkeypatch):
  pass_messages = sudoku_plain.reference.pass_messages
  monkeypatch.setattr(
    sudoku_plain.reference,
    'pass_messages',
    lambda *args, **options: pass_messages(*args, **options) * 1.01,
  )
  contenders = rrn_sudoku.make_contenders(*make_inputs('cells'))
  with pytest.raises(ArithmeticError, match='plain form'):
    harness.measure(harness.Case('boards', contenders, 16), 1, 'board_steps')


def test_a_contender_without_a_compiler_is_left_out(monkeypatch, capsys):
  torch = pytest.importorskip('torch')

  def compiler(step, **options):
    def fail(*args):
      raise RuntimeError('no C++ compiler')

    return fail

  monkeypatch.setattr(torch, 'compile', compiler)
  contenders = rrn_sudoku.make_contenders(*make_inputs('candidates'))
  assert 'PyTorch eager' in contenders
  assert not any('compiled' in name for name in contenders)
  printed = capsys.readouterr().out
  assert 'skipping PyTorch compiled: no C++ compiler\n' in printed
