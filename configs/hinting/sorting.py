"""Sorting lists of up to 100 after training on at most 20 (Awasthi & Gupta).

  uv run main.py --config=configs/hinting/sorting.py:cpu

Sizes:
  (none)  our estimate of the paper's settings, which we do not know: width 512,
          batch size 1,024, 100,000 updates.
  :cpu    width 128, batch size 128, Muon, 8,000 updates: 16 minutes on two busy
          cores. With hint=none,temperature=log,lists=diverse and 16,000
          updates, the network sorts 98 % of lists of 100. The hint helps most
          with optimizer=adamw and 5,000 updates: the accuracy on lists of 50 is
          77 % with the hint and 25 % without it.
  :smoke  a smaller network, lists of at most 8 values from 1 to 32: seconds.

Arguments:
  hint         `successor`, another hint of hinting/sorting/hints.py, several
               joined by +, or `none`.
  hint_share   share of hint rows in a batch; 0.5 by default.
  temperature  `none`, `affine_log`, `log`, or `per_query`.
  positions    `none`, or another kind of hinting/positions.py.
  lists        `uniform`, `distinct`, `rich`, `dense`, or `diverse`; see
               hinting/sorting/hints.py.
  main         `sort`, or `scratchpad`, which counts the remaining copies.
  num_layers   number of layers; 2 by default.
  num_rows     rows of each kind in a fixed training set; 0: new rows for every
               batch.
  curriculum   updates until all lengths occur; 0: no curriculum.
  optimizer    `adamw` or `muon`.
  table        the runs of --mode=sweep: `hints`, or another one of TABLES.

Expected result: in the paper, the network sorts under 1 % of lists of 100
without a hint, and over 92 % with one. hinting/README.md has our results.
"""

import itertools

from configs import common
from configs.hinting import common as shared

RENAMED = shared.RENAMED

HINTS = (
  'none',
  'successor',
  'successors',
  'predecessor',
  'count',
  'fill',
  'min',
  'max',
  'rank',
  'member',
  'copy',
  'parity',
  'shuffled_successor',
  'more_sort',
)
_PAIR = 'none', 'successor'
# Table -> the arguments that it varies -> their values.
GRIDS = {
  'hints': {'hint': HINTS},
  'hint_shares': {'hint_share': (0.0, 0.25, 0.5, 0.75)},
  'temperatures': {
    'temperature': ('none', 'affine_log', 'log', 'per_query'),
    'hint': _PAIR,
  },
  'positions': {
    'positions': ('none', 'learned', 'randomized', 't5', 'alibi', 'rotary'),
    'hint': _PAIR,
  },
  'lists': {
    'lists': ('uniform', 'distinct', 'rich', 'dense', 'diverse'),
    'hint': _PAIR,
  },
  'depths': {'num_layers': (1, 2, 4), 'hint': _PAIR},
  'training_sets': {
    'num_rows': (10_000, 100_000, 1_000_000, 0),
    'hint': _PAIR,
  },
  'baselines': {'main': ('sort', 'scratchpad'), 'curriculum': (0, 750)},
}
# The table `recipes`: row -> arguments, and updates with `:cpu`. Each row is
# trained with and without the hint.
RECIPES = {
  'adamw_5000': ('optimizer=adamw', 5000),
  'adamw_10000': ('optimizer=adamw', 10_000),
  'muon_1500': ('optimizer=muon', 1500),
  'muon_log_diverse_8000': (
    'optimizer=muon,temperature=log,lists=diverse',
    8000,
  ),
  'muon_log_diverse_16000': (
    'optimizer=muon,temperature=log,lists=diverse',
    16_000,
  ),
}
TABLES = (*GRIDS, 'recipes')
_DEFAULTS = {
  'hint': 'successor',
  'hint_share': 0.5,
  'temperature': 'none',
  'positions': 'none',
  'lists': 'uniform',
  'main': 'sort',
  'num_layers': 2,
  'num_rows': 0,
  'curriculum': 0,
  'optimizer': '',
  'table': 'hints',
}


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = _parse(arg)
  config = shared.base_config(
    args,
    max_predict_length=200,
    lengths=(20, 50, 100),
    test_lengths=(10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200),
    report={
      'test/accuracy_length_20': '',
      'test/accuracy_length_50': '',
      'test/accuracy_length_100': _paper(args),
      'test/accuracy_length_200': '',
    },
  )
  config.task = 'hinting.sorting'
  config.model.num_layers = args.num_layers
  config.data.hint_share = args.hint_share
  config.data.num_rows = args.num_rows
  config.data.curriculum_steps = args.curriculum
  config.data.lists = args.lists
  config.data.main = args.main
  config.data.num_values = 256 if args.lists == 'distinct' else 100
  if args.size == 'smoke':
    config.data.num_values = 32
  return config


def sweep(arg: str | None = None):
  """Return the runs of a table; the default is the table of all hints.

  Raises:
    UserError: `arg` sets an argument that varies in the table.
  """
  args = _parse(arg)
  grid = GRIDS.get(args.table, {})
  varied = grid or ('optimizer', 'temperature', 'lists', 'hint')
  common.check_not_varied(arg, varied)
  if args.table == 'recipes':
    return _recipes(arg, is_short=args.size == 'cpu')
  points = {}
  for values in itertools.product(*grid.values()):
    choice = [f'{key}={value}' for key, value in zip(grid, values, strict=True)]
    name = '_'.join(choice) if len(grid) > 1 else str(values[0])
    config = get_config(','.join(filter(None, (arg, *choice))))
    points[name.replace('=', '_')] = config
  return points


def _recipes(arg: str | None, *, is_short: bool):
  """Return the runs of the table `recipes`, with five seeds each.

  Args:
    arg: arguments of all runs.
    is_short: use the numbers of updates of `RECIPES`.
  """
  points = {}
  for name, (changes, updates) in RECIPES.items():
    for hint in _PAIR:
      config = get_config(f'{arg},{changes},hint={hint}')
      config.num_seeds = 5
      if is_short:
        config.total_steps = updates
      points[f'{name}_{hint}'] = config
  return points


def _parse(arg: str | None):
  args = common.parse_arg(arg, **_DEFAULTS)
  common.check_known('table', args.table, TABLES)
  return args


def _paper(args) -> str:
  """Return the paper's value at length 100, '' if there is none."""
  changed = {name for name, value in _DEFAULTS.items() if args[name] != value}
  if changed - {'hint', 'optimizer', 'table'}:
    return ''
  return {'none': '< 1 %', 'successor': '> 92 %'}.get(args.hint, '')
