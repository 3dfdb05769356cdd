"""Star graphical models: head first or last (Vinyals et al. 2016, 5.1.4).

  uv run main.py --config=configs/seq2set/star.py:cpu --workdir=runs/star

Sizes:
  (none)  30 variables and 2,000 examples, the middle of the ranges in the
          paper. An LSTM of width 128 and 10,000 updates are our choice.
  :cpu    3,000 updates: a minute.
  :smoke  10 variables and 500 updates of a small network: seconds.

Arguments:
  num_variables  10 to 50 in the paper.
  num_examples   200 to 20,000 in the paper.
  beta           from 0 (uniform) to 8 (nearly deterministic).
  order          `head_first`, `head_last`, or a mode of `seq2set.order_search`
                 that searches for an order. The paper does not try this search.

Expected: head first is at least as good as head last. The two orders are
equally good with many examples or a large beta. The paper gives no numbers;
seq2set/star/README.md has our results.
"""

import itertools

from configs import common

# The tables of --mode=sweep; `table=` selects one.
TABLES = ('head_first',)
# Old names of settings in the config.json of earlier versions.
RENAMED = {'model': {'num_draws': 'num_sets'}}


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = common.parse_arg(
    arg,
    num_variables=0,
    num_examples=2000,
    beta=2.0,
    order='head_first',
    table=TABLES[0],
  )
  common.check_known('table', args.table, TABLES)
  is_smoke = args.size == 'smoke'
  config = common.default_config()
  config.task = 'seq2set.star'
  config.model.width = 32 if is_smoke else 128
  config.model.order = args.order
  config.model.uniform_steps = 0  # initial updates with random orders
  # Some search modes use the next two settings; see `order_search.loss`.
  config.model.num_sets = 8
  config.model.sharpness = 1.0
  config.data.num_variables = args.num_variables or (10 if is_smoke else 30)
  config.data.num_examples = args.num_examples
  config.data.beta = args.beta
  config.data.model_seed = 0  # of the star model and its examples
  config.evals.every = 500  # updates
  config.evals.num_examples = 10_000
  config.evals.batch_size = 500
  config.evals.num_draws = 32
  config.total_steps = 10_000
  config.batch_size = 64
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-3
  config.optim.clip_norm = 1.0
  config.checkpoint.every = 1000
  split = 'test' if args.size == 'paper' else 'validation'
  config.report = {f'{split}/excess_nats': ''}
  if args.order not in ('head_first', 'head_last'):
    config.model.uniform_steps = 100 if is_smoke else 1000  # as in section 5.2
    config.report[f'{split}/excess_nats_of_one_order'] = ''
    config.report[f'{split}/head_position'] = ''
  if args.size == 'cpu':
    config.total_steps = 3000
  elif is_smoke:
    config.total_steps = 500
    config.steps_per_call = 20
    config.evals.every = 100
    config.evals.num_examples = 1000
    config.log.every = 20
    config.checkpoint.every = 100
  return config


def sweep(arg: str | None = None):
  """Vary the number of variables and examples, `beta`, and the order."""
  points = {}
  for variables, examples, beta, order in itertools.product(
    (10, 30, 50),
    (200, 2000, 20_000),
    (0.5, 1.0, 2.0, 4.0, 8.0),
    ('head_first', 'head_last'),
  ):
    name = f'{variables}_variables_{examples}_examples_beta_{beta}_{order}'
    points[name] = get_config(
      f'{arg or ""},num_variables={variables},num_examples={examples},'
      f'beta={beta},order={order}'
    )
  return points
