"""Result files: the numbers of a table as data, for documents.

`--mode=sweep` and `--mode=report` write `table.json` to the folder of a sweep
or of an evaluated run. `--results=results` copies it to
`results/<system>/<experiment>/<table>.json`, to be committed:

  {"config": "configs/rrn/sudoku.py:cpu,table=ablations",
   "command": "uv run main.py --mode=sweep --config=configs/rrn/sudoku.py:...",
   "rows": {"width_32": {"overrides": {"model.width": 32, ...}, ...}, ...}}

A row describes a run and its measurements; `row_of` lists its keys. The config
of the table with the overrides of a row is the config of its run. The config
argument `table=NAME` names the table. The default is the first name in TABLES
of the config file. The table of a single run has the name of its folder.

`core.report.measurements` writes tables of measurements that are not runs.
"""

import json
import pathlib
import re
import runpy
import shlex
from collections.abc import Mapping
from typing import Any

import jax
from flax import traverse_util
from ml_collections import ConfigDict

from core import metrics
from core.errors import UserError, one_line
from core.io import atomic_files, data_files, weights
from core.run import run_config

ROOT = run_config.ROOT
NAME = 'table.json'
_VERSIONS = 'python', 'jax', 'jaxlib', 'flax', 'optax'
# Arguments that choose or change the config, except the folder of the data.
_CONFIG_FLAG = re.compile(r'--?(no)?config(\.(?!data\.dir=)|=)')
# Settings that do not affect any number, and the settings of the report.
_WITHOUT_EFFECT = re.compile(r'(mesh|log|checkpoint|report)\b.*|data\.dir')


def write(folder, results: str | None = None) -> None:
  """Write `folder`/table.json from the evaluated runs there, if there are any.

  Args:
    folder: folder of a single run, or of a sweep, whose sub-folders are rows.
    results: folder of result files that also gets the table. None writes only
      `folder`/table.json.

  Raises:
    UserError: a file is damaged or cannot be written; `results` is set, but no
      run is evaluated; or `results` has this table with a different config.
  """
  if jax.process_index() != 0:
    return
  folder = pathlib.Path(folder)
  is_run = (folder / run_config.NAME).is_file()
  found = [folder] if is_run else folder.iterdir()
  paths = sorted(
    filter(is_evaluated, found),
    key=lambda path: metrics.natural_sort_key(path.name),
  )
  if not paths:
    if results:
      raise UserError(
        f'{folder} holds no evaluated run; run --mode=eval or --mode=sweep'
        ' before --results'
      )
    return
  is_sweep = not is_run or '--mode=sweep' in _arguments(paths[0])
  table = {
    'config': base_of(paths[0])[0],
    'command': command_of(paths[0], 'sweep' if is_sweep else 'train'),
    'rows': {path.name: row_of(path) for path in paths},
  }
  with atomic_files.reported_writes(folder):
    write_file(folder / NAME, table)
  if results:
    task = run_config.read(paths[0]).task
    name = folder.resolve().name if is_run else table_name(table['config'])
    path = pathlib.Path(results, *task.split('.'), f'{name}.json')
    _publish(table, path)


def _publish(table: Mapping[str, Any], path: pathlib.Path):
  old = atomic_files.read_json(path).get('config', table['config'])
  if old != table['config']:
    raise UserError(
      f'{path} has results of {old}, not of {table["config"]}; use another'
      ' --results folder, or delete the file'
    )
  with atomic_files.reported_writes(path.parent, '--results'):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, table)


def write_file(path: pathlib.Path, table: Mapping[str, Any]):
  """Write a result file in the format of `to_text`."""
  atomic_files.replace_file(path, f'{to_text(table)}\n'.encode())


def read(path: pathlib.Path) -> dict[str, Any]:
  """Read a result file.

  Raises:
    UserError: there is no such file, or it is damaged.
  """
  if not path.is_file():
    raise UserError(f'{path} does not exist')
  table = atomic_files.read_json(path, command=str, rows=dict)
  for row in table['rows'].values():
    atomic_files.check_object(row, path, metrics=dict)
  return table


def row_of(folder: pathlib.Path) -> dict[str, Any]:
  """Return the row of an evaluated run.

  Its keys are 'overrides' (changes to the config of the table), 'seeds',
  'parameters' (their number), 'updates', 'examples' (per seed), 'minutes' (of
  training), 'device', 'revision', 'date' (of the evaluation), 'versions',
  'paper' (metric -> the paper's value), and 'metrics': name -> 'value'. A share
  also has 'count', 'low', and 'high'. With several seeds, 'value' is the median
  of 'by_seed'.
  """
  config = run_config.read(folder)
  evaluated = atomic_files.read_json(
    folder / 'results.json', step=int, metrics=dict
  )
  origin = atomic_files.read_json(folder / 'run.json')
  origin = origin or evaluated.get('run', {})
  seeds = range(config.seed, config.seed + config.num_seeds)
  return {
    'overrides': _overrides(config, base_of(folder)[1]),
    'seeds': list(seeds),
    'parameters': weights.num_parameters(folder) // config.num_seeds,
    'updates': evaluated['step'],
    'examples': evaluated['step'] * config.batch_size,
    'minutes': _minutes(folder),
    'device': f'{origin.get("num_devices", 1)} x {origin.get("device", "?")}',
    'revision': origin.get('git', 'unknown'),
    'date': evaluated.get('run', {}).get('date', ''),
    'versions': {name: origin.get(name, '') for name in _VERSIONS},
    'paper': {k: v for k, v in config.report.items() if v not in ('', '%')},
    'metrics': _numbers(evaluated['metrics'], config.num_seeds),
  }


def is_evaluated(folder: pathlib.Path) -> bool:
  """Return whether a folder holds a finished and evaluated run."""
  has_config = (folder / run_config.NAME).is_file()
  return has_config and weights.has_results(folder)


def base_of(folder: pathlib.Path) -> tuple[str, ConfigDict]:
  """Return the `FILE:ARGUMENTS` that a run was started with, and its config.

  If the run does not record them, this is the config file of its task.
  """
  task = run_config.read(folder).task
  for argument in _arguments(folder):
    name, _, flag = argument.lstrip('-').partition('=')
    if name == 'config':
      try:
        if (config := load_config(flag)).task == task:
          return flag, config
      except UserError:  # the file or an argument no longer exists
        pass
  if task not in run_config.tasks():
    raise UserError(f'{folder} was trained with a config that no longer exists')
  flag = _relative(run_config.tasks()[task])
  return flag, load_config(flag)


def command_of(folder: pathlib.Path, mode: str) -> str:
  """Return the command that started a run, without its folders."""
  given = [x for x in _arguments(folder) if _CONFIG_FLAG.match(x)]
  if not any(re.match('--?config=', argument) for argument in given):
    given.insert(0, f'--config={base_of(folder)[0]}')
  modes = [] if mode == 'train' else [f'--mode={mode}']
  return shlex.join(['uv', 'run', 'main.py', *modes, *given])


def _arguments(folder: pathlib.Path) -> list[str]:
  """Return the arguments that started a run, with relative config paths."""
  command = atomic_files.read_json(folder / 'run.json').get('command', '')
  arguments = []
  for argument in run_config.join_config_flag(shlex.split(command)[1:]):
    name, has_value, value = argument.partition('=')
    if name.lstrip('-') == 'config':
      value = _relative(value)
    arguments.append(f'{name}{has_value}{value}')
  return arguments


def _relative(path: str) -> str:
  return path.removeprefix(f'{ROOT}/')


def _config_file(path: str) -> str:
  """Look up a path in the working directory, then in the repository."""
  path = data_files.expand(path)
  return path if pathlib.Path(path).is_file() else str(ROOT / path)


def table_name(flag: str) -> str:
  """Return the name of the table that `FILE:ARGUMENTS` sweeps."""
  path, _, argument = flag.partition(':')
  if given := re.search(r'(?:^|,)table=([^,]+)', argument):
    return given[1]
  file = _config_file(path)
  tables = runpy.run_path(file).get('TABLES', ['sweep'])
  return next(iter(tables))


def load_config(
  flag: str, overrides: Mapping[str, Any] | None = None
) -> ConfigDict:
  """Return the config of `FILE:ARGUMENTS`, with changes by dotted name.

  Raises:
    UserError: the file, an argument, or a changed setting does not exist.
  """
  path, _, argument = flag.partition(':')
  try:
    config = runpy.run_path(_config_file(path))['get_config'](argument or None)
    with config.unlocked():
      config.update_from_flattened_dict(overrides or {})
  except UserError:
    raise
  except Exception as error:  # the code of a config can raise any error
    raise UserError(
      f'{flag} cannot be loaded: {type(error).__name__}: {one_line(error)}'
    ) from error
  run_config.check_against_defaults(config)
  return config


def _overrides(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
  """Return the settings that differ from `base`, and the source of the data."""
  new, old = (
    traverse_util.flatten_dict(json.loads(c.to_json()), sep='.')
    for c in (config, base)
  )
  return {
    name: value
    for name, value in sorted(new.items())
    if not _WITHOUT_EFFECT.fullmatch(name)
    # The default source may depend on the files of a machine.
    and (value != old.get(name) or name == 'data.source')
  }


def _minutes(folder: pathlib.Path) -> float | None:
  """Return the minutes of training from metrics.jsonl; None without lines."""
  path = folder / 'metrics.jsonl'
  lines = path.read_bytes().splitlines() if path.is_file() else []
  if not lines:
    return None
  last = atomic_files.parse_json(lines[-1], path, seconds=float | int)
  return round(last['seconds'] / 60, 1)


def _numbers(measured: Mapping[str, Any], num_seeds: int) -> dict[str, Any]:
  """Return the metrics without curves, with one entry for all seeds."""
  numbers = {
    name: dict(entry)
    for name, entry in measured.items()
    if isinstance(entry['value'], int | float)
  }
  if num_seeds > 1:
    for name in list(numbers):
      if by_seed := measured.get(f'{name}_{metrics.SPREAD[-1]}'):
        numbers[name]['by_seed'] = by_seed['value']
        for end in metrics.SPREAD:
          numbers.pop(f'{name}_{end}', None)
  names = sorted(numbers, key=metrics.natural_sort_key)
  return {name: numbers[name] for name in names}


def to_text(value: Any, indent: str = '') -> str:
  """Return JSON with one line for each innermost object."""
  if not isinstance(value, dict):
    return json.dumps(value)
  if not any(isinstance(entry, dict) for entry in value.values()):
    return json.dumps(value)
  lines = (
    f'{indent} {json.dumps(key)}: {to_text(entry, indent + " ")}'
    for key, entry in value.items()
  )
  return '{\n' + ',\n'.join(lines) + f'\n{indent}}}'
