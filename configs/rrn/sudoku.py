"""Sudoku by a recurrent relational network (Palm et al. 2018, section 3.2).

  uv run main.py --config=configs/rrn/sudoku.py:cpu

bare    the paper: 32 steps, Adam 2e-4, batch 256, 300,000 updates.
:cpu    ours, for two CPU cores: one-layer messages, all symmetries, a
        curriculum on the number of givens. Trained by Muon; 16 steps, after up
        to 32 without gradient. An hour and a half.
:smoke  4x4 boards, half a minute.
Expect: 96.6 % of the boards with 17 givens after 64 steps (paper); what `:cpu`
reaches is in rrn/README.md.
"""

import dataclasses
import re

from configs import common


@dataclasses.dataclass(frozen=True)
class Board:
  """A size of board; fewest and most givens, at the end and at the start."""

  box_height: int
  box_width: int
  givens: tuple[int, int]
  start_givens: tuple[int, int]


BOARDS = {
  '2x2': Board(2, 2, givens=(4, 10), start_givens=(4, 10)),
  '2x3': Board(2, 3, givens=(8, 18), start_givens=(18, 26)),
  '3x3': Board(3, 3, givens=(17, 34), start_givens=(40, 55)),
  '4x4': Board(4, 4, givens=(128, 180), start_givens=(170, 220)),
}


def get_config(arg: str | None = None):
  """Builds the config.

  Args:
    arg: 'cpu', 'smoke'; `box=2x3`, the boxes of the board (`BOARDS`);
      `source=royle17` or `generated`, 'auto' being the first where its file is.
  """
  args = common.parse_arg(arg, box='', source='auto')
  box = args.box or ('2x2' if args.size == 'smoke' else '3x3')
  common.check_known('box', box, BOARDS)
  board = BOARDS[box]
  config = common.default_config()
  config.task = 'rrn.sudoku'
  config.model.box_height = board.box_height
  config.model.box_width = board.box_width
  config.model.width = 96
  config.model.embedding_width = 16
  config.model.num_steps = 32
  config.model.burn_in = 0
  config.model.pre_layers = 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.edge_width = 0  # 1: the authors' dead column, 201,194 parameters
  config.model.zero_positions = False
  config.model.remat = True
  config.data.source = _source(args, box)
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.num_puzzles = 5000  # generated ones
  config.data.givens = board.givens  # fewest and most in a board
  config.data.start_givens = board.givens  # the same, where a curriculum begins
  config.data.curriculum_steps = 0  # updates from there to `givens`; 0: none
  config.data.symmetries = 'digits'  # the paper's; 'all': also of the grid
  config.evals.givens = board.givens
  config.evals.every = 5000  # updates
  config.evals.num_steps = (16, 32, 64)
  config.evals.boards_per_givens = 1000
  config.evals.batch_size = 256
  config.total_steps = 300_000
  config.batch_size = 256
  config.steps_per_call = 50
  config.optim.learning_rate = 2e-4
  config.optim.l2 = 1e-4
  config.optim.l2_paths = r'(pre|message|node)/.*kernel'
  config.checkpoint.every = 5000
  config.report = {
    f'test/steps_64/solved_{count}_givens': '96.6 %' if count == 17 else ''
    for count in range(board.givens[0], board.givens[1] + 1)
  } | {
    'test/steps_32/solved_17_givens': '94.1 %',
    'test/steps_64/solved': '',
    'test/steps_64/valid': '',
  }
  if args.size == 'cpu':
    _cpu(config, board)
  elif args.size == 'smoke':
    _smoke(config)
  return config


def sweep(arg: str | None = None):
  """The paper's network and its node-centric relation network, of one step."""
  network, relation_network = get_config(arg), get_config(arg)
  relation_network.model.num_steps = 1
  relation_network.evals.num_steps = (1,)
  relation_network.report = {
    re.sub('steps_[0-9]+', 'steps_1', name): (
      '0 %' if name.endswith('/solved_17_givens') else ''
    )
    for name in network.report
  }
  return {
    'recurrent_relational_network': network,
    'node_centric_relation_network': relation_network,
  }


def _source(args, box: str) -> str:
  if args.source != 'auto':
    return args.source
  if box != '3x3' or args.size == 'smoke':
    return 'generated'
  has_file = common.has_file('sudoku17_royle.csv.xz', 'sudoku17')
  return 'royle17' if has_file else 'generated'


def _recipe(config):
  """What both small sizes share: the improved recipe."""
  config.model.message_layers = 1
  config.model.num_steps = 16
  config.model.remat = False
  config.data.symmetries = 'all'
  config.batch_size = 32
  config.optim.name = 'muon'
  config.optim.muon_paths = '(pre|message|node|lstm)/.*kernel'
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = 4e-3
  config.optim.b2 = 0.99
  config.optim.weight_decay = 0.1
  config.optim.clip_norm = 1.0
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
  config.report = {
    'validation/steps_16/solved': '',
    'validation/steps_16/cells': '',
    'validation/steps_16/valid': '',
  }
