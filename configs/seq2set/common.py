"""Settings that experiments of Order Matters share."""

from collections.abc import Callable, Mapping

import ml_collections

from configs import common

OPTIMIZERS = 'adam', 'muon'


def use_short_schedule(config: ml_collections.ConfigDict):
  """Set the optimizer for short training runs, which are not in the paper."""
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = 2e-3
  config.optim.clip_norm = 1.0
  config.optim.warmup_steps = 50
  config.optim.ema_decay = 0.99


def parse_points(arg: str | None, tables, **defaults):
  """Parse the arguments of an experiment on points.

  Args:
    arg: the argument of `get_config`.
    tables: the tables of the experiment; the first is the default.
    **defaults: the other arguments of the experiment and their defaults.
  """
  args = common.parse_arg(
    arg,
    num_points=0,
    min_points=0,
    inputs='random',
    encoder='pointer_network',
    optimizer='adam',
    table=tables[0],
    **defaults,
  )
  common.check_known('table', args.table, tables)
  common.check_known('optimizer', args.optimizer, OPTIMIZERS)
  return args


def points_config(
  args, *, num_points: int, paper: Mapping[int, object]
) -> ml_collections.ConfigDict:
  """Build the config that all experiments on points share.

  Args:
    args: config arguments with `size`, `encoder`, `inputs`, `optimizer`, and
      `min_points`, the number of points of the smallest sets; 0 for sets of one
      size.
    num_points: number of points of the largest sets.
    paper: published results by number of points. If sets differ in size, these
      sizes are tested separately.
  """
  config = common.default_config()
  config.model.encoder = args.encoder
  config.model.width = 256
  config.model.num_process_steps = 10
  # Published Pointer Networks have no glimpse.
  config.model.num_glimpses = 0 if args.encoder == 'pointer_network' else 1
  config.model.inputs = args.inputs
  config.data.num_points = num_points
  config.data.min_points = args.min_points  # 0: all sets have num_points
  config.data.distribution = 'uniform'
  config.data.num_sets = 1_000_000
  config.evals.every = 1000  # updates
  config.evals.num_sets = 10_000
  config.evals.set_sizes = ()  # tested separately with --mode=eval
  if args.min_points:
    config.evals.set_sizes = tuple(
      size for size in paper if args.min_points <= size <= num_points
    )
  config.evals.batch_size = 500
  config.evals.beam = 1  # beam width; 1 is greedy
  config.evals.source = ''  # file of sets with answers for --mode=eval
  config.total_steps = 100_000
  config.batch_size = 128
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-3
  config.optim.clip_norm = 2.0
  config.checkpoint.every = 1000
  if args.size == 'cpu':
    config.model.width = 128
    config.data.num_sets = 500_000
    config.evals.num_sets = 2000
    config.total_steps = 20_000
  elif args.size == 'smoke':
    config.model.width = 32
    config.data.num_sets = 5000
    config.evals.every = 100
    config.evals.num_sets = 1000
    config.total_steps = 400
    config.steps_per_call = 20
    config.log.every = 20
    config.checkpoint.every = 100
  if args.size != 'paper':
    use_short_schedule(config)
  if args.optimizer == 'muon':
    common.muon(config, paths='.*kernel', learning_rate=3e-3)
    config.optim.weight_decay = 0.01
  return config


def reported_sets(
  config: ml_collections.ConfigDict, size: str
) -> dict[str, int]:
  """Return the number of points of the sets of each evaluator to report.

  Args:
    config: a config of `points_config`.
    size: one of `configs.common.SIZES`.

  Returns:
    The number of points by evaluator; 0 if its sets differ in size.
  """
  split = 'test' if size == 'paper' else 'validation'
  num_points = 0 if config.data.min_points else config.data.num_points
  return {split: num_points} | {
    f'test_{count}_points': count for count in config.evals.set_sizes
  }


def orders(
  get_config: Callable[[str], ml_collections.ConfigDict],
  arg: str | None,
  *,
  optimizer: str,
  random_outputs: str,
) -> dict[str, ml_collections.ConfigDict]:
  """Return the runs of the tables of hulls and triangulations.

  Args:
    get_config: builds a config from its arguments.
    arg: arguments of all runs.
    optimizer: one of `OPTIMIZERS`.
    random_outputs: the argument that selects a random order of the output.
  """
  outputs = random_outputs.partition('=')[0]
  common.check_not_varied(arg, ('encoder', 'inputs', outputs))
  tables = 'table=orders for Adam or table=muon for Muon'
  common.check_not_varied(arg, ('optimizer',), instead=tables)
  changes = {
    'pointer_network': '',
    'pointer_network_sorted_inputs': 'inputs=angle',
    'pointer_network_random_outputs': random_outputs,
    'read_process_write': 'encoder=read_process_write',
    'set_transformer': 'encoder=set_transformer',
  }
  return {
    name: get_config(f'{arg or ""},optimizer={optimizer},{change}')
    for name, change in changes.items()
  }
