"""A number plus one, of more digits than in training (Awasthi & Gupta).

  uv run main.py --config=configs/hinting/increment.py:cpu

bare    a guess at the paper, whose sizes are not known to us: width 512, batch
        1,024, 100,000 updates.
:cpu    width 128, batch 128, Muon, 8,000 updates.
:smoke  a smaller network, numbers of at most 8 digits, seconds.
Arguments: `hint=changed`, another of hinting/increment/hints.py, several joined
by +, or none; `temperature=T0` to T5; `positions=none`, or another of
hinting/positions.py; `order=standard`, or reversed: from the last digit on;
`optimizer=adamw` or muon.
Expect: no number to compare with. The paper's appendix is said to have
this task, and hints that help; its lengths and numbers are not known to us.
"""

from configs import common
from configs.hinting import common as shared

HINTS = 'none', 'span', 'changed', 'tail', 'digit', 'copy', 'parity'


def get_config(arg: str | None = None):
  """Builds the config; for its arguments see above."""
  args = common.parse_arg(
    arg,
    hint='changed',
    temperature='T0',
    positions='none',
    order='standard',
    optimizer='',
  )
  config = shared.rows_config(
    args,
    longest_list=100,  # digits
    lengths=(10, 20, 30, 100),
    test_lengths=(5, 10, 15, 20, 22, 25, 30, 40, 60, 80, 100),
    report={  # the paper's numbers are not known to us
      f'{test}/accuracy_length_{length}': ''
      for test in ('test', 'carries')
      for length in (20, 30, 60, 100)
    },
  )
  config.task = 'hinting.increment'
  config.data.order = args.order
  return config


def sweep(arg: str | None = None):
  """The hints, and none."""
  prefix = f'{arg},' if arg else ''
  return {hint: get_config(f'{prefix}hint={hint}') for hint in HINTS}
