"""The points of a paper's table: a run folder each, resumable as a whole."""

import pathlib
import runpy
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from core import run_config, storage, weights
from core.errors import UserError, one_line

Points = Mapping[str, ConfigDict]


def load_points(config_flag: str, overrides: Mapping[str, Any]) -> Points:
  """Call `sweep(arg)` of `configs/<system>/<experiment>.py[:arg]`.

  `overrides` change leaves of every point, by dotted name.

  Raises:
    UserError: the file defines no `sweep`, or it fails.
  """
  path, _, arg = config_flag.partition(':')
  names = runpy.run_path(path)
  if 'sweep' not in names:
    raise UserError(
      f'{path} defines no sweep(arg); use --mode=train, or a config that does'
    )
  try:
    points = names['sweep'](arg or None)
    for point in points.values():
      point.update_from_flattened_dict(overrides)
  except UserError:
    raise
  except Exception as error:  # whatever a user's code raises
    raise UserError(
      f'sweep({arg!r}) of {path} fails: {type(error).__name__}:'
      f' {one_line(error)}; it returns a dict from names to configs'
    ) from error
  return points


def run(
  points: Points,
  folder,
  train: Callable[[ConfigDict, str], bool],
  index: int | None = None,
) -> bool:
  """Train the points that are not finished, each in `folder`/<name>.

  Args:
    points: name -> config.
    folder: of the sweep; processes with different indices may share it.
    train: trains and evaluates a point, as `loop.run_and_evaluate`.
    index: the one point to train; None for all.

  Returns:
    Whether all of these points are finished; False after a signal.

  Raises:
    UserError: no such index, a point's folder holds a run of another config,
      or what `train` raises.
    FloatingPointError: a loss was not finite; the other points were trained.
  """
  names = list(points)
  if index is not None:
    if not 0 <= index < len(names):
      raise UserError(
        f'--index={index} is out of range: the points of this sweep are 0 to'
        f' {len(names) - 1}'
      )
    names = [names[index]]
  for name in names:  # before hours of training the points ahead of it
    run_config.check_known(points[name])
    run_config.check_same(pathlib.Path(folder) / name, points[name])
  failed = []
  for number, name in enumerate(names, start=1):
    config, point = points[name], pathlib.Path(folder) / name
    print(f'{number}/{len(names)} {name}', file=sys.stderr)
    is_done = is_finished(point, config.total_steps)
    try:
      if not is_done and not train(config, str(point)):
        return False
    except FloatingPointError as error:
      print(f'{name}: {error}', file=sys.stderr)
      failed.append(name)
  if failed:
    raise FloatingPointError(f'not finished: {", ".join(failed)}')
  return True


def is_finished(folder: pathlib.Path, total_steps: int) -> bool:
  """Return whether a run was trained to this step and evaluated."""
  saved = storage.read_json(folder / run_config.NAME)
  is_complete = len(weights.outcome(folder)) == 2
  return is_complete and saved.get('total_steps') == total_steps
