"""Train the points of a paper's table, each in its own run folder."""

import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from core import stages
from core.errors import UserError
from core.io import atomic_files, weights
from core.run import run_config

Point = ConfigDict | stages.Stages
Points = Mapping[str, Point]


def load_points(config_flag: str, overrides: Mapping[str, Any]) -> Points:
  """Call `sweep(arg)` of `configs/<system>/<experiment>.py[:arg]`.

  Args:
    config_flag: path of the config, and its arguments.
    overrides: dotted names of leaves -> new values, for every point.

  Raises:
    UserError: the file defines no `sweep`, or it fails.
  """
  points = run_config.call_config_function('sweep', config_flag, overrides)
  if points is None:
    path = config_flag.partition(':')[0]
    raise UserError(
      f'{path} defines no sweep(arg); use --mode=train, or a config file that'
      ' defines it'
    )
  return points


def run(
  points: Points,
  folder,
  train: Callable[[Point, str], bool],
  index: int | None = None,
  record: Callable[[], object] = lambda: None,
) -> bool:
  """Train the points that are not finished, each in `folder`/<name>.

  Args:
    points: name -> config, or the configs of its stages.
    folder: folder of the sweep; processes with different indices may share it.
    train: trains and evaluates a point, like `loop.run_and_evaluate`.
    index: index of a single point to train. None trains all points.
    record: called after each finished point.

  Returns:
    Whether all of these points are finished; False after a signal.

  Raises:
    UserError: there is no such index, or the folder of a point holds a run with
      a different config; see also `train`.
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
  total_steps = {}
  for name in names:  # validate all points before hours of training
    point, run_folder = points[name], pathlib.Path(folder) / name
    # A run without stages is a single stage in the run folder itself.
    parts = {'': point} if isinstance(point, ConfigDict) else point
    stages.check(stages.keep_first_init_weights(parts), run_folder)
    total_steps[name] = sum(config.total_steps for config in parts.values())
  failed = []
  for number, name in enumerate(names, start=1):
    point, run_folder = points[name], pathlib.Path(folder) / name
    print(f'{number}/{len(names)} {name}', file=sys.stderr)
    is_done = is_finished(run_folder, total_steps[name])
    try:
      if not is_done and not train(point, str(run_folder)):
        return False
      record()
    except FloatingPointError as error:
      print(f'{name}: {error}', file=sys.stderr)
      failed.append(name)
  if failed:
    raise FloatingPointError(
      f'these points did not finish: {", ".join(failed)}; see the errors above'
    )
  return True


def is_finished(folder: pathlib.Path, total_steps: int) -> bool:
  """Return whether a run has been trained to this step and evaluated."""
  if not weights.has_results(folder):
    return False
  saved = atomic_files.read_json(folder / run_config.NAME)
  # A longer run writes its config first; old weights record no step.
  done = weights.read_step_or_none(folder)
  return saved.get('total_steps') == total_steps and done in (None, total_steps)
