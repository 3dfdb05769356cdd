"""From a config to its task, and from a folder to a trained model in use."""

import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from core import (
  checkpoints,
  evaluation,
  plots,
  runtime,
  sharding,
  step,
  weights,
  writers,
)
from core.errors import UserError
from core.task import Task


def make_task(config: ConfigDict) -> Task:
  """Builds the task of `config.task`, such as 'rrn.sudoku'."""
  return importlib.import_module(f'{config.task}.task').make_task(config)


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model and all that evaluates it."""

  config: ConfigDict
  task: Task
  mesh: Mesh
  step: int  # updates behind the parameters
  params: Any  # NumPy arrays, whole on every process

  @property
  def model(self) -> nnx.Module:
    """The module with these parameters, on one device of this process."""
    params = jax.tree.map(jnp.asarray, self.params)
    return step.make_merge(self.task)(params)


def load(folder: str, overrides: Mapping[str, Any]) -> Trained:
  """Loads a run folder (its newest checkpoint) or a folder of weights.

  `overrides` change leaves of its config, by dotted name.

  Raises:
    UserError: nothing to load, or damaged.
  """
  path = pathlib.Path(folder)
  config = ConfigDict(runtime.read_json(path / 'config.json'))
  if not config:
    raise UserError(
      f'{folder} holds no config.json: name a run with --workdir or shipped'
      ' weights with --weights=pretrained/...'
    )
  trained_steps = config.total_steps
  config.update_from_flattened_dict(overrides)
  runtime.use_cpu_cores(config.batch_size)
  task, mesh = make_task(config), sharding.make_mesh(config.mesh)
  abstract_state = step.make_init(task, config, mesh).eval_shape()
  if (path / weights.NAME).exists():
    params = weights.load_weights(folder, abstract_state.params)
    return Trained(config, task, mesh, trained_steps, params)
  state = checkpoints.restore(folder, abstract_state)
  if state is None:
    raise UserError(f'{folder} holds no checkpoint yet')
  params = sharding.fetch(state.evaluated, mesh)
  return Trained(config, task, mesh, int(state.step), params)


def config_file(folder: str | None, default: str) -> str:
  """The file of the config that a folder was trained with, or the default."""
  if not folder:
    return default
  saved = runtime.read_json(pathlib.Path(folder) / 'config.json')
  path = pathlib.Path('configs', *saved.get('task', '').split('.'))
  return f'{path}.py' if path.with_suffix('.py').is_file() else default


def predict(trained: Trained, path: str) -> bool:
  """Prints an answer for each line of a file, '-' standard input.

  Returns whether all could be read; the others give an error line on stderr.

  Raises:
    UserError: no such file.
  """
  try:
    lines = sys.stdin if path == '-' else open(path, errors='replace')
  except OSError as error:
    raise UserError(f'--input={path}: {error.strerror}') from error
  good = True
  with lines:
    answers = trained.task.predict(trained.model, lines)
    for number, answer in enumerate(answers, start=1):
      if isinstance(answer, UserError):
        print(f'error: line {number}: {answer}', file=sys.stderr)
        good = False
      else:
        print(answer, flush=True)
  return good


def evaluate(trained: Trained, folder: str) -> dict[str, Any]:
  """Runs all evaluators; leaves results.json and figures in `folder`.

  Returns {'step': N, '<evaluator>/<metric>': value, ...}, without the curves.
  """
  merge = step.make_merge(trained.task)
  values, counts = {}, {}
  for name, evaluator in trained.task.evaluators().items():
    run = evaluation.make_evaluation(evaluator, merge, trained.mesh)
    measured = run(trained.params)
    values |= evaluation.values(measured, f'{name}/')
    counts |= {f'{name}/{key}': m.interval() for key, m in measured.items()}
  values = writers.without_nan(values)
  if jax.process_index() == 0:
    path = pathlib.Path(folder)
    with runtime.reported_writes(path):
      path.mkdir(parents=True, exist_ok=True)
      if not (path / 'config.json').exists():  # else it is the run's own folder
        runtime.write_json(path / 'config.json', trained.config.to_dict())
      results = {key: {'value': values[key]} | counts[key] for key in values}
      record = {'step': trained.step, 'run': runtime.versions()}
      runtime.write_json(path / 'results.json', record | {'metrics': results})
      plots.save(trained.task.figures(values, trained.model), path / 'plots')
  numbers = {k: v for k, v in values.items() if not isinstance(v, list)}
  return {'step': trained.step} | numbers
