"""Trains, evaluates and uses the experiments of `configs/`; see README.md."""

import signal

# Ctrl-C in the imports below ends the program without a traceback.
if __name__ == '__main__':
  if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import json
import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from core import (
  command_line,
  compile,
  console,
  experiment,
  loop,
  report,
  runtime,
  sweep,
)

MODES = 'train', 'eval', 'predict', 'sweep', 'report', 'compile'
DEFAULT = pathlib.Path(__file__).parent / 'configs/seq2set/sorting.py'
OVERRIDES: list[str] = []  # see `command_line.parse`

CONFIG = config_flags.DEFINE_config_file(
  'config', f'{DEFAULT}:cpu', 'FILE[:ARGUMENTS].', sys_argv=OVERRIDES
)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Run folder: runs/TASK if unset.'
)
WEIGHTS = flags.DEFINE_string('weights', None, 'Folder of weights to use.')
INPUT = flags.DEFINE_string('input', '-', 'File to predict; -: standard input.')
TOPOLOGY = flags.DEFINE_string('topology', 'v5e:4x4', 'TPUs to compile for.')
INDEX = flags.DEFINE_integer('index', None, 'The one point of a sweep to run.')
DISTRIBUTED = flags.DEFINE_bool('distributed', False, 'One process of several.')
COORDINATOR = flags.DEFINE_string('coordinator', None, 'Process 0: host:port.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'With coordinator.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'With coordinator.')


def main(_) -> int:
  """Do what the flags say, and return the exit status."""
  logging.set_verbosity(logging.WARNING)
  runtime.use_float32()
  numbers = NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or COORDINATOR.value or numbers != (None, None):
    runtime.start_distributed(COORDINATOR.value, *numbers)
  flag = flags.FLAGS['config']
  config, overrides = CONFIG.value, config_flags.get_override_values(flag)
  name = pathlib.Path(WEIGHTS.value or str(config.get('task'))).name
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
      runtime.check_devices()
      print(report.report(folder))
    case 'eval':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      print(json.dumps(experiment.evaluate(trained, folder)))
    case 'predict':
      trained = experiment.load(WEIGHTS.value or folder, overrides)
      return 0 if experiment.predict(trained, INPUT.value) else 2
  return 0


def guarded(argv: list[str]) -> int:
  """Run main; an error that the user can correct takes one line."""
  return command_line.run(main, argv)


if __name__ == '__main__':
  console.open_missing_streams()
  app.run(guarded, flags_parser=lambda x: command_line.parse(x, OVERRIDES))
