"""Train, evaluate, and use the experiments in `configs/`; see README.md."""

import signal

# Ctrl-C during the imports below ends the program without a traceback.
if __name__ == '__main__':
  if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import functools
import json
import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from core import inference, loop, stages, sweep
from core.aot import compile as aot_compile
from core.report import report, results
from core.run import command_line, console, devices, distributed, run_config

MODES = 'train', 'eval', 'predict', 'sweep', 'report', 'compile', 'config'
DEFAULT = pathlib.Path(__file__).parent / 'configs/seq2set/sorting.py'
OVERRIDES: list[str] = []  # see `command_line.parse`

CONFIG = config_flags.DEFINE_config_file(
  'config', f'{DEFAULT}:cpu', 'Config file, with arguments.', sys_argv=OVERRIDES
)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder [runs/TASK].')
WEIGHTS = flags.DEFINE_string('weights', None, 'Folder of weights to use.')
INPUT = flags.DEFINE_string('input', '-', 'File of inputs; default: stdin.')
TOPOLOGY = flags.DEFINE_string('topology', 'v5e:4x4', 'TPUs to compile for.')
RESULTS = flags.DEFINE_string('results', None, 'Folder for the result file.')
INDEX = flags.DEFINE_integer('index', None, 'Run only this point, from 0.')
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Run as one of several processes.'
)
COORDINATOR = flags.DEFINE_string('coordinator', None, 'Process 0, HOST:PORT.')
NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Number of processes.'
)
PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Index of this process, from 0.'
)


def main(_) -> int:
  """Do what the flags say, and return the exit status."""
  logging.set_verbosity(logging.WARNING)
  devices.use_float32()
  address = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or address != (None, None, None):
    distributed.start(*address)
  flag = flags.FLAGS['config']
  config, overrides = CONFIG.value, config_flags.get_override_values(flag)
  path = config_flags.get_config_filename(flag)
  name = pathlib.Path(WEIGHTS.value or str(config.get('task'))).name
  suffix = '.sweep' if MODE.value == 'sweep' else ''
  folder = WORKDIR.value or f'runs/{name}{suffix}'
  match MODE.value:
    case 'train':
      config_or_stages = stages.load(path, overrides) or config
      if loop.train_run(config_or_stages, folder):
        print(report.report(folder), flush=True)
        command_line.announce_end(folder)
    case 'sweep':
      points = sweep.load_points(path, overrides)
      record = functools.partial(results.write, folder)
      if sweep.run(points, folder, loop.run_and_evaluate, INDEX.value, record):
        print(report.report(folder))
        results.write(folder, RESULTS.value)
    case 'config':
      print(run_config.describe(config, path))
    case 'compile':
      names = TOPOLOGY.value.split(',')
      print(aot_compile.report(config, names, RESULTS.value, path, overrides))
    case 'report':
      devices.check_devices()
      print(report.report(folder))
      results.write(folder, RESULTS.value)
    case 'eval':
      trained = inference.load(WEIGHTS.value or folder, overrides)
      print(json.dumps(inference.evaluate(trained, folder)), flush=True)
      report.report(folder)
    case 'predict':
      trained = inference.load(WEIGHTS.value or folder, overrides)
      return 0 if inference.predict(trained, INPUT.value) else 2
  return 0


def guarded(argv: list[str]) -> int:
  """Run `main`, print user errors as one line, and return the exit status."""
  return command_line.run(main, argv)


if __name__ == '__main__':
  console.open_missing_streams()
  app.run(guarded, flags_parser=lambda x: command_line.parse(x, OVERRIDES))
