"""The baselines, sweeps, and reports of configs/rrn/sudoku.py."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections

Config = ml_collections.ConfigDict


class UnseenBoards(NamedTuple):
  """A kind of boards that training did not include.

  Attributes:
    box_height: number of rows in a box.
    box_width: number of columns in a box.
    givens: smallest number of givens; puzzles with fewer get more. With 1,
      boards up to 12 x 12 are minimal puzzles.
    variant: see `rrn.sudoku.variants.generate`.
    num_boards: number of boards.
  """

  box_height: int
  box_width: int
  givens: int
  variant: str
  num_boards: int


# Share of the boards of the paper's test file that each network solves in the
# paper, by number of givens.
PAPER = {
  'cells': {17: '96.6 %'},
  'candidates': {17: '96.6 %'},  # our network; the number is that of `cells`
  'relation_network': {17: '0 %'},
  'graph_relation_network': {17: '0 %'},
  'mlp': {},
  'deep_messages': {17: '0 %'},
  'convolutional': dict.fromkeys(range(24, 37), '70 % (24 to 36 givens)'),
}
SWEEP_STEPS = 500  # updates of each row of `:cpu`
# Numbers of steps within which an answer has to obey the rules; see
# `rrn.sudoku.measures.by_rules`.
WITHIN_STEPS = 64, 256, 1024
# Without carried states, each update starts from new boards.
_NEW_BOARDS = {'model.max_steps': 0, 'model.reveal_after': 0}
# Row -> number of updates, and changes to the network on candidates. All rows
# train for about the same time.
ABLATIONS = {
  'base': (600, {}),
  'no_intersections': (760, {'model.intersections': False}),
  'width_32': (1260, {'model.width': 32, 'model.hidden_width': 64}),
  'width_48': (900, {'model.width': 48, 'model.hidden_width': 96}),
  'width_96': (400, {'model.width': 96, 'model.hidden_width': 192}),
  'learning_rate_6e-3': (600, {'optim.learning_rate': 6e-3}),
  'boards_64': (300, {'batch_size': 64}),
  'boards_16': (1200, {'batch_size': 16}),
  'new_boards': (300, {**_NEW_BOARDS, 'model.num_steps': 16}),
  'burn_in_48': (300, {**_NEW_BOARDS, 'model.burn_in': 48}),
  'adamw': (600, {'optim.name': 'adamw'}),
  'segments_of_4': (1200, {'model.num_steps': 4}),
  'segments_of_16': (300, {'model.num_steps': 16}),
  'no_hard_puzzles': (600, {'data.hard_share': 0.0}),
  'nothing_revealed': (600, {'model.reveal_after': 0}),
  'shared_weights': (600, {'model.groups': 'shared'}),
  'separate_weights': (530, {'model.groups': 'separate'}),
  'messages_32': (500, {'model.message_width': 32}),
  'learning_rate_1.5e-3': (600, {'optim.learning_rate': 1.5e-3}),
}
# The regions of a jigsaw board, row by row.
JIGSAW = (
  'BAAAAAAAABBBBBBBCADBDCCCCCC'
  'DDDDDDDCCFEEEEEEEEFEFFFFGGG'
  'FFFGGGGGGHHHHHHHHIHIIIIIIII'
)
# Row -> boards that training did not include.
UNSEEN_BOARDS = {
  '4x4': UnseenBoards(2, 2, 1, 'standard', 500),
  '6x6': UnseenBoards(2, 3, 1, 'standard', 500),
  '8x8': UnseenBoards(2, 4, 1, 'standard', 500),
  '12x12': UnseenBoards(3, 4, 1, 'standard', 100),
  '12x12_80_givens': UnseenBoards(3, 4, 80, 'standard', 100),
  '16x16_128_givens': UnseenBoards(4, 4, 128, 'standard', 50),
  '16x16_160_givens': UnseenBoards(4, 4, 160, 'standard', 50),
  '16x16_192_givens': UnseenBoards(4, 4, 192, 'standard', 50),
  '25x25_375_givens': UnseenBoards(5, 5, 375, 'standard', 20),
  '25x25_437_givens': UnseenBoards(5, 5, 437, 'standard', 20),
  '25x25_500_givens': UnseenBoards(5, 5, 500, 'standard', 20),
  'diagonal': UnseenBoards(3, 3, 1, 'diagonal', 200),
  'windoku': UnseenBoards(3, 3, 1, 'windoku', 200),
  'jigsaw': UnseenBoards(3, 3, 1, JIGSAW, 200),
}


def report(config: Config, size: str) -> dict[str, str]:
  """Return the metrics of a report, and the paper's value of each.

  The metrics are the boards solved by number of givens, after 64 steps (as in
  the paper) or after the last step that is evaluated.

  Args:
    config: the finished config, except for its report.
    size: 'paper', 'cpu', or 'smoke'.

  Returns:
    Metric name -> the paper's value as text, '' or '%' if the paper has none.
  """
  network, steps = config.model.network, config.evals.num_steps
  last = f'steps_{64 if 64 in steps else steps[-1]}'
  if size == 'smoke':
    names = 'solved', 'cells', 'valid'
    return {f'validation/{last}/{name}': '%' for name in names}
  is_published = config.data.source == 'royle17'
  low, high = (17, 34) if is_published else config.evals.givens
  paper = PAPER[network] if is_published else {}
  rows = {
    f'test/{last}/solved_{count}_givens': paper.get(count, '')
    for count in range(low, high + 1)
  }
  rows |= {f'test/{last}/solved': '', f'test/{last}/valid': ''}
  if is_published and network in ('cells', 'candidates'):
    rows['test/steps_32/solved_17_givens'] = '94.1 %'
  if is_published and network == 'cells':
    rows['test_zero_positions/steps_64/solved_17_givens'] = '96.7 %'
  return rows


def networks(
  get_config: Callable[[str], Config],
  arg: str | None,
  names: Sequence[str],
  *,
  is_staged: bool,
) -> dict[str, Config]:
  """Return the paper's networks, and the network on candidates (ours).

  `:cpu` trains each row for `SWEEP_STEPS` updates, too few to reach the paper's
  numbers. `python -m rrn.sudoku.belief_propagation` runs the paper's baselines
  that are not trained.

  Args:
    get_config: builds the config of the experiment.
    arg: its argument.
    names: names of the networks.
    is_staged: whether the network on cells trains in stages; if so, its row is
      the first stage.
  """
  choices = {name: f'network={name}' for name in names}
  if is_staged:
    choices['cells'] += ',stage=1'
  choices['loss_at_last_step'] = choices['cells']
  points = {
    name: get_config(f'{arg or ""},{choice}')
    for name, choice in choices.items()
  }
  last = points['loss_at_last_step']
  last.model.loss_steps = 'last'  # worse in the paper, without a number
  last.report = dict.fromkeys(last.report, '')
  return points


def ablations(
  get_config: Callable[[str], Config], arg: str | None
) -> dict[str, Config]:
  """Return the network on candidates, with one change per row of `ABLATIONS`.

  Settings are compared on boards for validation, never on the test file.
  """
  points = {}
  for name, (updates, changes) in ABLATIONS.items():
    config = points[name] = get_config(f'{arg or ""},network=candidates')
    config.update_from_flattened_dict(changes)
    config.total_steps = config.evals.every = updates
    config.data.curriculum_steps = updates // 2
    config.evals.splits = ('validation',)
    config.evals.within_steps = ()
    config.evals.givens = (config.evals.givens[0],) * 2  # the hardest boards
    config.evals.boards_per_givens = 1000
    config.report = {
      f'validation/steps_{steps}/solved': '' for steps in config.evals.num_steps
    }
  return points


def boards(get_config: Callable[[str], Config]) -> dict[str, Config]:
  """Return evaluations of the shipped weights on `UNSEEN_BOARDS`.

  The last two rows have much harder 9x9 puzzles than in training, solved with
  and without assumed digits.
  """
  points = {}
  for name, board in UNSEEN_BOARDS.items():
    config = get_config('cpu,network=candidates,source=generated')
    config.init_weights = 'pretrained/rrn_sudoku'
    config.total_steps = 0
    config.model.box_height = board.box_height
    config.model.box_width = board.box_width
    config.data.hard_share = 0.0
    config.data.num_puzzles = 10 * board.num_boards
    config.evals.givens = (board.givens,) * 2
    config.evals.variant = board.variant
    config.evals.boards_per_givens = board.num_boards
    config.evals.within_steps = WITHIN_STEPS
    config.report = {
      **{f'test/steps_{steps}/solved': '' for steps in (32, 64, 128)},
      **{f'test_by_rules/within_{n}_steps/solved': '' for n in WITHIN_STEPS},
    }
    points[name] = config
  points['hard_9x9'] = _hard_puzzles(get_config, (*WITHIN_STEPS, 4096))
  alone = _hard_puzzles(get_config, WITHIN_STEPS)
  alone.evals.assume_after = 0
  points['hard_9x9_without_assumptions'] = alone
  return points


def _hard_puzzles(get_config, within_steps):
  config = get_config('cpu,network=candidates,source=generated')
  config.init_weights = 'pretrained/rrn_sudoku'
  config.total_steps = 0
  config.evals.boards_per_givens = 8  # the table shows hard puzzles only
  config.evals.within_steps = within_steps
  config.report = {
    f'test_hard_by_rules/within_{steps}_steps/solved': ''
    for steps in config.evals.within_steps
  }
  return config


def _relation_network(config, size: str):
  """Run the network for one step: the paper's node-centric relation network."""
  _one_step(config)


def _graph_relation_network(config, size: str):
  """Set the paper's graph-centric relation network: 944,874 parameters."""
  _one_step(config)
  config.model.width = 64 if size == 'smoke' else 256
  config.model.edge_width = 1


def _mlp(config, size: str):
  """Set an MLP: a baseline without a graph (ours)."""
  _one_step(config)
  _adamw(config, size)
  config.model.width = 256
  config.optim.l2_paths = 'mlp/.*kernel'


def _deep_messages(config, size: str):
  """Set deeply learned messages, a baseline of the paper."""
  if size != 'smoke':
    config.model.num_steps = 32
  config.model.message_layers = 3
  config.model.loss_steps = 'last'
  # The authors clip each element of the gradient to 10, not its norm.
  config.optim.clip_norm = 10.0


def _convolutional(config, size: str):
  """Set the width, learning rate, and batch size of Park 2016."""
  _one_step(config)
  _adamw(config, size)
  config.model.width = {'paper': 512, 'cpu': 32, 'smoke': 16}[size]
  side = config.model.box_height * config.model.box_width
  config.evals.num_steps = (1, side**2 - config.evals.givens[0])
  if size == 'paper':
    config.optim.learning_rate = 1e-4
    config.optim.l2 = 0.0
    config.batch_size = 64


def _one_step(config):
  config.model.num_steps = 1
  config.model.remat = False
  config.evals.num_steps = (1,)


def _adamw(config, size: str):
  """Replace Muon, because its `muon_paths` match graph networks only."""
  if size != 'paper':
    config.microbatch_size = 0
    config.optim.name = 'adamw'
    config.optim.learning_rate = 1e-3


BASELINES = {
  'relation_network': _relation_network,
  'graph_relation_network': _graph_relation_network,
  'mlp': _mlp,
  'deep_messages': _deep_messages,
  'convolutional': _convolutional,
}
