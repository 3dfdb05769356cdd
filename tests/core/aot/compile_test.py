"""Compilation for chips that are not attached: costs and errors."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from configs.seq2set import sorting
from core import inference
from core.aot import compile
from core.errors import UserError
from core.report import results
from tests.configs import smoke_test
from tests.core import toy_task

TPU = (
  pytest.mark.tpu,
  pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason='needs --extra tpu'
  ),
)


def on_tpu(test):
  """Mark a test that needs libtpu but no TPU."""
  for mark in TPU:
    test = mark(test)
  return test


@pytest.fixture(autouse=True)
def settings():
  """Enable the compiler optimizations that other tests disable."""
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)
  jax.config.update('jax_enable_compilation_cache', True)


def test_flops_of_loops_and_branches():
  def products(x):  # [8, 16]
    def body(x, _):
      return jnp.tanh(x @ jnp.ones((16, 16))), None

    x, _ = jax.lax.scan(body, x, length=5)
    return jax.jit(lambda x: x.T @ x)(x)

  traced = jax.jit(products).trace(jnp.zeros((8, 16)))
  expected = 5 * 2 * 8 * 16 * 16 + 2 * 16 * 8 * 16
  assert compile.matmul_flops(traced.jaxpr.jaxpr) == expected


def test_flops_of_a_convolution_and_its_gradient():
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(2, 2),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  image, kernel = jnp.zeros((4, 8, 8, 3)), jnp.zeros((3, 3, 3, 10))
  forward = 2 * (4 * 4 * 4 * 10) * (3 * 3 * 3)
  traced = jax.jit(convolve).trace(image, kernel)
  assert compile.matmul_flops(traced.jaxpr.jaxpr) == forward
  gradient = jax.grad(lambda *args: convolve(*args).sum(), argnums=(0, 1))
  traced = jax.jit(gradient).trace(image, kernel)
  total = compile.matmul_flops(traced.jaxpr.jaxpr)
  assert 2 * forward <= total <= 4 * forward  # includes products with padding


def test_flops_of_all_shards():
  mesh = jax.make_mesh(
    (2, 2), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2
  )
  layer = jax.shard_map(
    lambda x, kernel: x @ kernel,
    mesh=mesh,
    in_specs=(P(('data', 'fsdp')), P()),
    out_specs=P(('data', 'fsdp')),
  )
  traced = jax.jit(layer).trace(jnp.zeros((8, 16)), jnp.zeros((16, 4)))
  assert compile.matmul_flops(traced.jaxpr.jaxpr) == 2 * 8 * 16 * 4


def test_flops_are_those_of_the_platform():
  def layer(x):
    return jax.lax.platform_dependent(
      x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x
    )

  x = jnp.zeros((4, 4))
  traced = jax.jit(layer).trace(x)
  assert compile.matmul_flops(traced.jaxpr.jaxpr) == 2 * 4**3
  traced = jax.jit(jax.grad(lambda x: layer(x).sum())).trace(x)
  assert compile.matmul_flops(traced.jaxpr.jaxpr) == 3 * 2 * 4**3


@pytest.mark.parametrize('name', ['v5e:3x3', 'v4:2x2x1', 'v5e', '', 'v5p:4x4'])
def test_unknown_topology_lists_the_known(name):
  with pytest.raises(UserError, match=r'--topology=.*v5e:4x4, .*v5p:2x2x1'):
    compile.report(toy_task.make_config(), [name])


def test_missing_libtpu_names_the_extra(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match='uv run --extra tpu main.py'):
    compile.report(toy_task.make_config(), ['v5e:4x4'])


def test_the_result_file_repeats_its_command(monkeypatch, tmp_path, capsys):
  row = {'chips': 4, 'batch': 16, 'metrics': {'training/time_ms': {'value': 2}}}
  monkeypatch.setattr(compile, 'measure', lambda config, names: {names[0]: row})
  monkeypatch.setattr(compile.metadata, 'version', lambda package: '1.2')
  config = toy_task.make_config(task='a.b')
  flag = f'{results.ROOT}/configs/a/b.py:source=c'
  overrides = {'mesh.data': 2, 'data.dir': '/home/me'}
  names = ['v5e:2x2', 'v5e:4x4']
  printed = compile.report(config, names, str(tmp_path), flag, overrides)
  assert '| training/time_ms | 2 |' in printed
  table = results.read(tmp_path / 'a/b/compile_v5e_2x2_source_c.json')
  assert table['rows'] == {'v5e:2x2': row}
  assert table['versions']['libtpu'] == '1.2'
  assert table['command'] == (
    'uv run --extra tpu main.py --mode=compile --topology=v5e:2x2,v5e:4x4'
    ' --config=configs/a/b.py:source=c --config.mesh.data=2'
  )


def test_a_result_folder_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='--results'):
    compile.report(toy_task.make_config(), ['v5e:4x4'], f'{tmp_path}/file')


def compiled(config, task, names, monkeypatch):
  """Return rows with numbers in place of metrics."""
  monkeypatch.setattr(inference, 'make_task', lambda config: task)
  rows = compile.measure(config, names)
  assert list(rows) == names
  for row in rows.values():
    row |= {name: entry['value'] for name, entry in row['metrics'].items()}
  return rows


@on_tpu
def test_costs_of_a_config(monkeypatch):
  config = sorting.get_config('smoke')
  task = inference.make_task(config)
  test = task.evaluators()['test']
  monkeypatch.setattr(task, 'evaluators', lambda: {'test': test})
  row = compiled(config, task, ['v5e:2x2'], monkeypatch)['v5e:2x2']
  assert row['chips'] == 4 and row['batch'] == 128
  assert row['chip_memory_mb'] == 16_000
  assert 0.1 < row['training/memory_mb'] < 100
  assert row['largest_evaluation/memory_mb'] == row['evaluation/test/memory_mb']
  for name in 'matmul_gflop', 'traffic_mb', 'time_ms', 'all_reduce_mb':
    assert 0 < row[f'training/{name}'] < 10
  assert row['training/examples_per_second'] == pytest.approx(
    128 / (row['training/time_ms'] / 1000), rel=1e-4
  )
  assert 0 < row['training/peak_percent'] < 100


@on_tpu
def test_batch_grows_with_the_chips(monkeypatch):
  one, four = compiled(
    toy_task.make_config(steps_per_call=2),
    toy_task.ToyTask(),
    ['v5e:1x1', 'v5e:2x2'],
    monkeypatch,
  ).values()
  assert (one['chips'], one['batch']) == (1, 16)
  assert (four['chips'], four['batch']) == (4, 64)
  # Each chip does the same work, and a single chip does not communicate.
  assert one['training/matmul_gflop'] == four['training/matmul_gflop']
  assert one['training/all_reduce_count'] == 0
  assert four['training/all_reduce_count'] > 0


@on_tpu
@pytest.mark.parametrize(
  'name, memory', [('v5p:2x2x1', 95_000), ('v6e:2x2', 32_000)]
)
def test_other_chips(monkeypatch, name, memory):
  config, task = toy_task.make_config(), toy_task.ToyTask()
  row = compiled(config, task, [name], monkeypatch)[name]
  assert row['chips'] == 4 and row['chip_memory_mb'] == memory
  assert row['training/memory_mb'] < memory


@on_tpu
@pytest.mark.campaign
@pytest.mark.parametrize('module', smoke_test.MODULES)
def test_paper_sizes_fit(monkeypatch, module):
  """Compile the training call, with a few rows in place of the data."""
  config = smoke_test.get_config(module, 'paper')
  if config.batch_size % 16:  # the paper's batch has 20 texts
    config.mesh.data, config.mesh.tensor = 4, 4
  task = inference.make_task(config)
  columns = smoke_test.STAND_INS.get(config.task, lambda _: {})(config)
  arrays = {name: np.zeros(*column) for name, column in columns.items()}
  monkeypatch.setattr(task, 'arrays', lambda split: arrays)
  monkeypatch.setattr(task, 'evaluators', dict)
  row = compiled(config, task, ['v5e:4x4'], monkeypatch)['v5e:4x4']
  assert row['chips'] == 16 and row['batch'] == config.batch_size
  assert row['training/memory_mb'] < row['chip_memory_mb']


@on_tpu
def test_indivisible_batch():
  config = sorting.get_config('smoke')
  config.batch_size = 6
  with pytest.raises(UserError, match='batch_size=6 is not divisible by 4'):
    compile.report(config, ['v5e:2x2'])


@on_tpu
def test_too_large_names_what_is_large(monkeypatch):
  task = toy_task.ToyTask(width=2**17)
  monkeypatch.setattr(inference, 'make_task', lambda config: task)
  config = toy_task.make_config(batch_size=2**17)
  with pytest.raises(UserError) as error:
    compile.report(config, ['v5e:2x2'])
  message = str(error.value)
  assert 'training does not fit in memory' in message and '\n' not in message
  assert 'float32[131072, 131072] (68,719 MB)' in message
