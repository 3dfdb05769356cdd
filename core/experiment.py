"""From a config to its task, and from a folder to a trained model in use."""

import dataclasses
import importlib
import io
import pathlib
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util
from jax.sharding import Mesh
from matplotlib.figure import Figure
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
from core.errors import UserError, check_choice
from core.task import Task

_NO_TASKS = '__init__', 'common'  # files of configs
DTYPES = 'float32', 'bfloat16'
# Numbers that every config has, and the least that they may be.
_LEAST = {
  **dict.fromkeys(['num_seeds', 'total_steps', 'batch_size'], 1),
  **dict.fromkeys(['steps_per_call', 'checkpoint.keep_last'], 1),
  **dict.fromkeys(['seed', 'microbatch', 'log.every', 'checkpoint.every'], 0),
}
# All others may be 0, but these.
_POSITIVE = re.compile(
  r'model\.(?!edge_)\w*(width|height|heads)'
  r'|model\.(num_steps|num_layers|message_layers|node_layers)'
  r'|evals\.(batch_size|num_\w+|boards_per_givens)'
  r'|data\.(num_variables|num_examples|questions_per_scene)'
)


def make_task(config: ConfigDict) -> Task:
  """Builds the task of `config.task`, such as 'rrn.sudoku'.

  Raises:
    UserError: no such task, or a setting that cannot be.
  """
  return _module(config).make_task(config)


def sweep_figures(
  points: Sequence[tuple[ConfigDict, Mapping[str, Any]]],
) -> Mapping[str, Figure]:
  """Pictures of a sweep, by file name, if its task's module draws any.

  `points` has the config of each run and what was measured of it.
  """
  draw = getattr(_module(points[0][0]), 'sweep_figures', lambda points: {})
  return draw(points)


def _module(config: ConfigDict):
  """The module of the config's task, if the config can be."""
  _check(config)
  return importlib.import_module(f'{config.task}.task')


def _check(config: ConfigDict):
  """Raises UserError for a task or a shared setting that cannot be."""
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  # Of a folder's config, too: no other module may be imported by its name.
  check_choice('config.task', leaves.get('task', ''), _tasks())
  numbers = {
    name: value
    for name, value in leaves.items()
    if isinstance(value, int) and not name.startswith('mesh.')
  }
  for name, value in (dict.fromkeys(_LEAST) | numbers).items():
    least = _LEAST.get(name, 1 if _POSITIVE.fullmatch(name) else 0)
    if value is None or not least <= value < 2**31:
      raise UserError(
        f'config.{name}={value!r}: a whole number of at least {least} expected'
      )
  for name in 'evals.num_steps', 'evals.lengths', 'evals.test_lengths':
    if leaves.get(name, 1) in ((), []):
      raise UserError(f'config.{name}=(): at least one number expected')
  for name, value in leaves.items():
    if name.startswith('evals.') and isinstance(value, tuple | list):
      if any(isinstance(x, int) and x < 1 for x in value):
        raise UserError(f'config.{name}={value}: numbers from 1 on expected')
  check_choice('config.dtype', leaves.get('dtype', ''), DTYPES)
  for name in 'optim.muon_paths', 'optim.l2_paths':
    try:
      re.compile(leaves.get(name, ''))
    except re.error as error:
      raise UserError(
        f'config.{name}={leaves[name]!r} is no regular expression: {error}'
      ) from error


def _tasks() -> dict[str, str]:
  """The tasks that have a config, and its file."""
  root = pathlib.Path(__file__).parents[1] / 'configs'
  return {
    f'{path.parent.name}.{path.stem}': str(path)
    for path in sorted(root.glob('*/*.py'))
    if path.stem not in _NO_TASKS
  }


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model and all that evaluates it."""

  config: ConfigDict
  task: Task
  mesh: Mesh
  step: int  # updates behind the parameters
  params: Any  # NumPy arrays, whole on every process
  is_picked: bool  # one seed of a run of several

  @property
  def model(self) -> nnx.Module:
    """The module with these parameters, on one device of this process.

    Of several seeds it is the first.
    """
    first = 0 if self.config.num_seeds > 1 else ...
    params = jax.tree.map(lambda x: jnp.asarray(x[first]), self.params)
    return step.make_merge(self.task)(params)


def load(folder: str, overrides: Mapping[str, Any]) -> Trained:
  """Loads a run folder (its newest checkpoint) or a folder of weights.

  `overrides` change leaves of its config, by dotted name. Where it has several
  seeds, num_seeds=1 and seed=K pick one.

  Raises:
    UserError: nothing to load, damaged, or no such seed.
  """
  path = pathlib.Path(folder)
  config = read_config(path)
  _check(config)
  done = config.total_steps
  seeds = range(config.seed, config.seed + config.num_seeds)
  config.update_from_flattened_dict(overrides)
  is_alone = config.num_seeds == len(seeds) == 1  # whatever its number
  allowed = {1: seeds, len(seeds): seeds[:1]}.get(config.num_seeds, ())
  if config.seed not in allowed and not is_alone:
    raise UserError(
      f'{folder} holds seeds {seeds[0]} to {seeds[-1]}: leave config.seed and'
      ' config.num_seeds as they are, or pick one by --config.num_seeds=1 and'
      ' --config.seed=...'
    )
  runtime.use_cpu_cores(config.batch_size)
  task, mesh = make_task(config), sharding.make_mesh(config.mesh)
  stored = config.copy_and_resolve_references()
  stored.num_seeds = len(seeds)
  abstract_state = step.make_init(task, stored, mesh).eval_shape()
  if (path / weights.NAME).exists():
    params = weights.load_weights(folder, abstract_state.params)
    done = weights.load_step(folder) or done
  else:
    state = checkpoints.restore(folder, abstract_state)
    if state is None:
      raise UserError(f'{folder} holds no checkpoint yet')
    done, params = int(state.step), sharding.fetch(state.evaluated, mesh)
  is_picked = config.num_seeds < len(seeds)
  if is_picked:
    place = seeds.index(config.seed)
    params = jax.tree.map(lambda x: x[place], params)
  return Trained(config, task, mesh, done, params, is_picked)


def config_file(folder: str | None, default: str) -> str:
  """The file of the config that a folder was trained with, or the default."""
  if not folder:
    return default
  saved = runtime.read_json(pathlib.Path(folder) / 'config.json')
  return _tasks().get(str(saved.get('task')), default)


def read_config(folder: pathlib.Path) -> ConfigDict:
  """Reads the config of a run or of weights.

  Keys that are newer than the folder get the defaults of the bare config, which
  do what was done before there was such a key.

  Raises:
    UserError: there is none, it is of no task, or a value has another type.
  """
  path = folder / 'config.json'
  saved = runtime.read_json(path)
  if not saved:
    raise UserError(
      f'{folder} holds no config.json: name a run with --workdir or shipped'
      ' weights with --weights=pretrained/...'
    )
  check_choice('config.task', saved.get('task', ''), _tasks())
  config = runpy.run_path(_tasks()[saved['task']])['get_config']()
  config.report = ConfigDict()  # only what the folder says
  known, there = (
    traverse_util.flatten_dict(c, sep='.') for c in (config.to_dict(), saved)
  )
  unknown = [
    name
    for name in there
    if not name.startswith('report')
    and not any(key == name or key.startswith(f'{name}.') for key in known)
  ]
  if unknown:
    raise UserError(
      f'{path} has what this version does not know: {", ".join(unknown)}; use'
      ' the version that wrote it'
    )
  try:
    config.update(saved)
  except (AttributeError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} holds a setting of another type than the default'
      f' ({runtime.one_line(error)}); correct it'
    ) from error
  return config


def predict(trained: Trained, path: str) -> bool:
  """Prints an answer for each line of a file, '-' standard input.

  Returns whether all could be read; the others give an error line on stderr.

  Raises:
    UserError: no such file.
  """
  if path == '-' and isinstance(sys.stdin, io.TextIOWrapper):
    sys.stdin.reconfigure(encoding='utf-8-sig', errors='replace')
  try:
    lines = sys.stdin
    if path != '-':
      lines = open(path, encoding='utf-8-sig', errors='replace')
  except OSError as error:
    raise UserError(f'--input={path}: {error.strerror}') from error
  good = True
  with lines:
    answers = trained.task.predict(trained.model, lines)
    for number, answer in enumerate(answers, start=1):
      if isinstance(answer, UserError):
        why = ' '.join(str(answer).split())
        print(f'error: line {number}: {why}', file=sys.stderr)
        good = False
      else:
        print(answer, flush=True)
  return good


def evaluate(trained: Trained, folder: str) -> dict[str, Any]:
  """Runs all evaluators; leaves results.json and figures in `folder`.

  A seed that was picked makes `folder` one of weights.

  Returns {'step': N, '<evaluator>/<metric>': value, ...}, without the curves.

  Raises:
    UserError: a seed that was picked has no new folder, or is not trained yet.
  """
  if trained.is_picked:
    _save_picked(trained, folder)
  num_seeds = trained.config.num_seeds
  merge = step.make_merge(trained.task)
  values, counts = {}, {}
  for name, evaluator in trained.task.evaluators().items():
    run = evaluation.make_evaluation(evaluator, merge, trained.mesh, num_seeds)
    measured = run(trained.params)
    values |= evaluation.values(measured, f'{name}/', num_seeds)
    counts |= {f'{name}/{key}': m.interval() for key, m in measured.items()}
  values = writers.without_nan(values)
  if jax.process_index() == 0:
    path = pathlib.Path(folder)
    with runtime.reported_writes(path):
      path.mkdir(parents=True, exist_ok=True)
      if not (path / 'config.json').exists():  # else it is the run's own folder
        runtime.write_json(path / 'config.json', trained.config.to_dict())
      results = {k: {'value': v} | counts.get(k, {}) for k, v in values.items()}
      record = {'step': trained.step, 'run': runtime.versions()}
      runtime.write_json(path / 'results.json', record | {'metrics': results})
      plots.save(trained.task.figures(values, trained.model), path / 'plots')
  numbers = {k: v for k, v in values.items() if not isinstance(v, list)}
  return {'step': trained.step} | numbers


def _save_picked(trained: Trained, folder: str):
  """Makes a new folder of weights, as if the seed had been trained alone."""
  if trained.step < trained.config.total_steps:
    raise UserError(
      f'{trained.step} of {trained.config.total_steps} updates are done: train'
      ' to the end before you pick a seed'
    )
  path = pathlib.Path(folder)
  with runtime.together(), runtime.reported_writes(path):
    if jax.process_index() == 0:
      if (path / 'config.json').exists():
        raise UserError(
          f'{folder} is in use: give the seed a new folder by --workdir, and'
          ' name the run of several seeds with --weights'
        )
      path.mkdir(parents=True, exist_ok=True)
      runtime.write_json(path / 'config.json', trained.config.to_dict())
      weights.save_weights(path, trained.params, step=trained.step)
