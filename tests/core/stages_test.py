"""Stages train in order, and have the same result after any interruption."""

import json
import os
import signal

import jax
import numpy as np
import pytest
import safetensors.numpy

from core import loop, sharding, stages, step
from core.errors import UserError
from core.io import atomic_files, weights
from core.run import run_folder, signals
from tests.core import toy_task

NAMES = 'one', 'two', 'three'
CLOCK = 'seconds', 'perf/examples_per_second'


def make_stages(**changes):
  """Make three stages of two, four, and two updates."""
  steps = dict(zip(NAMES, (2, 4, 2), strict=True))
  return {
    name: toy_task.make_config(seed=seed, total_steps=steps[name], **changes)
    for seed, name in enumerate(NAMES)
  }


def train(config, folder, start_from):
  mesh = sharding.make_mesh(
    {'data': 2, 'fsdp': 1, 'tensor': 1}, jax.devices()[:2]
  )
  task = toy_task.ToyTask()
  program = step.make_program(task, config, mesh)
  with run_folder.open_folder(folder, config):
    return loop.train(task, program, config, folder, mesh, start_from)


def run(folder, **changes):
  return stages.run(make_stages(**changes), folder, train)


def read_lines(folder):
  """Return the lines of metrics.jsonl without times and speeds."""
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if k not in CLOCK}
    for line in lines
  ]


def read_weights(folder):
  return (folder / weights.NAME).read_bytes()


def read_arrays(folder):
  return safetensors.numpy.load_file(folder / weights.NAME)


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  folder = tmp_path_factory.mktemp('unbroken')
  assert run(folder)
  return folder


def assert_same(folder, other):
  assert read_lines(folder) == read_lines(other)
  for part in folder, *(folder / name for name in NAMES):
    assert read_weights(part) == read_weights(other / part.relative_to(folder))


def test_the_folder_looks_like_a_single_run(unbroken):
  assert weights.read_step(unbroken) == 8
  config = atomic_files.read_json(unbroken / 'config.json')
  assert (config['total_steps'], config['seed']) == (8, 2)
  lines = [
    line['step'] for line in read_lines(unbroken) if 'train/loss' in line
  ]
  assert lines == list(range(1, 9))
  seconds = [
    json.loads(line)['seconds']
    for line in (unbroken / 'metrics.jsonl').read_text().splitlines()
  ]
  assert seconds == sorted(seconds)
  jax.tree.map(
    np.testing.assert_array_equal,
    read_arrays(unbroken),
    read_arrays(unbroken / 'three'),
  )


def test_a_finished_run_stays_unchanged(unbroken):
  (unbroken / 'results.json').touch()
  assert stages.run(make_stages(), unbroken, train=None)  # trains nothing
  assert (unbroken / 'results.json').exists()


@pytest.mark.parametrize(
  'num_seeds', [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_stage_starts_from_the_last_one(tmp_path, num_seeds):
  parts = make_stages(num_seeds=num_seeds)
  del parts['three']
  parts['two'].optim.learning_rate = parts['two'].optim.ema_decay = 0.0
  parts['two'].init_weights = 'of the first stage only'
  assert stages.run(parts, tmp_path, train)
  assert parts['two'].init_weights == 'of the first stage only'  # unchanged
  one, two = (read_arrays(tmp_path / name) for name in ('one', 'two'))
  jax.tree.map(np.testing.assert_array_equal, one, two)
  assert (
    atomic_files.read_json(tmp_path / 'two/config.json')['init_weights'] == ''
  )


@pytest.mark.parametrize(
  'calls', [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 8)), 4]
)
def test_stopped_stages_resume_exactly(unbroken, tmp_path, monkeypatch, calls):
  turns = []

  class StopSignal(signals.StopSignal):
    def __call__(self):
      turns.append(0)
      if len(turns) == calls:
        os.kill(os.getpid(), signal.SIGTERM)
      return super().__call__()

  monkeypatch.setattr(signals, 'StopSignal', StopSignal)
  assert not run(tmp_path)
  assert not (tmp_path / weights.NAME).exists()
  assert run(tmp_path)
  assert_same(tmp_path, unbroken)


@pytest.mark.parametrize(
  'module, function, call',
  [
    (weights, 'save_weights', 1),
    (stages, '_joined_lines', 1),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        *((run_folder, 'record_start', call) for call in (1, 2)),
        (weights, 'save_weights', 3),
        (weights, 'load_weights', 1),
        (atomic_files, 'write_json', 7),  # config.json of the whole run
        (weights, 'copy', 1),
      ]
    ),
  ],
)
def test_killed_stages_resume_exactly(
  unbroken, tmp_path, monkeypatch, module, function, call
):
  original, calls = getattr(module, function), []

  def killed(*args, **kwargs):
    calls.append(args)
    if len(calls) == call:
      raise KeyboardInterrupt
    return original(*args, **kwargs)

  monkeypatch.setattr(module, function, killed)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path)
  assert not (tmp_path / weights.NAME).exists()
  assert run(tmp_path)
  assert_same(tmp_path, unbroken)


@pytest.mark.slow
def test_damaged_weights_of_a_stage_are_written_again(unbroken, tmp_path):
  assert run(tmp_path)
  (tmp_path / 'one' / weights.NAME).write_bytes(b'damaged')
  (tmp_path / weights.NAME).unlink()
  assert run(tmp_path)
  assert_same(tmp_path, unbroken)


@pytest.mark.slow
def test_a_longer_last_stage_continues(tmp_path):
  assert run(tmp_path)
  (tmp_path / 'results.json').touch()
  parts = make_stages()
  parts['three'].total_steps = 4
  assert stages.run(parts, tmp_path, train)
  assert weights.read_step(tmp_path) == 10
  assert not (tmp_path / 'results.json').exists()


@pytest.mark.slow
def test_a_stage_that_another_started_from_keeps_its_length(tmp_path):
  assert run(tmp_path)
  parts = make_stages()
  parts['one'].total_steps = 4
  with pytest.raises(UserError, match='set config.total_steps=2'):
    stages.run(parts, tmp_path, train)


@pytest.mark.slow
def test_a_later_stage_of_another_config(tmp_path):
  assert run(tmp_path)
  with pytest.raises(
    UserError, match='three holds a run with a different config'
  ):
    parts = make_stages()
    parts['three'].seed = 5
    stages.run(parts, tmp_path, train)


def test_stages_come_from_the_config_file(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(
    'from configs.common import default_config\n\n\n'
    'def stages(arg=None):\n  return {"a": default_config()} if arg else {}\n'
  )
  (stage,) = stages.load(f'{path}:cpu', {'seed': 7}).values()
  assert stage.seed == 7
  assert stages.load(str(path), {}) == {}
  path.write_text('')
  assert stages.load(f'{path}:cpu', {}) == {}
