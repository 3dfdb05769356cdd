"""The loop: a resumed run equals an uninterrupted run, whatever stopped it."""

import itertools
import json
import os
import resource
import signal
import time

import jax
import numpy as np
import pytest

from core import checkpoints, inference, loop, sharding, step
from core.errors import UserError
from core.run import run_config, signals
from tests.core import toy_task

CLOCK = ('seconds', 'perf/examples_per_second')
WEIGHTS = 'weights.safetensors'


def make_mesh():
  return sharding.make_mesh(dict(data=2, fsdp=1, tensor=1), jax.devices()[:2])


def train(folder, task=None, **changes):
  task = task or toy_task.ToyTask()
  folder.mkdir(exist_ok=True)
  config, mesh = toy_task.make_config(**changes), make_mesh()
  program = step.make_program(task, config, mesh)
  return loop.train(task, program, config, str(folder), mesh)


def read_lines(folder):
  """Return the lines of metrics.jsonl without times and speeds."""
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if k not in CLOCK}
    for line in lines
  ]


def read_state(folder, **changes):
  """Return all leaves of the newest checkpoint as bytes."""
  config = toy_task.make_config(**changes)
  program = step.make_program(toy_task.ToyTask(), config, make_mesh())
  state = checkpoints.restore(folder, program.abstract_state)
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def steps(folder):
  return sorted(path.name for path in (folder / 'checkpoints').iterdir())


def assert_same_runs(folder, other):
  assert read_lines(folder) == read_lines(other)
  assert read_state(folder) == read_state(other)
  assert (folder / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  folder = tmp_path_factory.mktemp('unbroken')
  assert train(folder)
  return folder


@pytest.fixture
def stop_at_check(monkeypatch):
  """Send a real SIGTERM to this process at a check of the signal; 0: never.

  The loop checks the signal after each training call, and once after it saved
  the weights.
  """
  original = signals.StopSignal

  def stop_at_check(check):
    class StopSignal(original):
      def __call__(self):
        self.checks = getattr(self, 'checks', 0) + 1
        if self.checks == check:
          os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__()

    monkeypatch.setattr(signals, 'StopSignal', StopSignal)

  return stop_at_check


def test_run_records_everything(unbroken):
  lines = read_lines(unbroken)
  losses = {
    line['step']: line['train/loss'] for line in lines if 'train/loss' in line
  }
  errors = {
    line['step']: line['eval/test/error']
    for line in lines
    if 'eval/test/error' in line
  }
  assert list(losses) == [1, 2, 3, 4, 5, 6] and losses[6] < losses[1]
  assert list(errors) == [2, 4, 6] and errors[6] < errors[2]
  assert steps(unbroken) == ['4', '6']


def test_training_announces_its_data(tmp_path, capsys):
  class Columns(toy_task.ToyTask):
    def arrays(self, split):
      rows = np.zeros((3000, 2), np.float32)
      return super().arrays(split) | {'x': rows, 'y': rows, 'scale': rows[0, 0]}

  train(tmp_path / 'run', Columns())
  data = '1 row of scale; 4 rows of slope; 3,000 rows of x, y'
  assert f'\ntraining data: {data}\n' in capsys.readouterr().err


def test_batch_with_too_few_rows_leaves_no_run_behind(tmp_path):
  class Short(toy_task.ToyTask):
    def batch(self, key, arrays, *, size, step):
      return super().batch(key, arrays, size=size // 2 + 1, step=step)

  with pytest.raises(UserError, match='rows of'):
    train(tmp_path, Short())
  assert not (tmp_path / run_config.NAME).exists()


def test_finished_run_stays_unchanged(unbroken):
  before = read_lines(unbroken)
  assert train(unbroken)
  assert read_lines(unbroken) == before


def test_longer_run_continues(unbroken, tmp_path):
  assert train(tmp_path, total_steps=2)
  assert train(tmp_path)
  assert_same_runs(tmp_path, unbroken)


@pytest.mark.parametrize(
  'updates', [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5)), 3]
)
def test_stopped_run_resumes_exactly(
  unbroken, tmp_path, stop_at_check, updates
):
  stop_at_check(updates)
  assert not train(tmp_path)
  assert steps(tmp_path)[-1] == str(updates)
  assert not (tmp_path / WEIGHTS).exists()
  stop_at_check(0)
  assert train(tmp_path)
  assert_same_runs(tmp_path, unbroken)


@pytest.mark.slow
def test_resuming_removes_earlier_results(tmp_path, stop_at_check):
  stop_at_check(3)
  assert not train(tmp_path)
  (tmp_path / 'results.json').touch()  # by --mode=eval during training
  stop_at_check(0)
  assert train(tmp_path)
  assert not (tmp_path / 'results.json').exists()
  (tmp_path / 'results.json').touch()
  assert train(tmp_path)  # nothing to do
  assert (tmp_path / 'results.json').exists()


@pytest.mark.parametrize(
  'check',
  [
    pytest.param(6, marks=pytest.mark.slow, id='after the last update'),
    pytest.param(7, id='after saving the weights'),
  ],
)
def test_signal_at_the_end_of_a_run(unbroken, tmp_path, stop_at_check, check):
  """The run is finished, but `train` returns False, which stops a sweep."""
  stop_at_check(check)
  assert not train(tmp_path)
  assert_same_runs(tmp_path, unbroken)
  stop_at_check(0)
  assert train(tmp_path)


@pytest.mark.slow
def test_calls_of_several_updates_give_the_same_state(
  unbroken, tmp_path, stop_at_check
):
  stop_at_check(1)
  assert not train(tmp_path, steps_per_call=2)
  stop_at_check(0)
  assert train(tmp_path, steps_per_call=1)
  assert read_state(tmp_path) == read_state(unbroken)


@pytest.mark.parametrize(
  'per_call', [1, pytest.param(3, marks=pytest.mark.slow)]
)
def test_loss_that_is_not_finite(tmp_path, per_call):
  task = toy_task.ToyTask(nan_update=5)
  changes = {'steps_per_call': per_call, 'checkpoint.every': per_call}
  with pytest.raises(
    FloatingPointError, match='update 5 has a non-finite.*learning_rat'
  ):
    train(tmp_path, task, **changes)
  last = {1: 4, 3: 3}[per_call]
  assert steps(tmp_path)[-1] == str(last)
  assert read_lines(tmp_path)[-1]['step'] == last
  # Without the cause, the resumed run ends like one that never failed.
  assert train(tmp_path, **changes)
  assert train(tmp_path / 'other', **changes)
  assert_same_runs(tmp_path, tmp_path / 'other')


def test_parameters_that_are_not_finite_are_never_kept(tmp_path):
  changes = {'steps_per_call': 1, 'checkpoint.every': 1, 'optim.name': 'sgd'}
  with pytest.raises(FloatingPointError, match='update 1 has a non-finite'):
    train(tmp_path, **changes, **{'optim.learning_rate': 1e39})
  assert not steps(tmp_path)
  assert not (tmp_path / WEIGHTS).exists()


def test_damaged_checkpoint_falls_back_to_the_previous_one(
  unbroken, tmp_path, stop_at_check, caplog
):
  stop_at_check(4)
  assert not train(tmp_path)
  for path in (tmp_path / 'checkpoints' / '4').rglob('*'):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 2)
  stop_at_check(0)
  assert train(tmp_path)
  assert 'checkpoint 4' in caplog.text and 'using step 2' in caplog.text
  assert 'corrupt-4' in steps(tmp_path)
  assert_same_runs(tmp_path, unbroken)


@pytest.mark.slow
def test_clock_that_goes_backwards(
  unbroken, tmp_path, stop_at_check, monkeypatch
):
  clock = itertools.count(2_000_000_000, -60)
  monkeypatch.setattr(time, 'time', lambda: float(next(clock)))
  monkeypatch.setattr(time, 'time_ns', lambda: next(clock) * 10**9)
  stop_at_check(3)
  assert not train(tmp_path)
  stop_at_check(0)
  assert train(tmp_path)
  assert next(clock) < 2_000_000_000
  assert_same_runs(tmp_path, unbroken)
  assert steps(tmp_path) == steps(unbroken)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  seconds = [json.loads(line)['seconds'] for line in lines]
  assert seconds == sorted(seconds)


@pytest.mark.slow
def test_a_call_is_profiled(tmp_path):
  assert train(tmp_path, **{'log.profile': 2})
  (trace,) = tmp_path.glob('profile/**/*.xplane.pb')
  assert b'train' in trace.read_bytes()


@pytest.mark.parametrize('is_relative', [False, True])
def test_starts_from_weights(unbroken, tmp_path, monkeypatch, is_relative):
  monkeypatch.setattr(run_config, 'ROOT', unbroken.parent)
  source = unbroken.name if is_relative else str(unbroken)
  assert train(
    tmp_path,
    **{'seed': 5, 'init_weights': source, 'optim.learning_rate': 0.0},
    **{'optim.ema_decay': 0.0},
  )
  assert (tmp_path / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_starts_the_average_from_weights(unbroken, tmp_path):
  changes = {'init_weights': str(unbroken), 'optim.learning_rate': 0.0}
  assert train(tmp_path, **changes)
  errors = [
    line['eval/test/error']
    for line in read_lines(tmp_path) + read_lines(unbroken)[-1:]
    if 'eval/test/error' in line
  ]
  assert errors == pytest.approx(errors[-1:] * 4, rel=1e-5)


def test_weights_of_another_model(unbroken, tmp_path):
  task = toy_task.ToyTask(width=5)
  with pytest.raises(UserError, match=r'kernel is float32\[4, 1\] in the file'):
    train(tmp_path, task, init_weights=str(unbroken))


def test_a_run_without_updates_can_be_repeated(tmp_path):
  assert train(tmp_path, total_steps=0)
  first = (tmp_path / WEIGHTS).read_bytes()
  assert train(tmp_path, total_steps=0)
  assert (tmp_path / WEIGHTS).read_bytes() == first


def test_the_last_call_makes_fewer_updates(unbroken, tmp_path):
  assert train(tmp_path, steps_per_call=4)
  assert read_state(tmp_path) == read_state(unbroken)
  assert (tmp_path / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()


@pytest.fixture
def run(monkeypatch):
  """Return `loop.run` with the toy task."""
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())
  return lambda folder, **changes: loop.run(
    toy_task.make_config(**changes), str(folder)
  )


def test_folder_of_another_run_is_refused(tmp_path, run):
  assert run(tmp_path)
  before = read_lines(tmp_path)
  changes = {'seed': 1, 'optim.learning_rate': 0.5}
  with pytest.raises(UserError) as caught:
    run(tmp_path, **changes)
  assert 'optim.learning_rate (0.1 there, 0.5 now)' in str(caught.value)
  assert 'seed (0 there, 1 now)' in str(caught.value)
  assert read_lines(tmp_path) == before


def test_folder_that_cannot_be_written(tmp_path, run):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='cannot write to .*--workdir'):
    run(tmp_path / 'file' / 'run')


@pytest.mark.slow
def test_full_disk(tmp_path):
  # Room for the metrics, none for the parameters.
  task = toy_task.ToyTask(width=50_000)
  folder, whole = tmp_path / 'run', tmp_path / 'whole'
  assert train(folder, task, total_steps=2)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    with pytest.raises(UserError, match='cannot write to .*File too large'):
      train(folder, task)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert '2' in steps(folder) and '4' not in steps(folder)
  assert train(folder, task)
  assert train(whole, task)
  assert read_lines(folder) == read_lines(whole)
  assert (folder / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
