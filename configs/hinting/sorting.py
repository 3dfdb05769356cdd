"""Sorting lists of up to 100 after training on at most 20 (Awasthi & Gupta).

  uv run main.py --config=configs/hinting/sorting.py:cpu

bare    a guess at the paper, whose sizes are not known to us: width 512, batch
        1,024, 100,000 updates.
:cpu    width 128, batch 128, Muon, 8,000 updates: 16 minutes on two busy
        cores. With hint=none,temperature=T2,lists=diverse it sorts 93 % of
        lists of 100; with the defaults, in 1,500 updates, none.
:smoke  a smaller network, lists of at most 8 values from 32, seconds.
Arguments: `hint=successor`, another of hinting/hints.py, several joined by +,
or none; `temperature=T0` to T5; `positions=none`; `lists=plain`, distinct,
rich, dense or diverse; `main=sort` or scratchpad.
Expect: under 1 % of lists of 100 without a hint, over 92 % with one (the
paper's abstract); what is ours is in hinting/README.md.
"""

from configs import common
from configs.hinting import common as shared

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


def get_config(arg: str | None = None):
  """Builds the config; for its arguments see above."""
  args = common.parse_arg(
    arg,
    hint='successor',
    temperature='T0',
    positions='none',
    lists='plain',
    main='sort',
  )
  config = shared.rows_config(
    args,
    longest_list=200,
    lengths=(20, 40, 60, 80, 100),
    test_lengths=(10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200),
    report={
      'test/accuracy_length_20': '',
      'test/accuracy_length_50': '',
      'test/accuracy_length_100': _paper(args),
      'test/accuracy_length_200': '',
    },
  )
  config.task = 'hinting.sorting'
  config.data.lists = args.lists
  config.data.main = args.main
  config.data.num_values = 256 if args.lists == 'distinct' else 100
  if args.size == 'smoke':
    config.data.num_values = 32
  return config


def sweep(arg: str | None = None):
  """The hints, the two controls, and no hint."""
  prefix = f'{arg},' if arg else ''
  return {hint: get_config(f'{prefix}hint={hint}') for hint in HINTS}


def _paper(args) -> str:
  """The paper's value at length 100, '' where it has none."""
  if (args.temperature, args.positions) != ('T0', 'none'):
    return ''
  if (args.lists, args.main) != ('plain', 'sort'):
    return ''
  return {'none': '< 1 %', 'successor': '> 92 %'}.get(args.hint, '')
