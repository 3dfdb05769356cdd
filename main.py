"""Trains, evaluates and uses the experiments of `configs/`; see README.md."""

import json
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from core import experiment, loop, report, runtime, sweep
from core.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
  'config',
  'configs/rrn/sudoku.py:smoke',
  'The experiment and its size, such as configs/rrn/sudoku.py:cpu.',
  lock_config=True,
)
MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'predict', 'sweep', 'report'],
  'What to do.',
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'The run folder. Default: runs/<system>.<experiment>.'
)
WEIGHTS = flags.DEFINE_string(
  'weights', None, 'The weights to evaluate or predict by: a folder.'
)
INPUT = flags.DEFINE_string(
  'input', '-', 'The file to predict, one example a line. -: standard input.'
)
INDEX = flags.DEFINE_integer('index', None, 'The one point of a sweep to run.')
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'This is one of several processes of one run.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0. Default: what the cluster says.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'As coordinator.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'As coordinator.')


def main(_) -> int:
  """Does what the flags say, and returns the exit status."""
  logging.set_verbosity(logging.WARNING)
  if DISTRIBUTED.value:
    runtime.start_distributed(
      COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
    )
  flag = flags.FLAGS['config']
  config, overrides = CONFIG.value, config_flags.get_override_values(flag)
  folder = WORKDIR.value or f'runs/{config.task}'
  match MODE.value:
    case 'train':
      if loop.run(config, folder):
        print(report.report(folder))
    case 'sweep':
      points = sweep.load_points(config_flags.get_config_filename(flag))
      for point in points.values():
        point.update_from_flattened_dict(overrides)
      if sweep.run(points, folder, loop.run, index=INDEX.value):
        print(report.report(folder))
    case 'report':
      print(report.report(folder))
    case 'eval':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      print(json.dumps(experiment.evaluate(trained, folder)))
    case 'predict':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      return 0 if experiment.predict(trained, INPUT.value) else 2
  return 0


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake ends with one line and status 2."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, UserError, OSError, LookupError, TypeError) as error:
    sys.exit(complain(error, 2))


def guarded(argv: list[str]) -> int:
  """Runs main; what the user can mend ends with one line, not a traceback."""
  try:
    return main(argv)
  except UserError as error:
    return complain(error, 2)
  except FloatingPointError as error:
    return complain(error, 1)


def complain(error: Exception, status: int) -> int:
  """Prints the error as one line."""
  print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
  return status


if __name__ == '__main__':
  app.run(guarded, flags_parser=parse)
