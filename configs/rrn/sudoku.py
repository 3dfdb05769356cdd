"""Sudoku by a recurrent relational network (Palm et al. 2018, section 3.2).

  uv run main.py --config=configs/rrn/sudoku.py:cpu

bare    the paper: 32 steps, Adam 2e-4, batch 256, 300,000 updates.
:cpu    ours, two CPU cores: one-layer messages, 16 steps, all symmetries, a
        curriculum on the number of givens. Hours; see rrn/README.md.
:smoke  4x4 boards, seconds.
Expect: 96.6 % of the boards with 17 givens after 64 steps (paper).
"""

from configs import common


def get_config(arg: str | None = None):
  """Arguments: `source`, 'royle17' (a file of yours) or 'generated'."""
  arg = common.parse_arg(arg, source='royle17')
  config = common.default_config()
  config.task = 'rrn.sudoku'
  config.model.box_height = 3
  config.model.box_width = 3
  config.model.width = 96
  config.model.embedding_width = 16
  config.model.num_steps = 32
  config.model.pre_layers = 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.edge_width = 0  # 1: the authors' dead column, 201,194 parameters
  config.model.zero_positions = False
  config.model.remat = True
  config.data.source = arg.source
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.givens = (17, 34)  # fewest and most in a board
  config.data.start_givens = (17, 34)  # where the curriculum begins
  config.data.curriculum_steps = 0  # updates from there to `givens`; 0: none
  config.data.symmetries = 'digits'  # the paper's; 'all': also of the grid
  config.evals.givens = (17, 34)
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
    'test/steps_64/solved_17_givens': '96.6 %',
    'test/steps_32/solved_17_givens': '94.1 %',
    'test/steps_64/solved_20_givens': '',
    'test/steps_64/solved_24_givens': '',
    'test/steps_64/solved_28_givens': '',
    'test/steps_64/solved_34_givens': '',
    'test/steps_64/solved': '',
    'test/steps_64/valid': '',
  }
  if arg.size == 'cpu':
    _cpu(config)
  elif arg.size == 'smoke':
    _smoke(config)
  return config


def _recipe(config):
  """What both small sizes share: the improved recipe."""
  config.model.message_layers = 1
  config.model.num_steps = 16
  config.model.remat = False
  config.data.symmetries = 'all'
  config.batch_size = 32
  config.optim.name = 'adamw'
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = 4e-3
  config.optim.b2 = 0.99
  config.optim.weight_decay = 0.01
  config.optim.clip_norm = 1.0
  config.optim.l2 = 0.0


def _cpu(config):
  _recipe(config)
  config.total_steps = 11_000
  config.microbatch = 4
  config.steps_per_call = 10
  config.data.givens = (17, 30)
  config.data.start_givens = (40, 55)
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
  config.data.source = 'generated'
  config.model.box_height = config.model.box_width = 2
  config.model.width = 32
  config.model.num_steps = 8
  config.data.givens = config.data.start_givens = (4, 10)
  config.evals.givens = (4, 10)
  config.report = {
    'validation/steps_16/solved': '',
    'validation/steps_16/cells': '',
    'validation/steps_16/valid': '',
  }
  config.total_steps = 400
  config.steps_per_call = 20
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 100
  config.evals.num_steps = (8, 16)
  config.evals.boards_per_givens = 64
  config.evals.batch_size = 64
  config.log.every = 20
  config.checkpoint.every = 100
