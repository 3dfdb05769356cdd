"""The config of a run or of weights, as its folder's `config.json` holds it."""

import pathlib
import runpy

from flax import traverse_util
from ml_collections import ConfigDict

from core import storage
from core.errors import UserError, check_choice, one_line

NAME = 'config.json'
_NO_TASKS = '__init__', 'common'  # files of configs


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
  do what was done before there was such a key.

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
  config = runpy.run_path(tasks()[saved['task']])['get_config']()
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
    if not all(isinstance(text, str) for text in config.report.values()):
      raise TypeError('config.report holds more than text')
  except (AttributeError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} holds a setting of another type than the default'
      f' ({one_line(error)}); correct it'
    ) from error
  return config
