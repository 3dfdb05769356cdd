"""Check the settings of Sudoku that `ModelConfig` does not check."""

import ml_collections

from core.errors import UserError, check_choice, check_numbers, check_positive
from rrn.sudoku import hard

SPLITS = 'validation', 'test'
SYMMETRIES = 'none', 'digits', 'all'


def check(config: ml_collections.ConfigDict):
  """Check the sizes, the numbers of givens, and the source of the puzzles.

  Raises:
    UserError: a setting is out of its range, or two settings contradict each
      other.
  """
  check_positive(
    config,
    'model.box_height',
    'model.box_width',
    'model.width',
    'model.embedding_width',
    'model.message_width',
    'model.hidden_width',
    'model.num_steps',
    'model.message_layers',
    'model.node_layers',
    'evals.boards_per_givens',
    'evals.boards_per_difficulty',
    'evals.max_steps',
  )
  check_numbers(config, 'evals.num_steps')
  for name in 'evals.assume_after', 'model.reveal_after':
    section, leaf = name.split('.')
    if config[section][leaf] < 0:
      raise UserError(
        f'config.{name}={config[section][leaf]}: expected a number of steps, or'
        ' 0 for never'
      )
  if config.evals.within_steps:
    check_numbers(config, 'evals.within_steps')
  for name in 'data.givens', 'data.start_givens', 'evals.givens':
    section, leaf = name.split('.')
    least = 0 if section == 'data' else 1  # 0: training adds no givens
    check_numbers(config, name, lengths=[2], least=least)
    fewest, most = config[section][leaf]
    if fewest > most:
      raise UserError(
        f'config.{name}={(fewest, most)}: expected the fewest givens, then the'
        ' most'
      )
  for split in config.evals.splits:
    check_choice('config.evals.splits', split, SPLITS)
  check_choice('config.data.symmetries', config.data.symmetries, SYMMETRIES)
  check_choice(
    'config.data.hard_measure', config.data.hard_measure, hard.MEASURES
  )
  if config.data.source == 'generated' and config.data.dir:
    raise UserError(
      f'config.data.dir={config.data.dir}: generated puzzles use no files; add'
      ' source=royle17 to the arguments of the config, as in'
      ' --config=configs/rrn/sudoku.py:cpu,source=royle17'
    )
