"""Two processes of four devices compute what one process of eight does."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs.rrn import sudoku
from core import checkpoints, inference, loop, sharding, step
from core.run import distributed
from tests.core import loop_test

ROOT = pathlib.Path(__file__).parents[3]
STARTED = []
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


@pytest.fixture(autouse=True)
def no_process_is_left():
  yield
  while STARTED:
    process = STARTED.pop()
    process.kill()
    process.communicate()


def start(*command, **env):
  process = subprocess.Popen(
    [sys.executable, *command],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'} | env,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  STARTED.append(process)
  return process


def start_all(folder, flags, count=2):
  """Start main.py as `count` processes with eight devices in total."""
  port = free_port()
  return [
    start(
      'main.py',
      '--config=configs/rrn/sudoku.py:smoke',
      *flags,
      f'--workdir={folder}',
      '--distributed',
      f'--num_processes={count}',
      f'--coordinator=localhost:{port}',
      f'--process_id={index}',
      JAX_NUM_CPU_DEVICES=str(8 // count),
    )
    for index in range(count)
  ]


def run_all(folder, *flags, count=2):
  """Return the exit statuses, outputs, and errors of the processes."""
  processes = start_all(folder, flags, count)
  outputs = [process.communicate(timeout=300) for process in processes]
  return [process.returncode for process in processes], *zip(
    *outputs, strict=True
  )


def overrides(**changes):
  return [
    f'--config.{name}={value}' for name, value in (CHANGES | changes).items()
  ]


@pytest.fixture(scope='module')
def config():
  config = sudoku.get_config('smoke')
  config.update_from_flattened_dict(CHANGES)
  return config


@pytest.fixture(scope='module')
def runs(tmp_path_factory, config):
  """Return the folders of a run of two processes, and of a run of one."""
  two, one = (tmp_path_factory.mktemp(name) for name in ('two', 'one'))
  assert loop.run(config, str(one))  # it also fills the data cache
  statuses, _, errors = run_all(two, *overrides())
  assert statuses == [0, 0], errors
  return two, one


def assert_same_metrics(*runs):
  some, other = map(loop_test.read_lines, runs)
  assert [sorted(line) for line in some] == [sorted(line) for line in other]
  for line, expected in zip(some, other, strict=True):
    for name, value in line.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_same_metrics(runs):
  assert_same_metrics(*runs)


@pytest.mark.slow
def test_checkpoint_restores_in_one_process(runs, config):
  mesh = sharding.make_mesh(config.mesh)
  task = inference.make_task(config)
  abstract = step.make_program(task, config, mesh).abstract_state
  two, one = (checkpoints.restore(folder, abstract) for folder in runs)
  assert int(two.step) == int(one.step) == 8
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    two.params,
    one.params,
  )
  assert inference.load(str(runs[0]), {}).step == 8


@pytest.mark.slow
def test_another_config_is_refused_by_both(runs):
  statuses, _, errors = run_all(runs[0], *overrides(seed=1))
  assert statuses == [2, 2]
  assert 'seed (0 there, 1 now)' in errors[0].splitlines()[-1]
  assert 'another process failed' in errors[1].splitlines()[-1]


def wait_for(is_met, processes):
  """Wait until a condition is met while all processes run."""
  deadline = time.monotonic() + 300
  while not is_met():
    assert time.monotonic() < deadline
    assert all(process.poll() is None for process in processes)
    time.sleep(0.1)


@pytest.mark.parametrize(
  'lost, count',
  [
    pytest.param(1, 2, marks=pytest.mark.slow),
    pytest.param(0, 2, marks=pytest.mark.campaign),
    pytest.param(2, 4, marks=pytest.mark.campaign),
  ],
)
def test_the_death_of_one_ends_the_others_and_a_restart_resumes(
  runs, tmp_path, lost, count
):
  run = shutil.copytree(runs[0], tmp_path / 'run')
  before = (run / 'metrics.jsonl').read_text()
  # Run only updates, without saves or evaluations. If a process is lost during
  # a save or the first collective, JAX ends the others only after a minute.
  rare = {'checkpoint.every': 10**6, 'evals.every': 10**6}
  processes = start_all(run, overrides(total_steps=10**6, **rare), count)
  wait_for(lambda: loop_test.read_lines(run)[-1]['step'] > 16, processes)
  processes.pop(lost).kill()
  for process in processes:
    _, errors = process.communicate(timeout=200)
    # Either our message, or JAX aborts the process with a message of its own.
    assert process.returncode in (1, -signal.SIGABRT), errors
    if process.returncode == 1:
      assert '\nerror: another process was lost' in f'\n{errors}'
  statuses, _, errors = run_all(run, *overrides(total_steps=12), count=count)
  assert statuses == [0] * count, errors
  assert (run / 'metrics.jsonl').read_text().startswith(before)
  assert loop_test.read_lines(run)[-1]['step'] == 12


@pytest.mark.parametrize(
  'count',
  [
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(4, marks=pytest.mark.campaign),
  ],
)
def test_a_signal_to_one_stops_all_at_the_same_update(tmp_path, count):
  processes = start_all(tmp_path, overrides(total_steps=1_000_000), count)
  wait_for((tmp_path / 'checkpoints' / '4').exists, processes)
  processes[1].terminate()
  errors = [process.communicate(timeout=120)[1] for process in processes]
  assert [process.returncode for process in processes] == [0] * count, errors
  ends = {re.search(r'stopped by a signal; step (\d+)', e)[1] for e in errors}
  (end,) = ends
  assert (tmp_path / 'checkpoints' / end).exists()
  if count == 4:  # every process can read the checkpoint that all four wrote
    more = overrides(total_steps=int(end) + 4)
    statuses, _, errors = run_all(tmp_path, *more, count=count)
    assert statuses == [0] * count, errors


@pytest.mark.campaign
def test_four_processes_compute_the_same(runs, tmp_path):
  for flags in (overrides(), ['--mode=eval']):
    statuses, outputs, errors = run_all(tmp_path, *flags, count=4)
    assert statuses == [0] * 4, errors
  assert_same_metrics(tmp_path, runs[1])
  trained = inference.load(str(runs[1]), {})
  expected = inference.evaluate(trained, str(runs[1]))
  values = json.loads(outputs[0].splitlines()[-1])
  assert values == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_evaluation_is_the_same_and_draws_figures(runs):
  statuses, outputs, errors = run_all(runs[0], '--mode=eval')
  assert statuses == [0, 0], errors
  trained = inference.load(str(runs[1]), {})
  expected = inference.evaluate(trained, str(runs[1]))
  values = json.loads(outputs[0].splitlines()[-1])
  assert values == pytest.approx(expected, abs=0.01)
  assert '{' not in outputs[1]
  figures = [sorted(p.name for p in run.glob('plots/*')) for run in runs]
  assert 'digits_by_step.png' in figures[1]
  assert set(figures[1]) <= set(figures[0])


@pytest.mark.slow
def test_checkpoint_that_one_process_cannot_read(runs, tmp_path):
  run = shutil.copytree(runs[0], tmp_path / 'run')
  code = f"""
import sys
from core import checkpoints, inference
from core.run import distributed, run_folder
port, index = sys.argv[1:]
distributed.start(f'localhost:{{port}}', 2, int(index), timeout=60)
load = checkpoints.ocp.v1.load
def fail(path, like):
  leaves = load(path, like)
  if path.endswith('8') and index == '1':
    raise OSError('cable')
  return leaves
checkpoints.ocp.v1.load = fail
checkpoints.weights.NAME = 'none'
print(inference.load('{run}', {{}}).step, file=sys.__stdout__)
"""
  port = str(free_port())
  processes = [
    start('-c', code, port, index, JAX_NUM_CPU_DEVICES='4') for index in '01'
  ]
  outputs = [process.communicate(timeout=300) for process in processes]
  assert all(output.endswith('4\n') for output, _ in outputs), outputs


@pytest.mark.slow
@pytest.mark.parametrize('failed', [0, 1])
def test_a_failure_of_one_alone_ends_all(failed):
  code = (
    'import sys\n'
    'from jax.experimental import multihost_utils\n'
    'from core.run import distributed, run_folder\n'
    'index = int(sys.argv[1])\n'
    f"distributed.start('localhost:{free_port()}', 2, index)\n"
    "multihost_utils.sync_global_devices('start')\n"
    f'if index == {failed}:\n'
    '  distributed.exit_process(2)\n'
    'with distributed.exit_on_failure():\n'
    "  multihost_utils.sync_global_devices('end')\n"
  )
  processes = [start('-c', code, str(index)) for index in range(2)]
  errors = [p.communicate(timeout=100)[1] for p in processes]
  other = 1 - failed
  assert processes[failed].returncode == 2
  assert processes[other].returncode == 1
  # Not its last line: JAX's threads may print until the process has ended.
  assert '\nerror: another process was lost' in f'\n{errors[other]}'


@pytest.mark.slow
def test_processes_with_different_configs_are_refused(tmp_path):
  code = (
    'import sys\n'
    'from core.run import distributed, run_folder\n'
    'from tests.core import toy_task\n'
    'index = int(sys.argv[1])\n'
    f"distributed.start('localhost:{free_port()}', 2, index)\n"
    'config = toy_task.make_config(seed=index)\n'
    f"with run_folder.open_folder('{tmp_path}', config):\n"
    '  pass\n'
  )
  processes = [start('-c', code, str(index)) for index in range(2)]
  errors = [p.communicate(timeout=100)[1] for p in processes]
  assert all('different configs' in error for error in errors), errors
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_does_not_train_alone_if_the_others_are_missing():
  code = (
    'from core.run import distributed, run_folder\n'
    f"distributed.start('localhost:{free_port()}', 2, 1, timeout=5)\n"
    "print('started alone')\n"
  )
  with start('-c', code) as process:
    output, errors = process.communicate(timeout=300)
  assert process.returncode != 0 and output == ''
  assert 'cannot start the distributed run' in errors or 'DEADLINE' in errors


@pytest.mark.parametrize(
  'count, text, is_lost',
  [
    (1, 'UNAVAILABLE: reset by peer', False),
    (2, 'UNAVAILABLE: reset by peer', True),
    (2, 'UNKNOWN: Gloo all-reduce failed', True),
    (1, 'RESOURCE_EXHAUSTED: out of memory', False),
    (2, 'RESOURCE_EXHAUSTED: out of memory', False),
  ],
)
def test_failure_of_a_device_ends_a_process_of_several(
  monkeypatch, capsys, count, text, is_lost
):
  class Ended(BaseException):
    pass

  def end(status):
    assert status == 1
    raise Ended

  monkeypatch.setattr(jax, 'process_count', lambda: count)
  monkeypatch.setattr(os, '_exit', end)
  with pytest.raises(Ended if count > 1 else jax.errors.JaxRuntimeError):
    with distributed.exit_on_failure():
      raise jax.errors.JaxRuntimeError(text)
  printed = capsys.readouterr().err
  assert ('another process was lost' in printed) == is_lost
  assert ('Traceback' in printed) == (count > 1 and not is_lost)


@pytest.mark.slow
def test_a_process_id_out_of_range_is_an_error():
  code = (
    'from core.run import distributed\n'
    f"distributed.start('localhost:{free_port()}', 2, 5)\n"
  )
  with start('-c', code) as process:
    _, errors = process.communicate(timeout=100)
  assert 'UserError: cannot start the distributed run' in errors
  assert 'process_id' in errors
