"""Trains, evaluates and uses the experiments of `configs/`; see README.md."""

import json
import pathlib
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from configs import common
from core import compile, experiment, loop, report, runtime, sweep
from core.errors import UserError

MODES = 'train', 'eval', 'predict', 'sweep', 'report', 'compile'
OVERRIDES: list[str] = []  # stands in for sys.argv, see `parse`

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


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake ends with one line and status 2."""
  is_override = re.compile(r'--?(no)?config\.').match
  try:
    if rest := flags.FLAGS([x for x in argv if not is_override(x)])[1:]:
      raise UserError(f'{rest[0]!r} is no flag; write --name=value')
    # Only now that the config is known can its keys become flags.
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    common.check_file(path.partition(':')[0])
    if MODE.value in ('eval', 'predict') and not flags.FLAGS['config'].present:
      path = experiment.config_file(WEIGHTS.value or WORKDIR.value, path)
    flags.FLAGS([argv[0], f'--config={path}'])
    OVERRIDES[:] = filter(is_override, argv)
    common.check_overrides(CONFIG.value, OVERRIDES)
    return flags.FLAGS([argv[0], f'--config={path}', *OVERRIDES])
  except (UserError, flags.Error, *common.NO_CONFIG) as error:
    sys.exit(complain(error))


def guarded(argv: list[str]) -> int | None:
  """Runs main; what the user can mend ends with one line, not a traceback."""
  try:
    with runtime.ended_with_others(), runtime.until_output_is_closed():
      return main(argv)
  except (UserError, FloatingPointError) as error:
    return runtime.leave(complain(error))


def complain(error: Exception) -> int:
  """Prints the error as one line; returns 1 if training failed, else 2."""
  print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
  return 1 if isinstance(error, FloatingPointError) else 2


if __name__ == '__main__':
  app.run(guarded, flags_parser=parse)
