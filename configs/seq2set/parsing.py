"""The order of a tree's labels in parsing (Vinyals et al. 2016, section 5.1.2).

  CONFIG=configs/seq2set/parsing.py
  uv run main.py --config=$CONFIG:cpu --workdir=runs/depth_first
  uv run main.py --config=$CONFIG:cpu,order=breadth_first --workdir=runs/breadth

Sizes:
  (none)  the network of Grammar as a Foreign Language: three layers of 256,
          sentences of up to 40 words from a treebank in the data folder.
  :cpu    one layer of 128, up to 20 words, 4,000 updates: 11 to 20
          minutes on one core.
  :smoke  generated trees of up to 10 words: seconds.

Arguments:
  order    `depth_first` or `breadth_first`.
  source   `craft`, another treebank, or `generated`; see
           seq2set/parsing/treebank.py.
  forward  read the sentence forward; the default is backward.

Expected F1 in the paper, on the Wall Street Journal: 89.5 depth first and 81.5
breadth first, where many outputs are not trees. On another treebank, compare
the gap.
"""

from configs import common

PAPER = {'depth_first': '89.5 %', 'breadth_first': '81.5 %'}

# The tables of --mode=sweep; `table=` selects one.
TABLES = ('orders',)


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = common.parse_arg(
    arg, order='depth_first', source='', forward=False, table=TABLES[0]
  )
  common.check_known('table', args.table, TABLES)
  common.check_known('order', args.order, PAPER)
  is_smoke = args.size == 'smoke'
  config = common.default_config()
  config.task = 'seq2set.parsing'
  config.model.width = 256
  config.model.num_layers = 3
  config.model.dropout = 0.3
  config.model.order = args.order
  config.model.reverses_input = not args.forward
  config.model.num_labels = 256  # opening and closing labels of all nodes
  config.data.source = args.source or ('generated' if is_smoke else 'craft')
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.max_words = 40
  config.data.num_generated = 40_000
  config.data.vocabulary_size = 10_000
  config.evals.every = 2000  # updates
  config.evals.num_trees = 2000
  config.evals.batch_size = 100
  config.total_steps = 50_000
  config.batch_size = 128
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-3
  config.optim.schedule = 'cosine'
  config.optim.clip_norm = 1.0
  config.checkpoint.every = 1000
  config.report = {
    'test/f1': PAPER[args.order],
    'test/f1_repaired': '%',
    'test/valid': '%',
  }
  if args.forward or config.data.source == 'generated':
    config.report = common.without_paper(config.report)
  if args.size == 'cpu':
    _cpu(config)
  elif is_smoke:
    _smoke(config)
  return config


def _cpu(config):
  config.model.width = 128
  config.model.num_layers = 1
  config.data.max_words = 20
  config.data.num_generated = 20_000
  config.data.vocabulary_size = 5000
  config.total_steps = 4000
  config.batch_size = 64
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = 100


def _smoke(config):
  config.model.width = 32
  config.model.num_layers = 1
  config.model.dropout = 0.0
  config.data.max_words = 10
  config.data.num_generated = 2000
  config.data.vocabulary_size = 1000
  config.evals.every = 100
  config.total_steps = 300
  config.batch_size = 64
  config.steps_per_call = 20
  config.optim.learning_rate = 5e-3
  config.log.every = 20
  config.checkpoint.every = 100
  config.report = {'validation/f1': '%', 'validation/valid': '%'}


def sweep(arg: str | None = None):
  """Vary the order; add depth first with forward input."""
  common.check_not_varied(arg, ('order', 'forward'))
  return {
    'depth_first': get_config(arg),
    'breadth_first': get_config(f'{arg or ""},order=breadth_first'),
    'depth_first_forward': get_config(f'{arg or ""},forward'),
  }
