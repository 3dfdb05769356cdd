"""Check the settings that every config has.

Tasks check their own settings with the functions of `core.errors`.
"""

import re

from flax import traverse_util
from ml_collections import ConfigDict

from core.errors import UserError, check_choice
from core.run import run_config

DTYPES = 'float32', 'bfloat16'
# Smallest values of the numbers that every config has.
_LEAST = {
  'num_seeds': 1,
  'batch_size': 1,
  'steps_per_call': 1,
  'checkpoint.keep_last': 1,
  'seed': 0,
  'total_steps': 0,
  'microbatch_size': 0,
  'log.every': 0,
  'checkpoint.every': 0,
}


def check(config: ConfigDict):
  """Check the task, whole numbers, dtype, and regular expressions of a config.

  Raises:
    UserError: the task is unknown, or a setting is invalid.
  """
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  run_config.check_task(leaves.get('task', ''))
  for name in _LEAST:
    if name not in leaves:
      raise UserError(f'config.{name} is missing; expected a whole number')
  for name, value in leaves.items():
    # An axis of the mesh may be -1.
    if isinstance(value, int) and not name.startswith('mesh.'):
      _check_number(name, value)
  check_choice('config.dtype', leaves.get('dtype', ''), DTYPES)
  for name in run_config.PATH_REGEXES:
    try:
      re.compile(leaves.get(name, ''))
    except re.error as error:
      raise UserError(
        f'config.{name}={leaves[name]!r} is not a regular expression: {error}'
      ) from error


def _check_number(name: str, value: int):
  least = 1 if name == 'evals.batch_size' else _LEAST.get(name, 0)
  if not least <= value < 2**31:
    raise UserError(
      f'config.{name}={value!r}: expected a whole number from {least} to'
      ' 2147483647'
    )
