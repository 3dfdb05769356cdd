"""Check the values of settings as far as their names define a range."""

import re

from flax import traverse_util
from ml_collections import ConfigDict

from core import run_config
from core.errors import UserError, check_choice

DTYPES = 'float32', 'bfloat16'
# The lower bounds of numbers that every config has.
_LEAST = {
  **dict.fromkeys(['num_seeds', 'total_steps', 'batch_size'], 1),
  **dict.fromkeys(['steps_per_call', 'checkpoint.keep_last'], 1),
  **dict.fromkeys(['seed', 'microbatch', 'log.every', 'checkpoint.every'], 0),
}
# Other numbers that may not be 0.
_POSITIVE = re.compile(
  r'model\.(?!edge_)\w*(width|height|heads)|model\.num_draws'
  r'|model\.(num_steps|num_layers|message_layers|node_layers)'
  r'|evals\.(batch_size|num_\w+|boards_per_\w+|max_steps)'
  r'|data\.(num_variables|num_examples|num_sets|num_generated|length)'
  r'|data\.questions_per_scene'
)
# The numbers of entries that tuples may have.
_COUNTS = {
  **dict.fromkeys(['data.givens', 'data.start_givens', 'evals.givens'], [2]),
  'data.curriculum': [0, 2, 3],
  'model.forget_biases': [2],
}
# Tuples that need an entry, and tuples of fractions.
_FILLED = re.compile(r'evals\.(num_steps|lengths|test_lengths)|model\..*')
_FRACTIONS = 'data.curriculum', 'data.task_weights'


def check(config: ConfigDict):
  """Raise UserError for an unknown task or a setting out of its range."""
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  # A folder of weights names its task: no other module may be imported.
  check_choice('config.task', leaves.get('task', ''), run_config.tasks())
  numbers = {
    name: value
    for name, value in leaves.items()
    if isinstance(value, int) and not name.startswith('mesh.')
  }
  for name, value in (dict.fromkeys(_LEAST) | numbers).items():
    least = _LEAST.get(name, 1 if _POSITIVE.fullmatch(name) else 0)
    if value is None or not least <= value < 2**31:
      raise UserError(
        f'config.{name}={value!r}: a whole number from {least} to 2147483647'
        ' expected'
      )
  for name, value in leaves.items():
    if isinstance(value, tuple) and name != 'evals.paper':
      _check_tuple(name, value)
  check_choice('config.dtype', leaves.get('dtype', ''), DTYPES)
  for name in 'optim.muon_paths', 'optim.l2_paths', 'init_new':
    try:
      re.compile(leaves.get(name, ''))
    except re.error as error:
      raise UserError(
        f'config.{name}={leaves[name]!r} is no regular expression: {error}'
      ) from error


def _check_tuple(name: str, values: tuple):
  """Raise UserError for numbers out of range, or another count of them."""
  kinds = int | float if name in _FRACTIONS else int
  least = 1 if name.startswith('evals.') else 0
  for value in values:
    if not isinstance(value, kinds) or not least <= value < 2**31:
      raise UserError(
        f'config.{name}={values}: numbers from {least} on expected'
      )
  if not values and _FILLED.fullmatch(name):
    raise UserError(f'config.{name}=(): at least one number expected')
  if len(values) not in _COUNTS.get(name, [len(values)]):
    counts = ' or '.join(map(str, _COUNTS[name]))
    raise UserError(f'config.{name}={values}: {counts} numbers expected')
  if name.endswith('givens') and values[0] > values[1]:
    raise UserError(f'config.{name}={values}: the least and the most expected')
