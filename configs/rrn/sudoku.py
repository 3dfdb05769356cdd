"""Sudoku by a recurrent relational network (Palm et al. 2018, section 3.2).

  uv run main.py --config=configs/rrn/sudoku.py:cpu --workdir=runs/sudoku

bare    The paper: 32 steps, Adam 2e-4, batch 256, 300,000 updates.
:cpu    Ours, for two CPU cores: the network on candidates, trained by Muon on
        states that are carried from update to update. An hour. With
        network=cells the paper's graph, one-layer messages, and all symmetries.
:smoke  4x4 boards, half a minute.
Expect: 96.6 % of the boards with 17 givens after 64 steps (paper); the results
of `:cpu` are in rrn/README.md.
"""

import dataclasses

from configs import common


@dataclasses.dataclass(frozen=True)
class Board:
  """A size of board; fewest and most givens, at the end and at the start."""

  box_height: int
  box_width: int
  givens: tuple[int, int]
  start_givens: tuple[int, int]


NETWORKS = 'cells', 'candidates'  # recurrent: the paper's, and ours
# Boards of the paper's test file that its networks solve, by givens.
PAPER = {
  **dict.fromkeys(NETWORKS, {17: '96.6 %'}),
  'relation_network': {17: '0 %'},
  'graph_relation_network': {17: '0 %'},
  'mlp': {},
  'deep_messages': {17: '0 %'},
  'convolutional': dict.fromkeys(range(24, 37), '70 % (24 to 36 givens)'),
}
SWEEP_STEPS = 500  # updates of each row of `:cpu`
# Changes to the network on candidates, and updates that take equal minutes.
LEVERS = {
  'base': (1500, {}),
  'width_32': (2000, {'model.width': 32, 'model.hidden_width': 64}),
  'width_64': (950, {'model.width': 64, 'model.hidden_width': 128}),
  'messages_16': (1850, {'model.message_width': 16}),
  'no_intersections': (1900, {'model.intersections': False}),
  'separate_weights': (1300, {'model.groups': 'separate'}),
  'shared_weights': (1500, {'model.groups': 'shared'}),
  'segments_of_4': (3000, {'model.num_steps': 4}),
  'segments_of_16': (750, {'model.num_steps': 16}),
  'boards_64': (750, {'batch_size': 64}),
  'adamw': (1500, {'optim.name': 'adamw'}),
  'learning_rate_2e-3': (1500, {'optim.learning_rate': 2e-3}),
  'learning_rate_8e-3': (1500, {'optim.learning_rate': 8e-3}),
  'new_boards': (750, {'model.max_steps': 0, 'model.num_steps': 16}),
  'burn_in_48': (750, {'model.max_steps': 0, 'model.burn_in': 48}),
}
BOARDS = {
  '2x2': Board(2, 2, givens=(4, 10), start_givens=(4, 10)),
  '2x3': Board(2, 3, givens=(8, 18), start_givens=(18, 26)),
  '3x3': Board(3, 3, givens=(17, 34), start_givens=(40, 55)),
  '4x4': Board(4, 4, givens=(128, 180), start_givens=(170, 220)),
}


def get_config(arg: str | None = None):
  """Build the config.

  Args:
    arg: 'cpu', 'smoke'; `box=2x3`, the boxes of the board (`BOARDS`);
      `source=royle17`, the paper's puzzles, or `generated`: `:cpu` takes the
      first where its file is in the folder $LEARNED_ALGORITHMS_DATA;
      `network=cells`, the paper's, `candidates`, ours, or one of `BASELINES`:
      `:cpu` and `:smoke` take candidates, the paper's size cells;
      `puzzles=hard`, a larger network that also trains on hard puzzles;
      `table=levers`, another table for `--mode=sweep`.
  """
  args = _parse(arg)
  network = args.network or ('cells' if args.size == 'paper' else 'candidates')
  common.check_known('network', network, [*NETWORKS, *BASELINES])
  box = args.box or ('2x2' if args.size == 'smoke' else '3x3')
  common.check_known('box', box, BOARDS)
  common.check_known('puzzles', args.puzzles, ('', 'hard'))
  if args.puzzles:
    common.check_known('network for hard puzzles', network, ['candidates'])
    common.check_known('box for hard puzzles', box, ['3x3'])
  board = BOARDS[box]
  config = common.default_config()
  config.task = 'rrn.sudoku'
  config.model.network = network
  config.model.box_height = board.box_height
  config.model.box_width = board.box_width
  config.model.width = 96
  config.model.embedding_width = 16
  config.model.num_steps = 32
  config.model.burn_in = 0
  config.model.max_steps = 0  # of a board whose states are carried; 0: none are
  config.model.random_start = 0.0  # share of boards with random first states
  config.model.loss_steps = 'all'  # or 'last': a claim of the paper's
  config.model.pre_layers = 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.edge_width = 0  # 1: the authors' dead column, 201,194 parameters
  config.model.zero_positions = False
  config.model.remat = True
  config.model.message_width = 16  # this and the next three: of candidates
  config.model.hidden_width = 64
  config.model.groups = 'lines'  # units that share weights; or separate, shared
  config.model.intersections = True  # of units are groups, too
  config.data.source = _source(args, box)
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.num_puzzles = 5000  # generated ones
  config.data.num_train = 0  # puzzles that training sees; 0: all
  config.data.hard_share = 0.0  # of boards that are drawn from hard puzzles
  config.data.fewest_guesses = 0  # of these, by an exact solver
  config.data.num_hard_puzzles = 20_000  # over all splits
  config.data.givens = board.givens  # fewest and most in a board
  config.data.start_givens = board.givens  # the same, where a curriculum begins
  config.data.curriculum_steps = 0  # updates from there to `givens`; 0: none
  config.data.symmetries = 'digits'  # the paper's; 'all': also of the grid
  config.evals.givens = board.givens  # in validation, and in generated tests
  config.evals.every = 5000  # updates
  config.evals.num_steps = (16, 32, 64)
  config.evals.boards_per_givens = 1000
  config.evals.boards_per_guesses = 200
  config.evals.max_steps = 1024  # of predict
  config.evals.restart_steps = 0  # of predict, between random starts; 0: none
  config.evals.variant = 'standard'  # of predict; see `variants.units_of`
  config.evals.symbols = 'auto'  # of boards over 9x9; see puzzle_text.py
  config.evals.animation = ''  # file.gif: predict draws its first puzzle
  config.evals.batch_size = 256
  config.total_steps = 300_000
  config.batch_size = 256
  config.steps_per_call = 50
  config.optim.learning_rate = 2e-4
  config.optim.l2 = 1e-4
  config.optim.l2_paths = r'(pre|message|node)/.*kernel'
  config.checkpoint.every = 5000
  if args.size == 'cpu':
    _cpu(config, board)
  elif args.size == 'smoke':
    _smoke(config)
  if network == 'candidates':
    _candidates(config, args.size, board)
    if args.puzzles:
      _hard(config, args.size)
  elif network != 'cells':
    config.model.burn_in = 0
    BASELINES[network](config, args.size)
  has_paper = config.data.source == 'royle17'  # tested on the paper's file
  paper = PAPER[network] if has_paper else {}
  report = _report(config, args.size, paper)
  if has_paper and network in NETWORKS and args.size != 'smoke':
    report['test/steps_32/solved_17_givens'] = '94.1 %'
  if has_paper and network == 'cells' and args.size != 'smoke':
    report['test_zero_positions/steps_64/solved_17_givens'] = '96.7 %'
  config.report = report
  return config


def sweep(arg: str | None = None):
  """The points of a table: `table=networks` (the default) or `table=levers`.

  networks: the rows of the paper's table that learn, the network on candidates,
  and the loss at one step only. `:cpu` gives each row a few minutes: far too
  little for any to come close to the paper, but the same for all. The rows that
  do not learn are printed by `python -m rrn.sudoku.belief_propagation`.

  levers: what makes the network on candidates learn, one change per row, in
  about equal minutes.
  """
  args = _parse(arg)
  common.check_known('table', args.table, ('networks', 'levers'))
  if args.table == 'levers':
    return _levers(arg)
  points = {
    name: get_config(f'{arg or ""},network={name}')
    for name in (*NETWORKS, *BASELINES)
  }
  last = points['loss_at_last_step'] = get_config(f'{arg or ""},network=cells')
  last.model.loss_steps = 'last'
  last.report = _report(last, args.size, {})  # the paper: worse, and no number
  if args.size == 'cpu':
    for config in points.values():
      config.total_steps = config.evals.every = SWEEP_STEPS
  return points


def _levers(arg: str | None):
  points = {}
  for name, (updates, changes) in LEVERS.items():
    config = points[name] = get_config(f'{arg or ""},network=candidates')
    config.update_from_flattened_dict(changes)
    config.total_steps = config.evals.every = updates
    config.evals.givens = (config.evals.givens[0],) * 2  # the hardest
    config.report = _report(config, _parse(arg).size, {})
  return points


def _parse(arg: str | None):
  return common.parse_arg(
    arg, box='', source='', network='', table='networks', puzzles=''
  )


def _report(config, size: str, paper: dict[int, str]) -> dict[str, str]:
  """Boards solved after 64 steps (the paper), or the last ones, by givens."""
  steps = config.evals.num_steps
  last = f'steps_{64 if 64 in steps else steps[-1]}'
  if size == 'smoke':
    names = 'solved', 'cells', 'valid'
    return {f'validation/{last}/{name}': '' for name in names}
  is_published = config.data.source == 'royle17'
  low, high = (17, 34) if is_published else config.evals.givens
  by_givens = {
    f'test/{last}/solved_{count}_givens': paper.get(count, '')
    for count in range(low, high + 1)
  }
  return by_givens | {f'test/{last}/solved': '', f'test/{last}/valid': ''}


def _source(args, box: str) -> str:
  if args.source:
    return args.source
  if box != '3x3' or args.size == 'smoke':
    return 'generated'
  if args.size == 'paper':
    return 'royle17'
  has_file = common.has_file('sudoku17_royle.csv.xz', 'sudoku17')
  return 'royle17' if has_file else 'generated'


def _recipe(config):
  """Set the improved recipe, which both small sizes share."""
  config.model.message_layers = 1
  config.model.num_steps = 16
  config.model.remat = False
  config.data.symmetries = 'all'
  config.batch_size = 32
  common.muon(
    config, paths='(pre|message|node|lstm)/.*kernel', learning_rate=4e-3
  )
  config.optim.l2 = 0.0


def _cpu(config, board: Board):
  _recipe(config)
  config.model.burn_in = 32
  config.total_steps = 11_500
  config.microbatch = 4
  config.steps_per_call = 10
  config.data.givens = (board.givens[0], board.givens[1] - 2)
  config.data.start_givens = board.start_givens
  config.data.curriculum_steps = 300
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.999
  config.evals.every = 1000
  config.evals.boards_per_givens = 32
  config.evals.batch_size = 32
  config.log.every = 50
  config.checkpoint.every = 250


def _smoke(config):
  _recipe(config)
  config.model.width = 32
  config.model.num_steps = 8
  config.total_steps = 600
  config.steps_per_call = 20
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 100
  config.evals.num_steps = (8, 16)
  config.evals.boards_per_givens = 64
  config.evals.batch_size = 64
  config.log.every = 20
  config.checkpoint.every = 100


def _candidates(config, size: str, board: Board):
  """Set carried states, no augmentation, and a curriculum to few givens."""
  config.model.width = 24 if size == 'smoke' else 48
  config.model.hidden_width = 2 * config.model.width
  config.model.num_steps = 8
  config.model.max_steps = 32 if size == 'smoke' else 128
  config.model.burn_in = 0
  config.model.remat = False
  config.data.symmetries = 'none'  # the network has them all
  fewest = board.givens[0]
  config.data.start_givens = board.givens
  config.data.givens = (fewest, fewest + 2)
  config.data.curriculum_steps = 50 if size == 'smoke' else 500
  config.batch_size = 32
  config.microbatch = 2
  common.muon(config, paths='(send|hidden|update).*kernel', learning_rate=3e-3)
  config.optim.weight_decay = 0.01
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.998
  config.optim.l2 = 0.0
  if size == 'cpu':
    config.total_steps = 6000
    config.evals.every = 500
    config.evals.givens = (fewest, fewest)  # the others are easier
    config.evals.boards_per_givens = 200
    config.evals.num_steps = (32, 64, 128)
    config.evals.batch_size = 8
  if size == 'smoke':
    config.total_steps = 200
    config.optim.ema_decay = 0.98
    config.evals.every = 50


def _hard(config, size: str):
  """Draw half of the boards from hard puzzles; start half at random."""
  config.data.hard_share = 0.5
  config.data.fewest_guesses = 6
  config.model.random_start = 0.5
  config.evals.restart_steps = 256
  config.evals.max_steps = 4096
  if size == 'cpu':
    config.model.width, config.model.hidden_width = 64, 128
    config.model.message_width = 24
    config.data.curriculum_steps = 1000
    config.total_steps = 40_000


def _relation_network(config, size: str):
  """The paper's network with one step: node-centric."""
  _one_step(config)


def _graph_relation_network(config, size: str):
  """The paper's: 944,874 parameters."""
  _one_step(config)
  config.model.width = 64 if size == 'smoke' else 256
  config.model.edge_width = 1


def _mlp(config, size: str):
  """Not in the paper: what a network without a graph can do."""
  _one_step(config)
  _adamw(config, size)
  config.model.width = 256
  config.optim.l2_paths = 'mlp/.*kernel'


def _deep_messages(config, size: str):
  """The paper's; the authors clip each number of the gradient to 10."""
  if size != 'smoke':
    config.model.num_steps = 32
  config.model.message_layers = 3
  config.model.loss_steps = 'last'
  config.optim.clip_norm = 10.0


def _convolutional(config, size: str):
  """Park's width, learning rate and batch; his test boards, unlike ours."""
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
  """In place of Muon, whose paths are those of networks on graphs."""
  if size != 'paper':
    config.microbatch = 0
    config.optim.name = 'adamw'
    config.optim.learning_rate = 1e-3


BASELINES = {
  'relation_network': _relation_network,
  'graph_relation_network': _graph_relation_network,
  'mlp': _mlp,
  'deep_messages': _deep_messages,
  'convolutional': _convolutional,
}
