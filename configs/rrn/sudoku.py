"""Sudoku with a recurrent relational network (Palm et al. 2018, section 3.2).

  uv run main.py --config=configs/rrn/sudoku.py:cpu --workdir=runs/sudoku

Sizes:
  (none): the paper's settings: the network on cells, 32 steps, Adam with a
    learning rate of 2e-4, batch size 256, 300,000 updates.
  cpu: our settings for two CPU cores: the network on candidates, trained with
    Muon on states that are carried from update to update. Training took 97
    minutes on one core. `network=cells` selects the paper's graph, with
    one-layer messages, and augmentation by all symmetries of Sudoku.
  smoke: 4x4 boards, half a minute.

Expected result: in the paper, 96.6 % of the boards with 17 givens are solved
after 64 steps. rrn/README.md has the results of `:cpu`.
"""

import dataclasses

from configs import common
from configs.rrn.tables import sudoku as tables


@dataclasses.dataclass(frozen=True)
class Board:
  """A board size and its numbers of givens.

  Attributes:
    box_height: number of rows in a box.
    box_width: number of columns in a box.
    givens: fewest and most givens in evaluation and in the paper's training.
    start_givens: fewest and most givens at the start of the curriculum for the
      network on cells. The curriculum for the network on candidates starts at
      `givens`.
  """

  box_height: int
  box_width: int
  givens: tuple[int, int]
  start_givens: tuple[int, int]


NETWORKS = 'cells', 'candidates'  # the recurrent networks: the paper's, ours
# Old names of settings in the config.json of earlier versions.
RENAMED = {
  'data': {'fewest_guesses': 'least_difficulty'},
  'evals': {'boards_per_guesses': 'boards_per_difficulty'},
  'model': {'pre_layers': 'input_layers'},
}
# Old names of layers in the weights and checkpoints of earlier versions.
RENAMED_LAYERS = {'pre': 'input_mlp'}
# Settings of earlier versions, and the only values that are still accepted.
RETIRED = {'evals.restart_steps': 0, 'model.random_start': 0.0}
TABLES = 'networks', 'ablations', 'boards'
NUM_STAGES = 2  # of `:cpu,network=cells`
BOARDS = {
  '2x2': Board(2, 2, givens=(4, 10), start_givens=(4, 10)),
  '2x3': Board(2, 3, givens=(8, 18), start_givens=(18, 26)),
  '3x3': Board(3, 3, givens=(17, 34), start_givens=(40, 55)),
  '3x4': Board(3, 4, givens=(47, 90), start_givens=(80, 110)),
  '4x4': Board(4, 4, givens=(128, 180), start_givens=(170, 220)),
}


def get_config(arg: str | None = None):
  """Build the config.

  Args:
    arg: comma-separated arguments:
      `cpu` or `smoke`: the size; see the module.
      `network=cells` (the paper's), `candidates` (ours), or one of
        `tables.BASELINES`; by default cells for the paper's size, candidates
        for the others.
      `box=2x3`: height and width of a box, a key of `BOARDS`; `cpu,box=3x4`
        continues from the shipped weights.
      `source=royle17` (the paper's puzzles), `generated`, or the path of a file
        of puzzles; see docs/rrn_data.md. By default, `:cpu` uses the paper's
        puzzles if their file is in the folder $LEARNED_ALGORITHMS_DATA.
      `puzzles=hard`: continues from the shipped weights on much harder puzzles.
      `stage=1` or `2`: a single stage of `cpu,network=cells`.
      `table=ablations` or `boards`: the table of `--mode=sweep`.
  """
  args = _parse(arg)
  network = args.network or ('cells' if args.size == 'paper' else 'candidates')
  common.check_known('network', network, [*NETWORKS, *tables.BASELINES])
  box = args.box or ('2x2' if args.size == 'smoke' else '3x3')
  common.check_known('box', box, BOARDS)
  common.check_known('puzzles', args.puzzles, ('', 'hard'))
  if args.puzzles:
    common.check_known('network for hard puzzles', network, ['candidates'])
    common.check_known('box for hard puzzles', box, ['3x3'])
  config = common.default_config()
  config.task = 'rrn.sudoku'
  config.model.network, config.data.source = network, _source(args, box)
  _set_paper_model(config.model, BOARDS[box])
  _set_paper_data(config.data, BOARDS[box])
  _set_paper_evals(config.evals, BOARDS[box])
  config.total_steps = 300_000
  config.batch_size = 256
  config.steps_per_call = 50
  config.optim.learning_rate = 2e-4
  config.optim.l2 = 1e-4
  config.optim.l2_paths = r'(input_mlp|message|node)/.*kernel'
  config.checkpoint.every = 5000
  _select_size(config, args, BOARDS[box])
  config.report = tables.report(config, args.size)
  return config


def _set_paper_model(model, board: Board):
  model.box_height = board.box_height
  model.box_width = board.box_width
  model.width = 96
  model.embedding_width = 16
  model.num_steps = 32
  model.burn_in = 0
  model.max_steps = 0  # steps until a board is replaced; 0: no carried boards
  model.reveal_after = 0  # steps until a board gets one more given; 0: never
  model.loss_steps = 'all'  # or 'last', which the paper reports to be worse
  model.input_layers = 3
  model.message_layers = 3
  model.node_layers = 3
  model.edge_width = 0  # 1: the authors' constant input, 201,194 parameters
  model.zero_positions = False
  model.remat = True
  # The next four settings apply to the network on candidates only.
  model.message_width = 16
  model.hidden_width = 64
  model.groups = 'lines'  # rows share weights with columns; see `ModelConfig`
  model.intersections = True  # whether cells that two units share are a group


def _set_paper_data(data, board: Board):
  data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  data.num_puzzles = 5000  # generated puzzles, over all splits
  data.num_train = 0  # puzzles that training draws from; 0: all
  data.hard_share = 0.0  # share of training boards drawn from hard puzzles
  data.hard_measure = 'guesses'  # or 'unrefuted'; see rrn/sudoku/hard.py
  data.least_difficulty = 0  # of hard puzzles in training, by `hard_measure`
  data.num_hard_puzzles = 20_000  # over all splits
  data.givens = board.givens  # fewest and most on a board
  data.start_givens = board.givens  # `givens` at the start of a curriculum
  data.curriculum_steps = 0  # updates from `start_givens` to `givens`; 0: none
  data.symmetries = 'digits'  # the paper's; 'all' adds those of the grid


def _set_paper_evals(evals, board: Board):
  evals.givens = board.givens  # in validation, and in generated test sets
  evals.every = 5000  # updates
  evals.splits = ('validation', 'test')  # test: only after training
  evals.num_steps = (16, 32, 64)
  evals.boards_per_givens = 1000
  evals.boards_per_difficulty = 200  # hard puzzles, in validation
  # Numbers of steps within which an answer has to obey the rules, in
  # 'test_by_rules'; (): this set is not evaluated.
  evals.within_steps = ()
  evals.max_steps = 2048  # of predict
  evals.assume_after = 64  # steps until digits are assumed; 0: never
  evals.variant = 'standard'  # of the boards; see `variants.units_of`
  evals.symbols = 'auto'  # of boards larger than 9x9; see puzzle_text.py
  evals.animation = ''  # file.gif: predict animates its first puzzle
  evals.batch_size = 256


def _select_size(config, args, board: Board):
  """Change the settings to those of a size, a network, and a stage."""
  size, network = args.size, config.model.network
  if size != 'paper' or network == 'candidates':
    config.model.remat = False
    config.batch_size = 32
    config.optim.l2 = 0.0
  if size == 'cpu':
    _cpu(config)
  elif size == 'smoke':
    _smoke(config)
  if network == 'candidates':
    _candidates(config, board, is_smoke=size == 'smoke')
    if size == 'cpu':
      _cpu_candidates(config, board)
    elif size == 'smoke':
      _smoke_candidates(config)
    if args.puzzles:
      _hard_puzzles(config, size)
    return
  if size == 'cpu':
    _cpu_cells(config, board)
  elif size == 'smoke':
    _smoke_cells(config)
  if network in tables.BASELINES:
    tables.BASELINES[network](config, size)
  # Without `stage=`, the config of a staged training is its last stage.
  elif (args.stage or _num_stages(args)) == NUM_STAGES:
    _last_stage(config)


def stages(arg: str | None = None):
  """Return the configs of the stages by name; {} if there is only one."""
  args = _parse(arg)
  return {} if args.stage else common.stages(get_config, arg, _num_stages(args))


def sweep(arg: str | None = None):
  """Return the configs of a table by row; see `tables.sudoku`."""
  args = _parse(arg)
  if args.table == 'boards':
    return tables.boards(get_config)
  if args.table == 'ablations':
    return tables.ablations(get_config, arg)
  is_staged = _num_stages(_parse(f'{arg or ""},network=cells')) > 0
  points = tables.networks(
    get_config, arg, [*NETWORKS, *tables.BASELINES], is_staged=is_staged
  )
  if args.size == 'cpu':
    for config in points.values():
      config.total_steps = config.evals.every = tables.SWEEP_STEPS
      config.evals.within_steps = ()
  return points


def _parse(arg: str | None):
  args = common.parse_arg(
    arg, box='', source='', network='', table=TABLES[0], puzzles='', stage=0
  )
  common.check_known('table', args.table, TABLES)
  common.check_stage(args, _num_stages(args))
  return args


def _num_stages(args) -> int:
  is_staged = args.size == 'cpu' and args.network == 'cells'
  return NUM_STAGES if is_staged and args.box in ('', '3x3') else 0


def _source(args, box: str) -> str:
  if args.source:
    return args.source
  if box != '3x3' or args.size == 'smoke':
    return 'generated'
  if args.size == 'paper':
    return 'royle17'
  has_file = common.has_file('sudoku17_royle.csv.xz', 'sudoku17')
  return 'royle17' if has_file else 'generated'


def _cpu(config):
  """Set what all networks share in `:cpu`."""
  config.model.message_layers = 1
  config.steps_per_call = 10
  config.log.every = 50
  config.checkpoint.every = 250


def _cpu_candidates(config, board: Board):
  """Set the rest of the default recipe, after `_cpu` and `_candidates`."""
  config.model.reveal_after = 48
  if board == BOARDS['3x3']:
    config.data.hard_share = 0.3
    config.data.hard_measure = 'unrefuted'
    config.data.num_hard_puzzles = 10_000
    config.data.least_difficulty = 1
  config.total_steps = 4500
  config.evals.every = 500
  config.evals.givens = (board.givens[0],) * 2  # more givens are easier
  config.evals.boards_per_givens = 200
  config.evals.boards_per_difficulty = 20
  config.evals.num_steps = (32, 64, 128)
  config.evals.within_steps = (64, 128, 256, 1024)
  config.evals.batch_size = 8
  if board == BOARDS['3x4']:
    _larger_boards(config)


def _candidates(config, board: Board, *, is_smoke: bool):
  """Set carried states, no augmentation, and a curriculum to few givens."""
  config.model.width = 24 if is_smoke else 64
  config.model.hidden_width = 2 * config.model.width
  config.model.num_steps = 8
  config.model.max_steps = 32 if is_smoke else 128
  config.data.symmetries = 'none'  # the network is equivariant to all of them
  config.data.givens = (board.givens[0], board.givens[0] + 2)
  config.data.curriculum_steps = 50 if is_smoke else 500
  config.microbatch_size = 2
  common.muon(config, paths='(send|hidden|update).*kernel', learning_rate=3e-3)
  config.optim.weight_decay = 0.01
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.98 if is_smoke else 0.998


def _cpu_cells(config, board: Board):
  """Set the recipe of the network on cells, and of the baselines."""
  if config.model.network == 'cells':
    config.model.burn_in = 32
  config.model.num_steps = 16
  config.data.givens = (board.givens[0], board.givens[1] - 2)
  config.data.start_givens = board.start_givens
  config.data.curriculum_steps = 300
  config.total_steps = 11_500
  config.microbatch_size = 4
  _augment_and_use_muon(config, learning_rate=4e-3)
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.999
  config.evals.every = 1000
  config.evals.boards_per_givens = 32
  config.evals.batch_size = 32


def _last_stage(config):
  """Set the last stage of the network on cells: boards with few givens."""
  config.data.givens = (17, 24)
  config.data.curriculum_steps = 0
  config.optim.learning_rate = 6e-4
  config.total_steps = 1500


def _smoke(config):
  """Set what all networks share in `:smoke`."""
  config.model.message_layers = 1
  config.steps_per_call = 20
  config.evals.num_steps = (8, 16)
  config.evals.boards_per_givens = 64
  config.evals.batch_size = 64
  config.log.every = 20
  config.checkpoint.every = 100


def _smoke_candidates(config):
  config.total_steps = 200
  config.evals.every = 50


def _smoke_cells(config):
  config.model.width = 32
  config.model.num_steps = 8
  config.total_steps = 600
  _augment_and_use_muon(config, learning_rate=2e-3)
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 100


def _augment_and_use_muon(config, *, learning_rate: float):
  """Set what `:cpu` and `:smoke` share for all networks except candidates."""
  config.data.symmetries = 'all'
  common.muon(
    config,
    paths='(input_mlp|message|node|lstm)/.*kernel',
    learning_rate=learning_rate,
  )


def _larger_boards(config):
  """Continue from the weights for 9x9 boards, but train on 12x12 boards."""
  config.init_weights = 'pretrained/rrn_sudoku'
  config.data.num_puzzles = 1000
  config.data.start_givens = config.data.givens = (47, 80)
  config.data.curriculum_steps = 0
  config.batch_size = 16
  config.optim.learning_rate = 1e-3
  config.optim.warmup_steps = 50
  config.optim.ema_decay = 0.99
  config.total_steps = 800
  config.evals.every = 400
  config.evals.givens = (48, 48)
  config.evals.boards_per_givens = 64


def _hard_puzzles(config, size: str):
  """Continue from the shipped weights on harder puzzles; see `sudoku.hard`."""
  config.data.hard_measure = 'unrefuted'
  config.data.least_difficulty = 51
  config.data.num_hard_puzzles = 10_000
  config.data.hard_share = 0.8
  config.data.start_givens = config.data.givens
  config.data.curriculum_steps = 0
  config.init_weights = 'pretrained/rrn_sudoku'
  config.evals.within_steps = (64, 256, 1024, 4096)
  config.evals.max_steps = 4096
  if size == 'cpu':
    config.model.max_steps = 256
    config.optim.learning_rate = 2e-3
    config.total_steps = 2000
    config.evals.boards_per_difficulty = 40
