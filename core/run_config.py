"""The config of a run or of weights, as its folder's `config.json` holds it."""

import json
import pathlib
import runpy
from collections.abc import Mapping
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from core import storage
from core.errors import UserError, check_choice, one_line

NAME = 'config.json'
_NO_TASKS = '__init__', 'common'  # files of configs
# What may differ between a run and its resumption; the rest defines the run.
_FREE_KEYS = (
  *('total_steps', 'steps_per_call', 'microbatch'),
  *('mesh', 'evals', 'log', 'checkpoint', 'report'),
)


def tasks() -> dict[str, str]:
  """The tasks that have a config, such as 'rrn.sudoku', and its file."""
  root = pathlib.Path(__file__).parents[1] / 'configs'
  return {
    f'{path.parent.name}.{path.stem}': str(path)
    for path in sorted(root.glob('*/*.py'))
    if path.stem not in _NO_TASKS
  }


def file_of(folder: str | None, default: str) -> str:
  """The file of the config that a folder was trained with, or the default."""
  if not folder:
    return default
  saved = storage.read_json(pathlib.Path(folder) / NAME)
  return tasks().get(str(saved.get('task')), default)


def read(folder: pathlib.Path) -> ConfigDict:
  """Reads the config of a run or of weights.

  Keys that are newer than the folder get the defaults of the bare config, which
  do what was done before there was such a key. Keys that an experiment removed
  are dropped if they have the value that its file lists as `RETIRED`.

  Raises:
    UserError: there is none, it is of no task, or a value has another type.
  """
  path = folder / NAME
  if not path.is_file():
    raise UserError(
      f'{folder} holds no {NAME}: name a run with --workdir or shipped'
      ' weights with --weights=pretrained/...'
    )
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
  """Raises UserError for a key that the file of the config's task has not.

  `read` could not tell it from that of a later version.
  """
  if names := _unknown(config.to_dict(), _bare(config.task)):
    raise UserError(
      f'the config has {", ".join(names)}, and'
      f' configs/{config.task.replace(".", "/")}.py has not: define it there,'
      ' with a default'
    )


def check_same(folder: pathlib.Path, config: ConfigDict):
  """Raises UserError if a folder holds a run of a config that differs."""
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
  """The leaves that the bare config of the same task has not."""
  known, there = (
    traverse_util.flatten_dict(c, sep='.') for c in (bare.to_dict(), config)
  )
  return [
    name
    for name in there
    if not name.startswith('report')
    and not any(key == name or key.startswith(f'{name}.') for key in known)
  ]
