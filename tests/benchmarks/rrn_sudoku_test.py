"""The benchmark compares equals, and counts what its contenders compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import rrn_sudoku
from configs.rrn import sudoku
from core import compile
from rrn.sudoku.task import SudokuTask


def make_task(kind, message_layers):
  config = sudoku.get_config('cpu,source=generated')
  config.model.message_layers = message_layers
  config.model.burn_in = 0
  return kind(config)


@pytest.mark.parametrize(
  ('kind', 'message_layers'),
  [(SudokuTask, 1), (SudokuTask, 3), (rrn_sudoku.PlainTask, 3)],
)
def test_counted_operations_are_those_of_the_program(kind, message_layers):
  task = make_task(kind, message_layers)
  graphdef, params = nnx.split(nnx.eval_shape(task.make_model, nnx.Rngs(0)))
  num_boards = 4
  boards = jax.ShapeDtypeStruct((num_boards, 81), jnp.int32)

  def loss(params, boards):
    batch = {'puzzle': boards, 'solution': boards}
    return task.loss(nnx.merge(graphdef, params), batch, jax.random.key(0))[0]

  jaxpr = jax.make_jaxpr(jax.grad(loss))(params, boards)
  counted = rrn_sudoku.count_flops(
    task.model_config, is_plain=kind is rrn_sudoku.PlainTask
  )
  np.testing.assert_allclose(
    num_boards * counted, compile.matmul_flops(jaxpr.jaxpr), rtol=0.02
  )


def test_plain_network_equals_ours():
  boards = np.random.default_rng(0).integers(0, 10, (2, 81))
  ours, plain = (
    make_task(kind, 3).make_model(nnx.Rngs(0))
    for kind in (SudokuTask, rrn_sudoku.PlainTask)
  )

  @jax.jit
  def logits(boards):
    return ours(boards, num_steps=2), plain(boards, num_steps=2)

  np.testing.assert_allclose(*logits(boards), atol=1e-5)
