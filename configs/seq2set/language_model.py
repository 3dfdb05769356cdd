"""Word order in language modeling (Vinyals et al. 2016, section 5.1.1).

  CONFIG=configs/seq2set/language_model.py
  uv run main.py --config=$CONFIG:cpu,source=TEXT --workdir=runs/natural

Sizes:
  (none)  the medium LSTM of the paper on the Penn Treebank, which you must
          provide: 10,000 words, 39 epochs.
  :cpu    one layer of 128, 5,000 words, Adam: 11 to 17 minutes on one shared
          core.
  :smoke  generated text: seconds.

Arguments:
  order   `natural`, `reverse`, or `three_words`.
  source  the text; see seq2set/text.py.

Expected validation perplexities in the paper: 86 (natural), 86 (reverse), and
96 (three_words). On another text, compare their ratios.
seq2set/language_model/README.md has our results.
"""

from configs import common

EPOCH = 1328  # updates on the 929,589 words of the Penn Treebank
PAPER = {'natural': '86', 'reverse': '86', 'three_words': '96'}

# The tables of --mode=sweep; `table=` selects one.
TABLES = ('orders',)


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = common.parse_arg(arg, order='natural', source='', table=TABLES[0])
  common.check_known('table', args.table, TABLES)
  common.check_known('order', args.order, PAPER)
  is_smoke = args.size == 'smoke'
  config = common.default_config()
  config.task = 'seq2set.language_model'
  config.model.width = 650
  config.model.num_layers = 2
  config.model.dropout = 0.5
  config.model.init_scale = 0.05
  config.model.order = args.order
  config.data.source = args.source or ('generated' if is_smoke else 'ptb')
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.vocabulary_size = 10_000
  config.data.length = 35  # scored words per window
  config.data.context = 35  # words before the scored ones
  config.evals.every = 1000  # updates
  config.evals.batch_size = 20
  config.total_steps = 39 * EPOCH
  config.batch_size = 20
  config.steps_per_call = 48  # divides 39 * EPOCH
  config.optim.name = 'sgd'
  config.optim.learning_rate = 1.0
  config.optim.schedule = 'staircase'
  config.optim.decay_begin = 6 * EPOCH
  config.optim.decay_every = EPOCH
  config.optim.decay_rate = 1 / 1.2
  config.optim.clip_norm = 5.0
  config.checkpoint.every = 1000
  # The paper reports validation perplexities.
  config.report = {
    'validation/perplexity': PAPER[args.order],
    'validation/perplexity_with_pads': '',
    'test/perplexity': '',
  }
  if is_smoke or config.data.source == 'generated':
    config.report = common.without_paper(config.report)
  if args.size == 'cpu':
    _cpu(config)
  elif is_smoke:
    _smoke(config)
  return config


def _cpu(config):
  config.model.width = 128
  config.model.num_layers = 1
  config.model.dropout = 0.2
  config.data.vocabulary_size = 5000
  config.data.context = 15
  config.total_steps = 4000
  config.steps_per_call = 50
  _adam(config, learning_rate=3e-3)


def _smoke(config):
  config.model.width = 32
  config.model.num_layers = 1
  config.model.dropout = 0.0
  config.data.vocabulary_size = 150
  config.data.length = 20
  config.data.context = 5
  config.evals.every = 100
  config.total_steps = 300
  config.batch_size = 32
  config.steps_per_call = 20
  _adam(config, learning_rate=1e-2)
  config.log.every = 20
  config.checkpoint.every = 100


def _adam(config, *, learning_rate: float):
  config.optim.name = 'adam'
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = learning_rate


def sweep(arg: str | None = None):
  """Vary the order of the words."""
  return {order: get_config(f'{arg or ""},order={order}') for order in PAPER}
