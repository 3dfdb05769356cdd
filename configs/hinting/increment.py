"""Adding one to numbers with more digits than in training (Awasthi & Gupta).

  uv run main.py --config=configs/hinting/increment.py:cpu

Sizes:
  (none)  our estimate of the paper's settings, which we do not know: width 512,
          batch size 1,024, 100,000 updates.
  :cpu    width 128, batch size 128, Muon, 8,000 updates.
  :smoke  a smaller network, numbers of at most 8 digits: seconds.

Arguments:
  hint         `changed`, another hint of hinting/increment/hints.py, several
               joined by +, or `none`.
  temperature  `none`, `affine_log`, `log`, or `per_query`.
  positions    `none`, or another kind of hinting/positions.py.
  order        `standard`, or `reversed` to write numbers from the last digit.
  optimizer    `adamw` or `muon`.

There is no result to compare with. According to a secondary source, the
appendix of the paper has this task, with a hint. We do not know its
lengths and results.
"""

from configs import common
from configs.hinting import common as shared

RENAMED = shared.RENAMED

HINTS = 'none', 'span', 'changed', 'tail', 'digit', 'copy', 'parity'

# The tables of --mode=sweep; `table=` selects one.
TABLES = ('hints',)


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = common.parse_arg(
    arg,
    hint='changed',
    temperature='none',
    positions='none',
    order='standard',
    optimizer='',
    table=TABLES[0],
  )
  common.check_known('table', args.table, TABLES)
  config = shared.base_config(
    args,
    max_predict_length=100,  # digits
    lengths=(10, 20, 30, 100),
    test_lengths=(5, 10, 15, 20, 22, 25, 30, 40, 60, 80, 100),
    report={  # the paper's results are unknown
      f'{test}/accuracy_length_{length}': ''
      for test in ('test', 'carries')
      for length in (20, 30, 60, 100)
    },
  )
  config.task = 'hinting.increment'
  config.data.order = args.order
  return config


def sweep(arg: str | None = None):
  """Return a run for each hint and one without a hint."""
  prefix = f'{arg},' if arg else ''
  return {hint: get_config(f'{prefix}hint={hint}') for hint in HINTS}
