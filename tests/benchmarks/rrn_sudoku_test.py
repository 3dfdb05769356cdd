"""The benchmark compares equals, and counts what its contenders compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import rrn_sudoku, sudoku_plain
from configs.rrn import sudoku
from core.aot import compile
from rrn.sudoku.task import SudokuTask
from tests.rrn import perturbed

pytestmark = pytest.mark.slow

NETWORKS = tuple(rrn_sudoku.PROGRAMS)


def make_config(network, *, message_layers=3, num_steps=2):
  config = sudoku.get_config(f'cpu,source=generated,network={network}')
  config.model.message_layers = message_layers
  config.model.num_steps = num_steps
  config.model.burn_in = 0
  return config


def random_boards(count):
  return np.random.default_rng(0).integers(0, 10, (count, 81))


@pytest.mark.parametrize(
  ('network', 'kind', 'message_layers'),
  [
    ('cells', SudokuTask, 1),
    ('cells', SudokuTask, 3),
    ('cells', sudoku_plain.PlainTask, 3),
    ('candidates', SudokuTask, 1),
    ('candidates', sudoku_plain.PlainTask, 1),
  ],
)
def test_counted_operations_are_those_of_the_program(
  network, kind, message_layers
):
  task = kind(make_config(network, message_layers=message_layers, num_steps=16))
  graphdef, params = nnx.split(nnx.eval_shape(task.make_model, nnx.Rngs(0)))
  num_boards = 4
  boards = jax.ShapeDtypeStruct((num_boards, 81), jnp.int32)

  def loss(params, boards):
    batch = {'puzzle': boards, 'solution': boards}
    return task.loss(nnx.merge(graphdef, params), batch, jax.random.key(0))[0]

  jaxpr = jax.make_jaxpr(jax.grad(loss))(params, boards)
  counted = sudoku_plain.count_flops(
    task.model_config, is_plain=kind is sudoku_plain.PlainTask
  )
  np.testing.assert_allclose(
    num_boards * counted, compile.matmul_flops(jaxpr.jaxpr), rtol=0.02
  )


@pytest.mark.parametrize('network', NETWORKS)
def test_plain_form_equals_ours(network):
  boards, logits = random_boards(2), []
  for kind in SudokuTask, sudoku_plain.PlainTask:
    model = kind(make_config(network)).make_model(nnx.Rngs(0))
    graphdef, params = perturbed.split(model)
    solve = jax.jit(
      lambda *args, g=graphdef: nnx.merge(g, args[0])(args[1], num_steps=2)
    )
    logits.append(solve(params, boards))
  np.testing.assert_allclose(*logits, atol=rrn_sudoku.TOLERANCE)


@pytest.mark.parametrize('network', NETWORKS)
def test_twins_equal_ours_and_train(network):
  pytest.importorskip('torch')
  config, boards = make_config(network), random_boards(4)
  config.batch_size, config.microbatch_size = 4, 2
  model = SudokuTask(config).make_model(nnx.Rngs(0))
  graphdef, params = perturbed.split(model)
  ours = nnx.merge(graphdef, params)(jnp.asarray(boards), num_steps=2)
  batch = {'puzzle': boards, 'solution': np.maximum(boards, 1)}
  twins, logits = rrn_sudoku.make_twins(
    config, params, batch, compiler=lambda step: step
  )
  for name, twin in twins.items():
    values = logits[name]
    np.testing.assert_allclose(
      values, ours[:, : values.shape[1]], atol=rrn_sudoku.TOLERANCE
    )
    twin.update()
    trained = twin.logits(twin.puzzles).detach().numpy()
    assert np.abs(trained - ours).max() > 1e-4


def test_contenders_without_a_compiler_are_left_out(capsys):
  pytest.importorskip('torch')
  config, boards = make_config('candidates', num_steps=1), random_boards(2)
  config.batch_size = config.microbatch_size = 2
  model = SudokuTask(config).make_model(nnx.Rngs(0))
  params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

  def compiler(step):
    def fail(*args):
      raise RuntimeError('no C++ compiler')

    return fail

  twins, _ = rrn_sudoku.make_twins(
    config, params, {'puzzle': boards, 'solution': boards}, compiler=compiler
  )
  assert all('compiled' not in name for name in twins)
  printed = capsys.readouterr().out
  assert printed == 'skipping PyTorch compiled: no C++ compiler\n'
