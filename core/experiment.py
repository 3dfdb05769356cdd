"""Make the task of a config; load, evaluate, and use a trained model."""

import codecs
import contextlib
import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from core import (
  checkpoints,
  console,
  evaluation,
  files,
  plots,
  run_config,
  runtime,
  settings,
  sharding,
  step,
  storage,
  weights,
  writers,
)
from core.errors import UserError, one_line
from core.task import Task

# What an evaluation leaves in a folder.
_RESULTS = run_config.NAME, 'results.json', 'plots', 'report.md', console.NAME


def make_task(config: ConfigDict) -> Task:
  """Build the task of `config.task`, such as 'rrn.sudoku'.

  Raises:
    UserError: no such task, or a setting out of its range.
  """
  return _module(config).make_task(config)


def sweep_figures(
  points: Mapping[str, tuple[ConfigDict, Mapping[str, Any]]],
) -> Mapping[str, Figure]:
  """Return the figures of a sweep, by file name, if its task draws any.

  `points` maps the name of each run to its config and its measurements.
  """
  (config, _), *_ = points.values()
  draw = getattr(_module(config), 'sweep_figures', lambda points: {})
  return draw(points)


def training_figures(
  config: ConfigDict, lines: Sequence[Mapping[str, Any]]
) -> Mapping[str, Figure]:
  """Return the figures of a training, by file name, if its task draws any.

  `lines` are those of metrics.jsonl.
  """
  draw = getattr(_module(config), 'training_figures', lambda lines: {})
  return draw(lines)


def _module(config: ConfigDict):
  """Return the module of the config's task after checking the config."""
  settings.check(config)
  return importlib.import_module(f'{config.task}.task')


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model and what evaluates it."""

  folder: pathlib.Path
  config: ConfigDict
  task: Task
  mesh: Mesh
  step: int  # number of updates
  params: Any  # NumPy arrays, whole on every process
  is_picked: bool  # one seed of a run of several

  @property
  def model(self) -> nnx.Module:
    """The module with these parameters, on one device of this process.

    With several seeds, the first one is used.
    """
    first = 0 if self.config.num_seeds > 1 else ...
    params = jax.tree.map(lambda x: jnp.asarray(x[first]), self.params)
    return step.make_merge(self.task)(params)


def load(folder: str, overrides: Mapping[str, Any]) -> Trained:
  """Load a run folder (its newest checkpoint) or a folder of weights.

  `overrides` change leaves of its config, by dotted name. If it has several
  seeds, num_seeds=1 and seed=K pick one.

  Raises:
    UserError: nothing to load, damaged, or no such seed.
  """
  path = pathlib.Path(files.expand(folder))
  config = run_config.read(path)
  settings.check(config)
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
    params = weights.load_weights(path, abstract_state.params)
    done = weights.load_step(path) or done
  else:
    state = checkpoints.restore(path, abstract_state)
    if state is None:
      raise UserError(f'{folder} holds no checkpoint yet')
    done, params = int(state.step), sharding.fetch(state.evaluated, mesh)
  is_picked = config.num_seeds < len(seeds)
  if is_picked:
    place = seeds.index(config.seed)
    params = jax.tree.map(lambda x: x[place], params)
  return Trained(path, config, task, mesh, done, params, is_picked)


def predict(trained: Trained, path: str) -> bool:
  """Print one line for each answer to the lines of a file.

  A line that cannot be read or answered gives an empty line on standard output
  and an error with its number on standard error. A task that warns of an answer
  calls `logging.warning('line %d: ...', number, ...)` before it yields it.

  Args:
    path: '-' for standard input.

  Returns:
    Whether all lines could be answered.

  Raises:
    UserError: the file cannot be opened.
    StreamError: standard input cannot be read.
  """
  unreadable: dict[int, UserError] = {}
  good = True
  with _open_input(path) as file:
    lines = _decode_lines(file, unreadable)
    answers = trained.task.predict(trained.model, lines)
    for count, answer in enumerate(answers, start=1):
      is_error = isinstance(answer, UserError)
      number = answer.line if is_error and answer.line is not None else count
      # Whatever the task made of the characters that stand for bad bytes.
      answer = unreadable.pop(number, answer)
      if isinstance(answer, UserError):
        _print_error(number, answer)
        answer, good = '', False
      print(answer or '', flush=True)
  for number, error in unreadable.items():  # lines inside of larger problems
    _print_error(number, error)
    good = False
  return good


def _print_error(number: int, error: UserError):
  why = ' '.join(str(error).split())
  print(f'error: line {number}: {why}', file=sys.stderr)


def _decode_lines(
  file: Iterable[bytes], unreadable: dict[int, UserError]
) -> Iterator[str]:
  """Yield lines of UTF-8 text without their ends, as `files.read_lines`.

  A line that is not UTF-8 goes to `unreadable`, by its number, and is yielded
  with marks in place of its bad bytes.
  """
  try:
    for number, line in enumerate(file, start=1):
      line = line.removesuffix(b'\n').removesuffix(b'\r')
      if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
      try:
        text = line.decode()
      except UnicodeDecodeError as error:
        unreadable[number] = UserError(
          f'not UTF-8 text ({one_line(error)}); save the file as UTF-8'
        )
        text = line.decode(errors='replace')
      yield text
  except OSError as error:
    raise console.StreamError(
      f'cannot read the input: {error.strerror}; name a file by --input=FILE'
    ) from error


def _open_input(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
  """Open a file, or standard input, which stays open: a thread may read it."""
  try:
    if path == '-':
      # Not sys.stdin itself: a thread that waits in it would abort the exit. It
      # is not closed: closing would wait for that thread.
      file = open(sys.stdin.fileno(), 'rb', closefd=False)
      return contextlib.nullcontext(file)
    return open(files.expand(path), 'rb')
  except OSError as error:
    raise UserError(
      f'--input={path}: {error.strerror}; name a text file, or leave the flag'
      ' out to read standard input'
    ) from error


def evaluate(trained: Trained, folder: str) -> dict[str, Any]:
  """Run all evaluators; write results.json and figures to `folder`.

  For one seed of several, also write its weights, as if it was trained alone.

  Returns:
    {'step': N, '<evaluator>/<metric>': value, ...}, without the curves.

  Raises:
    UserError: `folder` is that of another run, or a seed that was picked has
      no new folder, or is not trained yet.
  """
  path = pathlib.Path(folder)
  with runtime.together(), storage.reported_writes(path):
    if jax.process_index() == 0:
      _open_results_folder(trained, path)
      console.keep_in(path)
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
    with storage.reported_writes(path):
      results = {k: {'value': v} | counts.get(k, {}) for k, v in values.items()}
      record = {'step': trained.step, 'run': runtime.versions()}
      storage.write_json(path / 'results.json', record | {'metrics': results})
      plots.save(trained.task.figures(values, trained.model), path / 'plots')
  numbers = {k: v for k, v in values.items() if not isinstance(v, list)}
  return {'step': trained.step} | numbers


def _open_results_folder(trained: Trained, path: pathlib.Path):
  """Check that results may be written to a folder.

  It may be the folder that is evaluated. Any other folder must be empty or hold
  only results; it gets the config. For one seed of several it must be empty,
  and gets the weights.
  """
  if trained.is_picked and trained.step < trained.config.total_steps:
    raise UserError(
      f'{trained.step} of {trained.config.total_steps} updates are done: train'
      ' to the end before you pick a seed'
    )
  is_own = path.is_dir() and path.samefile(trained.folder)
  if is_own and not trained.is_picked:
    return
  allowed = () if trained.is_picked else _RESULTS
  if others := {file.name for file in path.glob('*')}.difference(allowed):
    raise UserError(
      f'{path} is in use (it holds {min(others)}): give the results a new'
      ' folder by --workdir, and name what is evaluated with --weights'
    )
  path.mkdir(parents=True, exist_ok=True)
  storage.write_json(path / run_config.NAME, trained.config.to_dict())
  if trained.is_picked:
    weights.save_weights(path, trained.params, step=trained.step)
