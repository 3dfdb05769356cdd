"""Two processes of four devices compute what one process of eight does."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs.rrn import sudoku
from core import checkpoints, experiment, loop, sharding, step
from tests.core import loop_test

ROOT = pathlib.Path(__file__).parents[2]
CHANGES = {
  'model.num_steps': 2,
  'total_steps': 8,
  'steps_per_call': 4,
  'log.every': 4,
  'evals.every': 4,
  'checkpoint.every': 4,
  'mesh.fsdp': 2,
}


def free_port():
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return free.getsockname()[1]


def start(*command, **env):
  return subprocess.Popen(
    [sys.executable, *command],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'} | env,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def start_process(index, port, folder):
  return start(
    *('main.py', '--config=configs/rrn/sudoku.py:smoke'),
    *(f'--config.{name}={value}' for name, value in CHANGES.items()),
    *(f'--workdir={folder}', '--distributed', '--num_processes=2'),
    *(f'--coordinator=localhost:{port}', f'--process_id={index}'),
    JAX_NUM_CPU_DEVICES='4',
    JAX_DISABLE_MOST_OPTIMIZATIONS='1',  # compiles in half the time
  )


@pytest.fixture(scope='module')
def config():
  config = sudoku.get_config('smoke')
  config.update_from_flattened_dict(CHANGES)
  return config


@pytest.fixture(scope='module')
def runs(tmp_path_factory, config):
  """The folders of a run of two processes and of a run of one."""
  two, one = (tmp_path_factory.mktemp(name) for name in ('two', 'one'))
  assert loop.run(config, str(one))  # it also fills the cache of data
  port = free_port()
  processes = [start_process(index, port, two) for index in (0, 1)]
  for process in processes:
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
  return two, one


def test_same_metrics(runs):
  two, one = map(loop_test.read_lines, runs)
  assert [sorted(line) for line in two] == [sorted(line) for line in one]
  for line, expected in zip(two, one, strict=True):
    for name, value in line.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-4, err_msg=name)


def test_checkpoint_restores_in_one_process(runs, config):
  mesh = sharding.make_mesh(config.mesh)
  task = experiment.make_task(config)
  abstract = step.make_program(task, config, mesh).abstract_state
  two, one = (checkpoints.restore(folder, abstract) for folder in runs)
  assert int(two.step) == int(one.step) == 8
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    two.params,
    one.params,
  )
  assert experiment.load(str(runs[0]), {}).step == 8


def test_process_without_the_others_is_no_run_of_its_own():
  code = (
    'from core import runtime\n'
    f"runtime.start_distributed('localhost:{free_port()}', 2, 1, timeout=5)\n"
    "print('a run of its own')\n"
  )
  with start('-c', code) as process:
    output, _ = process.communicate(timeout=300)
  assert process.returncode != 0
  assert output == ''
