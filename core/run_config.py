"""The config of a run or of weights, from `config.json` in its folder."""

import json
import pathlib
import runpy
from collections.abc import Mapping
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from core import storage
from core.errors import UserError, check_choice, nearest, one_line

NAME = 'config.json'
_NO_TASKS = '__init__', 'common'  # files of configs
# Settings that may differ between a run and its resumption.
_FREE_KEYS = (
  *('total_steps', 'steps_per_call', 'microbatch'),
  *('mesh', 'evals', 'log', 'checkpoint', 'report'),
)


def tasks() -> dict[str, str]:
  """Return the tasks that have a config, such as 'rrn.sudoku', and its file."""
  root = pathlib.Path(__file__).parents[1] / 'configs'
  return {
    f'{path.parent.name}.{path.stem}': str(path)
    for path in sorted(root.glob('*/*.py'))
    if path.stem not in _NO_TASKS
  }


def file_of(folder: str | None, default: str) -> str:
  """Return the config file that a folder was trained with, or the default."""
  if not folder:
    return default
  saved = storage.read_json(pathlib.Path(folder) / NAME)
  return tasks().get(str(saved.get('task')), default)


def read(folder: pathlib.Path) -> ConfigDict:
  """Read the config of a run or of weights.

  Keys that are newer than the folder get the defaults of the bare config, which
  keep the behavior from before the key existed. Keys that an experiment removed
  are dropped if they have the value that its file lists as `RETIRED`.

  Raises:
    UserError: no config, an unknown task, or a value of another type.
  """
  path = folder / NAME
  if not path.is_file():
    raise UserError(_not_a_run(folder))
  saved = storage.read_json(path, task=str)
  check_choice('config.task', saved['task'], tasks())
  _rename_settings(saved)
  config = _bare(saved['task'])
  config.report = ConfigDict()  # only what the folder says
  saved = _without_retired(saved)
  if names := _unknown(saved, config):
    raise UserError(
      f'{path} has what this version does not know: {", ".join(names)}; use'
      ' the version that wrote it'
    )
  try:
    config.update(saved)
    leaves = traverse_util.flatten_dict(saved, sep='.')
    if nulls := [name for name, value in leaves.items() if value is None]:
      raise TypeError(f'{", ".join(nulls)} is null')
    if not all(isinstance(text, str) for text in config.report.values()):
      raise TypeError('config.report holds more than text')
  except (AttributeError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} holds a setting of another type than the default'
      f' ({one_line(error)}); correct it'
    ) from error
  return config


def check_known(config: ConfigDict):
  """Check the keys and the types of a config against its task's own file.

  `read` could not tell an unknown key from one of a later version.

  Raises:
    UserError: a key is unknown or missing, or its value has another type.
  """
  task = str(config.get('task', ''))
  check_choice('config.task', task, tasks())
  file = f'configs/{task.replace(".", "/")}.py'
  bare = _bare(task)
  if names := _unknown(config.to_dict(), bare):
    raise UserError(
      f'the config has {", ".join(names)}, and {file} has not: remove it, or'
      ' define it there with a default'
    )
  there, here = (_leaves(c) for c in (bare, config))
  if names := sorted(there.keys() - here.keys()):
    raise UserError(
      f'the config lacks {", ".join(names)}, which {file} defines: start from'
      ' its get_config() and change what differs'
    )
  for name, value in there.items():
    kinds = (int, float) if isinstance(value, float) else type(value)
    is_bool = isinstance(here[name], bool) and not isinstance(value, bool)
    if not isinstance(here[name], kinds) or is_bool:
      raise UserError(
        f'config.{name}={here[name]!r}: a value of type'
        f' {type(value).__name__} expected, as in {file}'
      )


def _leaves(config: ConfigDict) -> dict[str, Any]:
  """Return the leaves by dotted name, but for those of the report."""
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  return {k: v for k, v in leaves.items() if not k.startswith('report')}


def check_same(folder: pathlib.Path, config: ConfigDict):
  """Raise UserError if a folder holds a run with a different config."""
  if not (folder / NAME).is_file():
    return
  old, new = (
    traverse_util.flatten_dict(json.loads(c.to_json()), sep='.')
    for c in (read(folder), config)
  )
  differing = [
    f'{key} ({json.dumps(old.get(key))} there, {json.dumps(new.get(key))} now)'
    for key in sorted({*old, *new})
    if key.split('.')[0] not in _FREE_KEYS
    and key != 'data.dir'
    and old.get(key) != new.get(key)
  ]
  if differing:
    raise UserError(
      f'{folder} holds a run of another config: {", ".join(differing)}; give'
      ' the same config to resume it, or another --workdir'
    )


def _rename_settings(saved: dict[str, Any]):
  """Give settings that an older version saved their current names.

  A config file may define RENAMED, which maps a section to old and new names.
  """
  renamed = runpy.run_path(tasks()[saved['task']]).get('RENAMED', {})
  for section, names in renamed.items():
    settings = saved.get(section)
    for old, new in names.items():
      if isinstance(settings, dict) and old in settings:
        settings[new] = settings.pop(old)


def _not_a_run(folder: pathlib.Path) -> str:
  """Return what to do about a folder that holds neither a run nor weights."""
  text = (
    f'{folder} holds no {NAME}: name a run with --workdir or weights with'
    ' --weights'
  )
  shipped = pathlib.Path(__file__).parents[1] / 'pretrained'
  places = dict.fromkeys([folder.absolute().parent, shipped])
  names = {}
  for place in places:
    for path in sorted(place.glob(f'*/{NAME}')):
      names[path.parent.name] = f'{place.name}/{path.parent.name}'
  if not names:
    return text
  near, known = names[nearest(folder.name, names)], ', '.join(names.values())
  return f'{text}; did you mean {near}? (there are: {known})'


def _bare(task: str) -> ConfigDict:
  return runpy.run_path(tasks()[task])['get_config']()


def _without_retired(saved: dict[str, Any]) -> dict[str, Any]:
  """Drop the keys that the experiment removed, at the value it still has.

  The file of the config may define RETIRED: dotted key -> value.
  """
  retired = runpy.run_path(tasks()[saved['task']]).get('RETIRED', {})
  for name, value in retired.items():
    section, _, leaf = name.rpartition('.')
    group = saved.get(section)
    if isinstance(group, Mapping) and group.get(leaf) == value:
      saved = saved | {section: {k: v for k, v in group.items() if k != leaf}}
  return saved


def _unknown(config: Mapping[str, Any], bare: ConfigDict) -> list[str]:
  """Return the leaves that the bare config of the same task lacks."""
  known, there = (
    traverse_util.flatten_dict(c, sep='.') for c in (bare.to_dict(), config)
  )
  return [
    name
    for name in there
    if not name.startswith('report')
    and not any(key == name or key.startswith(f'{name}.') for key in known)
  ]
