"""Every config at every size: it builds, traces and, where small, learns."""

import importlib
import json
import pathlib

import jax
import jax.export
import numpy as np
import pytest

from core import evaluation, inference, loop, sharding, step
from core.report import report

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted(
  '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  for path in ROOT.glob('configs/*/*.py')
  if path.stem not in ('__init__', 'common')
)
SIZES = ('paper', 'cpu', 'smoke')


def boards(config):
  shape = (4, (config.model.box_height * config.model.box_width) ** 2)
  names = 'puzzle', 'solution', 'hard_puzzle', 'hard_solution'
  return {name: (shape, np.int8) for name in names}


def trees(config):
  del config
  return {'tree': ((4,), np.int32)}


def questions(config):
  tasks = len(config.data.task_weights) or 2
  return {
    'facts': ((40, 20, 11), np.uint8),
    'question': ((40, 11), np.uint8),
    'supports': ((40, 20), np.bool_),
    'answer': ((40,), np.uint8),
    'end': ((40,), np.int32),
    'first': ((tasks,), np.int32),
    'count': ((tasks,), np.int32),
  }


def tokens(config):
  count = 5 if config.task == 'seq2set.ngrams' else config.data.num_variables
  return {'tokens': ((4, count), np.int32)}


def words(config):
  return {'words': ((config.data.context + 2 * config.data.length,), np.int32)}


def points(config):
  count = config.data.num_points
  is_delaunay = config.task == 'seq2set.delaunay'
  shape = (2 * count - 5, 3) if is_delaunay else (count,)
  return {
    'points': ((4, count, 2), np.float32),
    'answer': ((4, *shape), np.uint8),
  }


def sentences(config):
  count = config.data.max_words
  return {
    'words': ((4, count), np.int32),
    'labels': ((4, 6 * count), np.int32),
  }


# Shapes and types of the columns of tasks that do not generate their examples.
STAND_INS = {
  'rrn.ages': trees,
  'rrn.babi': questions,
  'rrn.sudoku': boards,
  'seq2set.convex_hull': points,
  'seq2set.delaunay': points,
  'seq2set.language_model': words,
  'seq2set.ngrams': tokens,
  'seq2set.parsing': sentences,
  'seq2set.star': tokens,
  'seq2set.tsp': points,
}


@pytest.fixture(autouse=True)
def two_devices(monkeypatch):
  """Use two devices, because compiling for eight is slower."""
  devices = jax.devices()[:2]
  monkeypatch.setattr(jax, 'devices', lambda: devices)


def get_config(module, size):
  arg = None if size == 'paper' else size
  return importlib.import_module(module).get_config(arg)


def make_program(config):
  """Return the program on one device, and abstract training arrays."""
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  program = step.make_program(inference.make_task(config), config, mesh)
  columns = STAND_INS.get(config.task, lambda _: {})(config)
  arrays = {
    name: jax.ShapeDtypeStruct(shape, dtype)
    for name, (shape, dtype) in columns.items()
  }
  return program, arrays


@pytest.mark.parametrize('module', MODULES)
def test_names_agree(module):
  for size in SIZES:
    config = get_config(module, size)
    assert f'configs.{config.task}' == module
    assert config.total_steps % config.steps_per_call == 0
    json.loads(config.to_json())


@pytest.mark.parametrize('module', MODULES)
def test_smoke_has_no_numbers_of_the_paper(module):
  config = get_config(module, 'smoke')
  points = getattr(importlib.import_module(module), 'sweep', lambda _: {})
  for point in (config, *points('smoke').values()):
    assert point.report and {*point.report.values()} <= {'', '%'}


def test_generated_text_has_no_numbers_of_the_paper():
  for name in 'language_model', 'ngrams', 'parsing':
    module = f'configs.seq2set.{name}'
    config = get_config(module, 'cpu,source=generated')
    assert {*config.report.values()} <= {'', '%'}
    assert not {*get_config(module, 'cpu').report.values()} <= {'', '%'}


@pytest.mark.parametrize(
  'size', ['paper', pytest.param('cpu', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('module', MODULES)
def test_update_can_be_traced(module, size):
  config = get_config(module, size)
  program, arrays = make_program(config)
  state, metrics, losses = jax.eval_shape(
    program.update, program.abstract_state, arrays
  )
  assert jax.tree.structure(state) == jax.tree.structure(program.abstract_state)
  assert losses.shape == (config.steps_per_call,)
  assert {'loss', 'gradient_norm', 'learning_rate'} < set(metrics)


@pytest.mark.slow
@pytest.mark.parametrize('module', MODULES)
def test_update_can_be_lowered_for_accelerators(module):
  program, arrays = make_program(get_config(module, 'smoke'))
  export = jax.export.export(program.update, platforms=('cuda', 'tpu'))
  exported = export(program.abstract_state, arrays)
  assert exported.platforms == ('cuda', 'tpu')


@pytest.mark.parametrize(
  'module',
  [
    pytest.param(
      name,
      marks=[] if name == 'configs.seq2set.sorting' else pytest.mark.slow,
    )
    for name in MODULES
  ],
)
def test_seeds_can_be_traced_at_once(module):
  config = get_config(module, 'smoke')
  config.num_seeds = 2
  task = inference.make_task(config)
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  program = step.make_program(task, config, mesh)
  state, _, losses = jax.eval_shape(
    program.update, program.abstract_state, dict(task.arrays('train'))
  )
  assert losses.shape == (config.steps_per_call, 2)
  for evaluator in task.evaluators().values():
    if evaluator.every:  # the others may need files
      batches = evaluation.make_batches(evaluator, mesh, 2)
      call = evaluation.make_call(evaluator, program.merge, mesh, 2)
      measured = jax.eval_shape(call, state.eval_params, batches)
      assert all(metric.total.shape[0] == 2 for metric in measured.values())


@pytest.mark.slow
@pytest.mark.parametrize('module', MODULES)
def test_smoke_learns(module, tmp_path):
  config = get_config(module, 'smoke')
  config.total_steps = 3 * config.steps_per_call
  config.log.every = config.steps_per_call
  assert loop.run(config, str(tmp_path))
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  losses = [line['train/loss'] for line in lines if 'train/loss' in line]
  assert losses[-1] < losses[0]
  assert any(name.startswith('eval/') for line in lines for name in line)
  text = report.report(tmp_path)
  assert 'Ours: the last evaluation in training' in text
