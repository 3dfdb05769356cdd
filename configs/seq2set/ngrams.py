"""The order of 5-grams, found during training (Vinyals et al. 2016, 5.2.1).

  CONFIG=configs/seq2set/ngrams.py
  uv run main.py --config=$CONFIG:cpu,source=TEXT --workdir=runs/ngrams

Sizes:
  (none)  10,000 words, an LSTM of width 512, 20,000 updates of 128 5-grams. The
          paper does not specify these sizes. As in the paper, the first 1,000
          updates use random orders.
  :cpu    2,000 words, an LSTM of width 128, 6,000 updates: ten minutes.
  :smoke  generated text with 150 words: seconds.

Arguments:
  orders  `natural`, `bad`, `easy`, or `hard`: the rows of Table 2.
  mode    `sample` as in the paper, or another of `seq2set.order_search.MODES`.
  source  the text; see seq2set/text.py.

The paper reports these perplexities on the Penn Treebank: 225 (natural), 280
(bad), 225 (easy), and 225 (hard). On another text, compare their ratios.
seq2set/ngrams/README.md has our results.
"""

from configs import common

PAPER = {'natural': '225', 'bad': '280', 'easy': '225', 'hard': '225'}

# The tables of --mode=sweep; `table=` selects one.
TABLES = ('table_2',)
# Old names of settings in the config.json of earlier versions.
RENAMED = {'model': {'num_draws': 'num_sets'}}


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = common.parse_arg(
    arg, orders='hard', mode='sample', source='', table=TABLES[0]
  )
  common.check_known('table', args.table, TABLES)
  common.check_known('orders', args.orders, PAPER)
  is_smoke = args.size == 'smoke'
  config = common.default_config()
  config.task = 'seq2set.ngrams'
  config.model.width = 512
  config.model.orders = args.orders
  config.model.mode = args.mode
  config.model.uniform_steps = 1000  # initial updates with random orders
  # Some search modes use the next two settings; see `order_search.loss`.
  config.model.num_sets = 8
  config.model.sharpness = 1.0
  config.data.source = args.source or ('generated' if is_smoke else 'ptb')
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.data.vocabulary_size = 10_000
  config.evals.every = 2000  # updates
  config.evals.num_examples = 10_000
  config.evals.batch_size = 100
  config.total_steps = 20_000
  config.batch_size = 128
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-3
  config.optim.clip_norm = 1.0
  config.checkpoint.every = 1000
  # The paper reports validation perplexities.
  config.report = {
    'validation/perplexity': (
      PAPER[args.orders] if args.mode == 'sample' else ''
    ),
    'validation/perplexity_of_all_orders': '',
    'validation/perplexity_of_a_posterior_draw': '',
    'test/perplexity': '',
  }
  if is_smoke or config.data.source == 'generated':
    config.report = common.without_paper(config.report)
  if args.size == 'cpu':
    config.model.width = 128
    config.data.vocabulary_size = 2000
    config.evals.every = 500
    config.evals.num_examples = 2000
    config.total_steps = 6000
    config.optim.schedule = 'cosine'
  elif is_smoke:
    config.model.width = 32
    config.model.uniform_steps = 200
    config.data.vocabulary_size = 150
    config.evals.every = 200
    config.evals.num_examples = 200
    config.total_steps = 600
    config.steps_per_call = 20
    config.optim.learning_rate = 3e-3
    config.log.every = 20
    config.checkpoint.every = 200
  return config


def sweep(arg: str | None = None):
  """Vary the orders as in Table 2; add searches with other modes (ours)."""
  points = {
    orders: get_config(f'{arg or ""},orders={orders}') for orders in PAPER
  }
  # Each set that selects an order is evaluated in all orders: 2 or 120.
  for orders, num_sets in ('easy', 128), ('hard', 16):
    config = get_config(f'{arg or ""},orders={orders},mode=shared')
    config.model.num_sets = num_sets
    points[f'{orders}_shared'] = config
  points['hard_posterior'] = get_config(f'{arg or ""},mode=posterior')
  return points
