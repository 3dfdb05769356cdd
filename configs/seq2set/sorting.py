"""Sorting a set by Read, Process, Write (Vinyals et al. 2016, section 4.4).

  uv run main.py --config=configs/seq2set/sorting.py:cpu

Sizes:
  (none)  the paper: 10,000 updates, sets of 5. Batch size 128, width 128, and
          Adam 1e-3 are our choice; the paper gives none.
  :cpu    3,000 updates with a cosine schedule: a minute on two CPU cores.
  :smoke  a smaller network: seconds.

Arguments:
  set_size  number of elements.
  process   number of process steps.
  glimpses  number of glimpses before each output, 0 or 1 in the paper.
  encoder   `read_process_write`, `pointer_network` (the baseline), or, from
            later work, `deep_sets` or `set_transformer`.
  decoder   `write`, or `assignment`, which predicts all outputs in parallel.
  outputs   `indices` in ascending order; `pairs` of an index and its rank, by
            rank; or `random_pairs`, the same pairs in random order.
  table     the runs of --mode=sweep: `table_1` or `pairs`.

Expected accuracy in Table 1 of the paper, with 5 steps and a glimpse: 94 % for
sets of 5, 57 % for 10, and 4 % for 15. Section 5.1.3 says that pairs in random
order never reached the accuracy of a fixed order, even for sets of 5.
"""

import itertools

from configs import common
from configs.seq2set import common as shared

# Share of sorted sets in % (Table 1): set size -> (encoder, number of process
# steps) -> (without a glimpse, with one). The baseline ignores process steps.
PAPER = {
  5: {
    ('pointer_network', None): (81, 90),
    ('read_process_write', 0): (65, 84),
    ('read_process_write', 1): (84, 92),
    ('read_process_write', 5): (88, 94),
    ('read_process_write', 10): (90, 94),
  },
  10: {
    ('pointer_network', None): (8, 28),
    ('read_process_write', 0): (7, 30),
    ('read_process_write', 1): (14, 44),
    ('read_process_write', 5): (17, 57),
    ('read_process_write', 10): (19, 50),
  },
  15: {
    ('pointer_network', None): (0, 4),
    ('read_process_write', 0): (1, 2),
    ('read_process_write', 1): (0, 5),
    ('read_process_write', 5): (2, 4),
    ('read_process_write', 10): (0, 10),
  },
}

# Settings of earlier versions, and the only values that are still accepted.
RETIRED = {'model.process_form': 'A'}

# The tables of --mode=sweep; `table=` selects one.
TABLES = 'table_1', 'pairs'


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = _parse(arg)
  config = common.default_config()
  config.task = 'seq2set.sorting'
  config.model.encoder = args.encoder
  config.model.decoder = args.decoder
  config.model.width = 128
  config.model.num_process_steps = args.process
  config.model.num_glimpses = args.glimpses
  config.model.process_attention = 'dot'
  config.model.pointer_attention = 'additive'
  config.model.outputs = args.outputs
  config.data.set_size = args.set_size
  config.evals.every = 1000  # updates
  config.evals.num_sets = 10_000
  config.evals.batch_size = 500
  # Each size is compiled separately, so large sets skip some sizes.
  stride = max(1, args.set_size // 10)
  config.evals.set_sizes = tuple(
    range(max(2, stride), 2 * args.set_size + 1, stride)
  )
  if args.outputs != 'indices':
    config.evals.set_sizes = ()  # ranks above set_size are untrained
  config.total_steps = 10_000
  config.batch_size = 128
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-3
  config.optim.clip_norm = 2.0
  config.checkpoint.every = 1000
  # Short runs report the last validation, which has as many unseen sets.
  split = 'test' if args.size == 'paper' else 'validation'
  config.report = {
    f'{split}/accuracy': _paper_accuracy(args),
    f'{split}/permutations': '%',
    f'{split}/positions': '%',
    f'{split}/accuracy_without_repeats': '%',
  }
  if args.size == 'cpu':
    config.total_steps = 3000
    shared.use_short_schedule(config)
  elif args.size == 'smoke':
    config.model.width = 32
    config.total_steps = 300
    config.evals.every = 100
    config.evals.num_sets = 1000
    config.steps_per_call = 20
    config.log.every = 20
    config.checkpoint.every = 100
    config.report = common.without_paper(config.report)
    shared.use_short_schedule(config)
  return config


def sweep(arg: str | None = None):
  """Vary the set size, the encoder, and the glimpses: 30 cells of Table 1.

  The table `pairs` compares pairs by rank and in random order.
  """
  if _parse(arg).table == 'pairs':
    return {
      f'size_{size}_{outputs}': get_config(
        f'{arg or ""},set_size={size},outputs={outputs}'
      )
      for size in (5, 10)
      for outputs in ('pairs', 'random_pairs')
    }
  points = {}
  for set_size, rows in PAPER.items():
    for (encoder, steps), glimpses in itertools.product(rows, (0, 1)):
      name = encoder if steps is None else f'process_{steps}'
      choice = f'encoder={encoder}' if steps is None else f'process={steps}'
      points[f'size_{set_size}_{name}_glimpses_{glimpses}'] = get_config(
        f'{arg or ""},set_size={set_size},{choice},glimpses={glimpses}'
      )
  return points


def _parse(arg: str | None):
  args = common.parse_arg(
    arg,
    set_size=5,
    process=5,
    glimpses=1,
    encoder='read_process_write',
    decoder='write',
    outputs='indices',
    table=TABLES[0],
  )
  common.check_known('table', args.table, TABLES)
  return args


def _paper_accuracy(args) -> str:
  """Return the accuracy in Table 1, or '%' if there is none."""
  if args.decoder != 'write' or args.outputs != 'indices':
    return '%'
  has_steps = args.encoder == 'read_process_write'
  row = args.encoder, args.process if has_steps else None
  shares = PAPER.get(args.set_size, {}).get(row)
  if shares is None or args.glimpses not in (0, 1):
    return '%'
  return f'{shares[args.glimpses]} %'
