"""The config of a run or of weights, from `config.json` in its folder."""

import json
import os
import pathlib
import re
import reprlib
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from core.errors import UserError, one_line, suggest_path
from core.io import atomic_files, data_files

ROOT = pathlib.Path(__file__).parents[2]
NAME = 'config.json'
TASK_FOLDER = 'LEARNED_ALGORITHMS_TASKS'  # environment variable
_MAX_LISTED_DIFFERENCES = 5  # in an error
_NO_TASKS = '__init__', 'common'  # files in configs/ that are not tasks
# Settings of all experiments that earlier versions saved under other names.
_RENAMED = {'microbatch': 'microbatch_size', 'init_new': 'init_missing_regex'}
# Settings that hold regexes of parameter paths.
PATH_REGEXES = 'init_missing_regex', 'optim.l2_paths', 'optim.muon_paths'
# Settings that may differ between a run and its resumption.
_FREE_KEYS = (
  'total_steps',
  'steps_per_call',
  'microbatch_size',
  'mesh',
  'evals',
  'log',
  'checkpoint',
  'report',
)


def join_config_flag(arguments: Iterable[str]) -> list[str]:
  """Replace the two arguments `--config FILE` by `--config=FILE`."""
  joined, rest = [], iter(arguments)
  for argument in rest:
    if argument in ('--config', '-config'):
      argument = f'{argument}={next(rest, "")}'
    joined.append(argument)
  return joined


def tasks() -> dict[str, str]:
  """Map the name of each task, such as 'rrn.sudoku', to its config file."""
  return {
    f'{path.parent.name}.{path.stem}': str(path)
    for path in sorted(ROOT.glob('configs/*/*.py'))
    if path.stem not in _NO_TASKS
  }


def check_task(task: str):
  """Check that a task exists, in the repository or in `TASK_FOLDER`.

  A folder of weights names its task, so this check prevents such a folder from
  importing any other module. For a task in `TASK_FOLDER`, this function also
  adds that folder to `sys.path`.

  Raises:
    UserError: the task does not exist.
  """
  if task in tasks():
    return
  folder = data_files.expand(os.environ.get(TASK_FOLDER, ''))
  names = str(task).split('.')
  is_named = folder and all(name.isidentifier() for name in names)
  if not is_named or not pathlib.Path(folder, *names, 'task.py').is_file():
    raise UserError(
      f'config.task={task!r}: expected one of {", ".join(tasks())}, or'
      f' MY_PACKAGE.MY_TASK if the folder ${TASK_FOLDER} has'
      ' MY_PACKAGE/MY_TASK/task.py'
    )
  if folder not in sys.path:
    sys.path.append(folder)


def _definitions(task: str) -> dict[str, Any]:
  """Return the names that the config file of a task defines.

  Tasks outside the repository have no known config file: {}.
  """
  file = tasks().get(task)
  return runpy.run_path(file) if file else {}


def find_folder(path: str) -> str:
  """Return the path of a folder, which may be relative to the repository."""
  path = data_files.expand(path)
  in_repository = ROOT / path
  if not os.path.exists(path) and in_repository.is_dir():
    return str(in_repository)
  return path


def config_file_of(folder: str | None, default: str) -> str:
  """Return the config file of a run or weights, or the default."""
  if not folder:
    return default
  saved = atomic_files.read_json(pathlib.Path(folder) / NAME)
  return tasks().get(str(saved.get('task')), default)


def read(folder: pathlib.Path) -> ConfigDict:
  """Read the config of a run or of weights.

  Keys that are newer than the folder get the defaults of `get_config()`, which
  keep the behavior from before the key existed. Keys that an experiment removed
  are dropped if they have the value in `RETIRED` of its config file.

  Raises:
    UserError: there is no config, the task is unknown, or a value has the wrong
      type.
  """
  path = folder / NAME
  if not path.is_file():
    raise UserError(not_a_run(folder))
  saved = atomic_files.read_json(path, task=str)
  check_task(saved['task'])
  if saved['task'] not in tasks():
    return ConfigDict(_with_tuples(saved))
  _rename_settings(saved)
  config = _default_config(saved['task'])
  config.report = ConfigDict()  # no defaults
  saved = _without_retired(saved)
  if names := _unknown(saved, config):
    raise UserError(
      f'{path} has settings that this version does not know:'
      f' {", ".join(names)}; use the version that wrote it'
    )
  try:
    config.update(saved)
    leaves = traverse_util.flatten_dict(saved, sep='.')
    if nulls := [name for name, value in leaves.items() if value is None]:
      raise TypeError(f'{", ".join(nulls)} is null')
    if not all(isinstance(text, str) for text in config.report.values()):
      raise TypeError('config.report holds a value that is not text')
  except (AttributeError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} holds a setting with the wrong type ({one_line(error)}); correct'
      ' it'
    ) from error
  return config


def call_config_function(
  function: str, config_flag: str, overrides: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Call a function of a config file, and override leaves of the results.

  Args:
    function: 'sweep' or 'stages'. It returns configs by name; a sweep may also
      return dicts of stages by name.
    config_flag: `FILE[:ARGUMENTS]`.
    overrides: dotted names of leaves -> new values, for every config.

  Returns:
    The configs by name; None if the file does not define the function.

  Raises:
    UserError: the function fails, does not return configs by name, or returns a
      config that an override does not fit.
  """
  path, _, arg = config_flag.partition(':')
  names = runpy.run_path(path)
  if function not in names:
    return None
  call = f'{function}({arg!r}) of {path}'
  try:
    configs = names[function](arg or None)
  except UserError:
    raise
  except Exception as error:  # the code of a config can raise any error
    raise UserError(
      f'{call} fails: {type(error).__name__}: {one_line(error)}; correct this'
      ' function'
    ) from error
  if not _are_configs(configs, allow_stages=function == 'sweep'):
    value = ' '.join(reprlib.repr(configs).split())
    raise UserError(
      f'{call} returns {value}; expected a dict from names to configs'
    )
  for entry in configs.values():
    parts = [entry] if isinstance(entry, ConfigDict) else entry.values()
    for config in parts:
      try:
        config.update_from_flattened_dict(overrides)
      except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
          f'{call} returns a config that an override does not fit:'
          f' {one_line(error)}; override only settings that all of its configs'
          ' have'
        ) from error
  return configs


def _are_configs(value: Any, *, allow_stages: bool) -> bool:
  """Return whether a value maps names to configs, or to dicts of stages."""
  return isinstance(value, Mapping) and all(
    isinstance(name, str)
    and (
      isinstance(entry, ConfigDict)
      or (allow_stages and _are_configs(entry, allow_stages=False))
    )
    for name, entry in value.items()
  )


def check_against_defaults(config: ConfigDict):
  """Check the keys and types of a config against the config file of its task.

  Without this check, `read` could not distinguish an unknown key from a key of
  a later version.

  Raises:
    UserError: a key is unknown or missing, or its value has the wrong type.
  """
  task = str(config.get('task', ''))
  check_task(task)
  if task not in tasks():
    return
  file = f'configs/{task.replace(".", "/")}.py'
  default_config = _default_config(task)
  if names := _unknown(config.to_dict(), default_config):
    raise UserError(
      f'the config has {", ".join(names)}, which {file} does not define; remove'
      ' it, or define it there with a default'
    )
  defaults, given = (_leaves(c) for c in (default_config, config))
  if names := sorted(defaults.keys() - given.keys()):
    raise UserError(
      f'the config lacks {", ".join(names)}, which {file} defines; start from'
      ' its get_config()'
    )
  for name, default in defaults.items():
    kinds = (int, float) if isinstance(default, float) else type(default)
    is_bool = isinstance(given[name], bool) and not isinstance(default, bool)
    if not isinstance(given[name], kinds) or is_bool:
      raise UserError(
        f'config.{name}={given[name]!r}: expected a value of type'
        f' {type(default).__name__}, as in {file}'
      )


def _is_report(name: str) -> bool:
  return name.partition('.')[0] == 'report'


def _leaves(config: ConfigDict) -> dict[str, Any]:
  """Return the leaves by dotted name, except those of the report."""
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  return {k: v for k, v in leaves.items() if not _is_report(k)}


def check_same(folder: pathlib.Path, config: ConfigDict):
  """Raise UserError if a folder holds a run with a different config."""
  if not (folder / NAME).is_file():
    return
  saved = read(folder)
  if saved.task != config.task:
    raise UserError(
      f'{folder} holds a run of {saved.task}, not of {config.task}; choose'
      ' another --workdir'
    )
  old, new = (
    traverse_util.flatten_dict(json.loads(c.to_json()), sep='.')
    for c in (saved, config)
  )
  differing = [
    f'{key} ({json.dumps(old.get(key))} there, {json.dumps(new.get(key))} now)'
    for key in sorted({*old, *new})
    if key.split('.')[0] not in _FREE_KEYS
    and key != 'data.dir'
    and old.get(key) != new.get(key)
  ]
  if differing:
    if len(differing) > _MAX_LISTED_DIFFERENCES:
      rest = len(differing) - _MAX_LISTED_DIFFERENCES
      differing[_MAX_LISTED_DIFFERENCES:] = [f'{rest} more']
    raise UserError(
      f'{folder} holds a run with a different config: {", ".join(differing)};'
      ' use the same config to resume it, or another --workdir'
    )


def describe(config: ConfigDict, config_flag: str) -> str:
  """List the settings, with their values at the paper's size if those differ.

  Args:
    config: the resolved config.
    config_flag: `FILE[:ARGUMENTS]`. The paper's size has the same arguments
      without `cpu` or `smoke`.
  """
  path, _, arguments = config_flag.partition(':')
  kept = [x for x in arguments.split(',') if x not in ('', 'cpu', 'smoke')]
  paper = runpy.run_path(path)['get_config'](','.join(kept) or None)
  ours, theirs = _leaves(config), _leaves(paper)
  lines = []
  for name in sorted(ours | theirs):
    our, their = (repr(c[name]) if name in c else '-' for c in (ours, theirs))
    line = f'config.{name} = {our}'
    lines.append(line if our == their else f"{line}  # paper's size: {their}")
  return '\n'.join(lines)


def layer_renamer(task: str) -> Callable[[str], str]:
  """Return a function that replaces old names of layers with current names.

  It takes the path of a parameter, or a regular expression for such paths. A
  config file may define RENAMED_LAYERS, which maps old -> new names.
  """
  renamed = _definitions(task).get('RENAMED_LAYERS', {})
  # The b of an escape such as \b is not part of a name.
  return lambda text: re.sub(
    r'\\.|\w+', lambda word: renamed.get(word[0], word[0]), text
  )


def _rename_settings(saved: dict[str, Any]):
  """Replace old names of settings and layers with their current names.

  A config file may define RENAMED, which maps a section to old -> new names.
  """
  renamed = _definitions(saved['task']).get('RENAMED', {})
  sections = [(saved, _RENAMED)]
  sections += [(saved.get(name), names) for name, names in renamed.items()]
  for settings, names in sections:
    for old, new in names.items():
      if isinstance(settings, dict) and old in settings:
        settings[new] = settings.pop(old)
  rename = layer_renamer(saved['task'])
  for name in PATH_REGEXES:
    section, _, leaf = name.rpartition('.')
    settings = saved.get(section) if section else saved
    if isinstance(settings, dict) and isinstance(settings.get(leaf), str):
      settings[leaf] = rename(settings[leaf])


def not_a_run(folder: pathlib.Path) -> str:
  """Return the error for a folder that holds neither a run nor weights."""
  text = f'{folder} holds neither a run nor weights: it has no {NAME}'
  if not folder.exists():
    text = f'there is no folder {folder}'
  shipped = ROOT / 'pretrained'
  places = {shipped: pathlib.Path('pretrained')}
  places = {folder.parent.resolve(): folder.parent} | places
  known = [
    str(name / path.parent.name)
    for place, name in places.items()
    for path in sorted(place.glob(f'*/{NAME}'))
  ]
  hint = suggest_path(str(folder), known) if known else 'train a run in it'
  return f'{text}; {hint}'


def _default_config(task: str) -> ConfigDict:
  return _definitions(task)['get_config']()


def _with_tuples(value: Any) -> Any:
  """Replace lists with tuples, which JSON does not have."""
  if isinstance(value, dict):
    return {key: _with_tuples(x) for key, x in value.items()}
  return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _without_retired(saved: dict[str, Any]) -> dict[str, Any]:
  """Drop keys that the experiment removed, if they have the accepted value.

  A config file may define RETIRED, which maps a dotted key to this value.
  """
  retired = _definitions(saved['task']).get('RETIRED', {})
  for name, value in retired.items():
    section, _, leaf = name.rpartition('.')
    group = saved.get(section)
    if isinstance(group, Mapping) and group.get(leaf) == value:
      saved = saved | {section: {k: v for k, v in group.items() if k != leaf}}
  return saved


def _unknown(config: Mapping[str, Any], defaults: ConfigDict) -> list[str]:
  """Return the leaves that the default config of the same task lacks."""
  known, given = (
    traverse_util.flatten_dict(c, sep='.') for c in (defaults.to_dict(), config)
  )
  return [
    name
    for name in given
    if not _is_report(name)
    and not any(key == name or key.startswith(f'{name}.') for key in known)
  ]
