"""Trains, evaluates and uses the experiments of `configs/`; see README.md."""

import json
import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from core import (
  command_line,
  compile,
  experiment,
  loop,
  report,
  runtime,
  sweep,
)
from core.errors import UserError

MODES = 'train', 'eval', 'predict', 'sweep', 'report', 'compile'
OVERRIDES: list[str] = []  # see `command_line.parse`

CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/seq2set/sorting.py:cpu', 'What to run.', sys_argv=OVERRIDES
)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Default: runs/<task>.')
WEIGHTS = flags.DEFINE_string('weights', None, 'A folder to use, not a run.')
INPUT = flags.DEFINE_string('input', '-', 'Lines to predict: a file; -: stdin.')
TOPOLOGY = flags.DEFINE_string('topology', 'v5e:4x4', 'To compile for.')
INDEX = flags.DEFINE_integer('index', None, 'The one point of a sweep to run.')
DISTRIBUTED = flags.DEFINE_bool('distributed', False, 'One process of several.')
COORDINATOR = flags.DEFINE_string('coordinator', None, 'Process 0: host:port.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'With coordinator.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'With coordinator.')


def main(_) -> int:
  """Does what the flags say, and returns the exit status."""
  logging.set_verbosity(logging.WARNING)
  numbers = NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or COORDINATOR.value or numbers != (None, None):
    runtime.start_distributed(COORDINATOR.value, *numbers)
  flag = flags.FLAGS['config']
  config, overrides = CONFIG.value, config_flags.get_override_values(flag)
  name = pathlib.Path(WEIGHTS.value).name if WEIGHTS.value else config.task
  folder = WORKDIR.value or f'runs/{name}' + '.sweep' * (MODE.value == 'sweep')
  match MODE.value:
    case 'train':
      if loop.run(config, folder):
        print(report.report(folder))
    case 'sweep':
      path = config_flags.get_config_filename(flag)
      points = sweep.load_points(path, overrides)
      if sweep.run(points, folder, loop.run_and_evaluate, INDEX.value):
        print(report.report(folder))
    case 'compile':
      print(compile.report(config, TOPOLOGY.value.split(',')))
    case 'report':
      print(report.report(folder))
    case 'eval':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      print(json.dumps(experiment.evaluate(trained, folder)))
    case 'predict':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      return 0 if experiment.predict(trained, INPUT.value) else 2
  return 0


def guarded(argv: list[str]) -> int | None:
  """Runs main; what the user can mend ends with one line, not a traceback."""
  try:
    with runtime.ended_with_others(), runtime.until_output_is_closed():
      return main(argv)
  except (UserError, FloatingPointError) as error:
    return runtime.leave(command_line.complain(error))


if __name__ == '__main__':
  app.run(guarded, flags_parser=lambda x: command_line.parse(x, OVERRIDES))
