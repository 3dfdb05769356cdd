"""A sweep trains every point once, even if some of them fail."""

import pathlib
import re

import numpy as np
import pytest

from core import sweep
from core.errors import UserError
from core.io import weights
from core.run import run_folder
from tests.core import toy_task

NAMES = 'abc'
POINTS = {
  name: toy_task.make_config(seed=seed) for seed, name in enumerate(NAMES)
}


class Trainer:
  """Finishes a point at once, unless it is told to fail or stop."""

  def __init__(self, outcomes=None):
    self.outcomes = outcomes or {}
    self.trained = []

  def __call__(self, config, folder):
    name = NAMES[config.seed]
    self.trained.append((name, folder))
    outcome = self.outcomes.get(name, True)
    if isinstance(outcome, Exception):
      raise outcome
    if outcome:
      pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
      run_folder.record_start(pathlib.Path(folder), config)
      for name in ('weights.safetensors', 'results.json'):
        (pathlib.Path(folder) / name).touch()
    return outcome

  @property
  def names(self):
    return [name for name, _ in self.trained]


def test_each_point_has_its_folder_and_is_trained_once(tmp_path):
  first, again = Trainer(), Trainer()
  assert sweep.run(POINTS, tmp_path, first)
  assert first.trained == [(name, str(tmp_path / name)) for name in 'abc']
  assert sweep.run(POINTS, tmp_path, again)
  assert again.names == []


def test_finished_points_of_another_config(tmp_path):
  assert sweep.run(POINTS, tmp_path, Trainer())
  longer = {'a': toy_task.make_config(seed=0, total_steps=9)}
  train = Trainer()
  assert sweep.run(longer, tmp_path, train)
  assert train.names == ['a']
  # The error comes before the points ahead of it are trained.
  other = {'new': POINTS['b'], 'a': toy_task.make_config(seed=3)}
  train = Trainer()
  with pytest.raises(UserError, match='a different config: seed'):
    sweep.run(other, tmp_path, train)
  assert train.names == []


def test_a_longer_run_that_has_only_written_its_config_is_not_finished(
  tmp_path,
):
  assert sweep.run(POINTS, tmp_path, Trainer())
  steps = POINTS['a'].total_steps
  params = {'w': np.zeros(1)}
  weights.save_weights(tmp_path / 'a', params, step=steps - 1)
  assert not sweep.is_finished(tmp_path / 'a', steps)
  weights.save_weights(tmp_path / 'a', params, step=steps)
  assert sweep.is_finished(tmp_path / 'a', steps)


def test_signal_stops_the_sweep_and_the_next_call_goes_on(tmp_path):
  stopped, resumed = Trainer({'b': False}), Trainer()
  assert not sweep.run(POINTS, tmp_path, stopped)
  assert stopped.names == ['a', 'b']
  assert sweep.run(POINTS, tmp_path, resumed)
  assert resumed.names == ['b', 'c']


def test_diverged_point_does_not_stop_the_others(tmp_path):
  train = Trainer({'a': FloatingPointError('the loss is nan')})
  with pytest.raises(FloatingPointError, match='did not finish: a; see'):
    sweep.run(POINTS, tmp_path, train)
  assert train.names == ['a', 'b', 'c']


def test_other_errors_are_raised(tmp_path):
  with pytest.raises(UserError, match='a different config'):
    sweep.run(POINTS, tmp_path, Trainer({'a': UserError('a different config')}))


def test_index_trains_one_point(tmp_path):
  train = Trainer()
  assert sweep.run(POINTS, tmp_path, train, index=1)
  assert train.names == ['b']


@pytest.mark.parametrize('index', [-1, 3])
def test_index_out_of_range_names_the_range(tmp_path, index):
  with pytest.raises(UserError, match='0 to 2'):
    sweep.run(POINTS, tmp_path, Trainer(), index=index)


def test_points_come_from_the_config_file(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(
    'from configs.common import default_config\n\n\n'
    'def sweep(arg=None):\n  return {f"arg={arg}": default_config()}\n'
  )
  (point,) = sweep.load_points(f'{path}:cpu,n=5', {'optim.l2': 0.5}).items()
  assert point[0] == 'arg=cpu,n=5' and point[1].optim.l2 == 0.5
  assert list(sweep.load_points(str(path), {})) == ['arg=None']


def test_config_without_sweep(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('def get_config(arg=None):\n  return {}\n')
  with pytest.raises(UserError, match='defines no sweep'):
    sweep.load_points(str(path), {})


@pytest.mark.parametrize(
  'body, failure',
  [
    ('return missing', 'fails: NameError: .*; correct this function'),
    ('return [1]', r'returns \[1\]; expected a dict from names to configs'),
    ('return {"a": 1}', "returns {'a': 1}; expected a dict from names"),
    ('return {0: default_config()}', 'returns {0: .*; expected a dict'),
  ],
)
def test_a_sweep_that_fails(tmp_path, body, failure):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from configs.common import default_config\n\n\n'
    f'def sweep(arg=None):\n  {body}\n'
  )
  with pytest.raises(UserError) as caught:
    sweep.load_points(f'{path}:cpu', {})
  assert re.fullmatch(
    rf"sweep\('cpu'\) of .*mine.py {failure}.*", str(caught.value)
  )


@pytest.mark.parametrize(
  'override', [{'absent.leaf': 1}, {'optim.l2': 'a'}, {'absent': 1}]
)
def test_an_override_that_fits_no_point(tmp_path, override):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from configs.common import default_config\n\n\n'
    'def sweep(arg=None):\n'
    '  return {"staged": {"one": default_config().lock()}}\n'
  )
  with pytest.raises(UserError, match='an override does not fit: .*; override'):
    sweep.load_points(str(path), override)
