"""Train stages: runs that each start from the weights of the previous run.

If a config file defines `stages(arg)`, which returns a dict from names to
configs, its run trains in stages. Each `folder`/<name> is an ordinary run
folder. At the end, `folder` looks like a single run: it holds the weights of
the last stage and the metrics of all stages.
"""

import json
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from core.errors import UserError
from core.io import atomic_files, weights
from core.run import devices, distributed, run_config

Stages = Mapping[str, ConfigDict]


def load(config_flag: str, overrides: Mapping[str, Any]) -> Stages:
  """Call `stages(arg)` of `configs/<system>/<experiment>.py[:arg]`.

  Args:
    config_flag: path of the config, and its arguments.
    overrides: dotted names of leaves -> new values, for every stage.

  Returns:
    Name -> config; {} if there are no stages with these arguments.

  Raises:
    UserError: `stages` fails.
  """
  return run_config.call_config_function('stages', config_flag, overrides) or {}


def run(
  stages: Stages, folder, train: Callable[[ConfigDict, str, str], bool]
) -> bool:
  """Train the stages that are not finished, in order.

  Args:
    stages: name -> config.
    folder: folder of the whole run.
    train: trains a stage, like `loop.run`. Its arguments are the config, the
      folder, and the folder with the initial weights ('' for the first stage).

  Returns:
    Whether all stages are finished; False after a signal.

  Raises:
    UserError: see `check` and `train`.
    FloatingPointError: a loss was not finite.
  """
  folder = pathlib.Path(folder)
  stages = keep_first_init_weights(stages)
  check(stages, folder)
  # The CPU devices must not depend on the stage at which a run resumes.
  devices.use_cpu_cores(math.gcd(*(c.batch_size for c in stages.values())))
  previous = ''
  for number, (name, config) in enumerate(stages.items(), start=1):
    stage_folder = folder / name
    if weights.read_step_or_none(stage_folder) != config.total_steps:
      print(f'stage {number}/{len(stages)}: {name}', file=sys.stderr)
      if not train(config, str(stage_folder), previous):
        return False
    previous = str(stage_folder)
  with distributed.fail_together(), atomic_files.reported_writes(folder):
    if jax.process_index() == 0:
      _finish(stages, folder)
  return True


def keep_first_init_weights(stages: Stages) -> Stages:
  """Return copies of the configs, with `init_weights` only in the first stage.

  Each later stage starts from the weights of the previous stage.
  """
  copies = {
    name: config.copy_and_resolve_references()
    for name, config in stages.items()
  }
  for config in list(copies.values())[1:]:
    config.init_weights = ''
  return copies


def check(stages: Stages, folder: pathlib.Path):
  """Validate all stages before training, which may take hours per stage.

  Args:
    stages: result of `keep_first_init_weights`.
    folder: folder of the whole run.

  Raises:
    UserError: a config is invalid, or a folder holds a run with a different
      config.
  """
  is_followed = False  # whether the next stage has started
  for name in reversed(list(stages)):
    config, stage_folder = stages[name], folder / name
    run_config.check_against_defaults(config)
    run_config.check_same(stage_folder, config)
    saved = atomic_files.read_json(stage_folder / run_config.NAME)
    total = saved.get('total_steps', config.total_steps)
    if is_followed and total != config.total_steps:
      raise UserError(
        f'{stage_folder} was trained for {total} updates, and the next stage'
        f' started from it; set config.total_steps={total} for this stage, or'
        ' choose another --workdir'
      )
    is_followed |= bool(saved)


def _finish(stages: Stages, folder: pathlib.Path):
  """Make `folder` a run with all updates, and write its weights last."""
  *_, last = stages
  total = sum(config.total_steps for config in stages.values())
  if weights.read_step_or_none(folder) == total:
    return
  weights.remove_outputs(folder)
  config = stages[last].copy_and_resolve_references()
  config.total_steps = total
  atomic_files.write_json(folder / run_config.NAME, config.to_dict())
  shutil.copyfile(folder / last / 'run.json', folder / 'run.json')
  lines = ''.join(_joined_lines(folder / name for name in stages))
  atomic_files.replace_file(folder / 'metrics.jsonl', lines.encode())
  weights.copy(folder / last, folder, step=total)


def _joined_lines(folders):
  """Yield the lines of all metrics.jsonl files.

  Steps and seconds continue those of the previous folder.
  """
  step, seconds = 0, 0.0
  for folder in folders:
    path, line = folder / 'metrics.jsonl', {'step': step, 'seconds': seconds}
    for text in path.read_bytes().splitlines():
      line = atomic_files.parse_json(text, path, step=int, seconds=int | float)
      line['step'] += step
      line['seconds'] = round(line['seconds'] + seconds, 3)
      yield json.dumps(line) + '\n'
    step, seconds = line['step'], line['seconds']
