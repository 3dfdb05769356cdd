"""Make the task of a config, and load, evaluate, and use a trained model."""

import dataclasses
import functools
import importlib
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epy
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from core import checkpoints, evaluation, metrics, sharding, step
from core.errors import UserError
from core.io import atomic_files, data_files, weights, writers
from core.run import (
  console,
  devices,
  distributed,
  run_config,
  run_folder,
  settings,
)
from core.task import Task

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from core.report import plots

# The files that an evaluation writes.
_RESULTS = run_config.NAME, 'results.json', 'plots', 'report.md', console.NAME


def make_task(config: ConfigDict) -> Task:
  """Build the task of `config.task`, such as 'rrn.sudoku'.

  Raises:
    UserError: there is no such task, or a setting is out of its range.
  """
  return _module(config).make_task(config)


def figures(
  task: Task, values: Mapping[str, Any], model: nnx.Module | None = None
) -> Mapping[str, Any]:
  """Return the figures of an evaluation by file name, if the task draws any.

  Args:
    task: the task.
    values: '<evaluator>/<metric>' -> a number or a (nested) list.
    model: the trained model. Without a model, the task draws fewer figures.
  """
  draw = getattr(task, 'figures', lambda values, model: {})
  return draw(values, model)


def sweep_figures(
  points: Mapping[str, tuple[ConfigDict, Mapping[str, Any]]],
) -> Mapping[str, Any]:
  """Return the figures of a sweep by file name, if its task draws any.

  Args:
    points: name of a run -> its config and its measurements.
  """
  (config, _), *_ = points.values()
  draw = getattr(_module(config), 'sweep_figures', lambda points: {})
  return draw(points)


def training_figures(
  config: ConfigDict, lines: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
  """Return the figures of a training run by file name, if there are any.

  Args:
    config: the config of the run.
    lines: the lines of metrics.jsonl.
  """
  draw = getattr(_module(config), 'training_figures', lambda lines: {})
  return draw(lines)


def _module(config: ConfigDict):
  """Return the module of the config's task after checking the config."""
  settings.check(config)
  return importlib.import_module(f'{config.task}.task')


@dataclasses.dataclass(frozen=True)
class TrainedModel:
  """A trained model with its task.

  Attributes:
    folder: the folder that it was loaded from.
    config: its config.
    task: its task.
    mesh: the mesh of evaluations.
    step: number of updates.
    params: nested dict of NumPy arrays; every process has the whole arrays.
    is_one_of_many: whether this is one selected seed of a run with several.
  """

  folder: pathlib.Path
  config: ConfigDict
  task: Task
  mesh: Mesh
  step: int
  params: Any
  is_one_of_many: bool

  @functools.cached_property
  def model(self) -> nnx.Module:
    """The module with these parameters, on one device of this process.

    With several seeds, the first one is used.
    """
    params = self.params
    if self.config.num_seeds > 1:
      params = jax.tree.map(lambda x: x[0], params)
    return step.make_merge(self.task)(jax.tree.map(jnp.asarray, params))

  def predict(self, lines: Iterable[str]) -> list[str | UserError]:
    """Return one answer per line, or a UserError for a bad line.

    The README of each system describes the format of a line.
    """
    return list(self.task.predict(self.model, lines))


def load(folder: str, overrides: Mapping[str, Any]) -> TrainedModel:
  """Load a folder of weights, or the newest checkpoint of a run folder.

  Args:
    folder: path of the folder.
    overrides: dotted names of config leaves -> new values. In a run of several
      seeds, num_seeds=1 and seed=K select one seed.

  Raises:
    UserError: the folder has nothing to load or is damaged, or the seed does
      not exist.
  """
  path = pathlib.Path(data_files.expand(folder))
  config = run_config.read(path)
  settings.check(config)
  done = config.total_steps
  seeds = range(config.seed, config.seed + config.num_seeds)
  config.update_from_flattened_dict(overrides)
  # Weights of a single seed may be loaded with any `config.seed`.
  is_alone = config.num_seeds == len(seeds) == 1
  is_whole = config.num_seeds == len(seeds) and config.seed == seeds[0]
  is_one_of_them = config.num_seeds == 1 and config.seed in seeds
  if not (is_alone or is_whole or is_one_of_them):
    raise UserError(
      f'{folder} holds seeds {seeds[0]} to {seeds[-1]}; keep config.seed and'
      ' config.num_seeds, or select one seed with --config.num_seeds=1 and'
      ' --config.seed=...'
    )
  devices.use_cpu_cores(config.batch_size)
  task, mesh = make_task(config), sharding.make_mesh(config.mesh)
  stored = config.copy_and_resolve_references()
  stored.num_seeds = len(seeds)
  abstract_state = step.make_init(task, stored, mesh).eval_shape()
  rename = run_config.layer_renamer(config.task)
  if (path / weights.NAME).exists():
    params = weights.load_weights(path, abstract_state.params, rename=rename)
    done = weights.read_step(path) or done
  else:
    state = checkpoints.restore(path, abstract_state, rename)
    if state is None:
      raise UserError(
        f'{folder} holds no checkpoint yet; wait for the first one, or name'
        ' another folder'
      )
    done, params = int(state.step), sharding.fetch(state.eval_params, mesh)
  is_one_of_many = config.num_seeds < len(seeds)
  if is_one_of_many:
    index = seeds.index(config.seed)
    params = jax.tree.map(lambda x: x[index], params)
  return TrainedModel(path, config, task, mesh, done, params, is_one_of_many)


def predict(trained: TrainedModel, path: str) -> bool:
  """Print the answer to each line of a file.

  A line that cannot be read or answered gives an empty line on standard output,
  and an error with its number on standard error. To warn about an answer, a
  task calls `logging.warning('line %d: ...', number, ...)` before it yields the
  answer.

  Args:
    trained: the trained model.
    path: path of the file; '-' for standard input.

  Returns:
    Whether all lines could be answered.

  Raises:
    UserError: the file cannot be opened.
    StreamError: standard input cannot be read.
  """
  unreadable: dict[int, UserError] = {}
  is_good = True
  with console.open_input(path) as file:
    lines = console.decode_lines(file, unreadable)
    answers = trained.task.predict(trained.model, lines)
    for count, answer in enumerate(answers, start=1):
      is_error = isinstance(answer, UserError)
      number = answer.line if is_error and answer.line is not None else count
      if is_error or not answer:  # the task has seen a blank line
        answer = unreadable.pop(number, answer)
      if isinstance(answer, UserError):
        _print_error(number, answer)
        answer, is_good = '', False
      print(answer or '', flush=True)
  # The remaining lines belong to problems of several lines.
  for number, error in unreadable.items():
    _print_error(number, error)
    is_good = False
  return is_good


def _print_error(number: int, error: UserError):
  text = ' '.join(str(error).split())
  print(f'error: line {number}: {text}', file=sys.stderr)


def evaluate(trained: TrainedModel, folder: str) -> dict[str, Any]:
  """Run all evaluators, and write results.json and figures to `folder`.

  For one seed of several, also write its weights, like those of a separate run.

  Returns:
    {'step': N, '<evaluator>/<metric>': number, ...}, without lists (curves).

  Raises:
    UserError: `folder` belongs to another run; or one seed is selected, and
      `folder` is not new or the training is not finished.
  """
  path = pathlib.Path(folder)
  with distributed.fail_together(), atomic_files.reported_writes(path):
    if jax.process_index() == 0:
      _open_results_folder(trained, path)
      console.set_fallback_folder(path)
  num_seeds = trained.config.num_seeds
  merge = step.make_merge(trained.task)
  values, intervals = {}, {}
  for name, evaluator in trained.task.evaluators().items():
    _print_on_process_0(f'evaluating {name}')
    run = evaluation.make_evaluation(
      evaluator,
      merge,
      trained.mesh,
      num_seeds,
      shows_progress=jax.process_index() == 0,
    )
    measured = run(trained.params)
    values |= evaluation.values(measured, f'{name}/', num_seeds)
    intervals |= {f'{name}/{key}': m.interval() for key, m in measured.items()}
  values = writers.without_nan(values)
  if jax.process_index() == 0:
    with atomic_files.reported_writes(path):
      results = {
        k: {'value': v} | intervals.get(k, {}) for k, v in values.items()
      }
      record = {'step': trained.step, 'run': run_folder.versions()}
      atomic_files.write_json(
        path / 'results.json', record | {'metrics': results}
      )
      plots.save(figures(trained.task, values, trained.model), path / 'plots')
  numbers = {k: v for k, v in values.items() if not isinstance(v, list)}
  _print_on_process_0(_table(numbers, intervals))
  return {'step': trained.step} | numbers


def _print_on_process_0(text: str):
  """Print to standard error if this is process 0."""
  if jax.process_index() == 0:
    print(text, file=sys.stderr)


def _table(
  numbers: Mapping[str, float | None],
  intervals: Mapping[str, Mapping[str, float]],
) -> str:
  """Return one line per metric: its name, its value, and its interval."""
  names = metrics.headline(numbers)
  width = max(map(len, names), default=0)
  lines = []
  for name in names:
    value = numbers[name]
    line = f'{name:<{width}}  {"NaN" if value is None else f"{value:.4g}"}'
    if interval := intervals.get(name):
      low, high, count = (interval[key] for key in ('low', 'high', 'count'))
      line += f'  ({low:.4g} to {high:.4g}, n = {count})'
    lines.append(line)
  return '\n'.join(lines)


def _open_results_folder(trained: TrainedModel, path: pathlib.Path):
  """Check that results may be written to a folder, and prepare it.

  The folder may be the evaluated one. Any other folder must be empty or contain
  only results, and gets the config. For one seed of several, it must be empty,
  and also gets the weights.
  """
  if trained.is_one_of_many and trained.step < trained.config.total_steps:
    raise UserError(
      f'{trained.step} of {trained.config.total_steps} updates are done; finish'
      ' the training before you select a seed'
    )
  is_own = path.is_dir() and path.samefile(trained.folder)
  if is_own and not trained.is_one_of_many:
    return
  allowed = () if trained.is_one_of_many else _RESULTS
  if others := {file.name for file in path.glob('*')}.difference(allowed):
    raise UserError(
      f'{path} is in use (it holds {min(others)}); name a new folder for the'
      ' results with --workdir, and the evaluated folder with --weights'
    )
  path.mkdir(parents=True, exist_ok=True)
  atomic_files.write_json(path / run_config.NAME, trained.config.to_dict())
  if trained.is_one_of_many:
    weights.save_weights(path, trained.params, step=trained.step)
