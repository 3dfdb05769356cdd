"""Age arithmetic with a recurrent relational network (Palm et al. 2018, 3.4).

  uv run main.py --config=configs/rrn/ages.py:cpu --workdir=runs/ages

Sizes:
  (none): the paper's settings: 8 steps, Adam 1e-4, batch size 128.
  cpu: our settings for two CPU cores: shallow MLPs, Muon, no dropout, Fourier
    initialization of numbers, and a loss of the ages in each fact. Training has
    four stages (`STAGES`) with 1, 2, 4, and 4 steps, which took 43 minutes on
    one core; evaluation runs 8 steps.
  smoke: a smaller network, half a minute.

Arguments: `steps=8`, not for `:cpu`; `network=relation_network`, which runs one
step, or `network=mlp`, both baselines; `stage=1` to `stage=4`, a single stage
of `:cpu`.

Expected result: unknown, because the paper shows a figure without numbers.
rrn/ages/README.md has our results.
"""

from configs import common
from core.errors import UserError

NETWORKS = ('recurrent_relational_network', 'relation_network', 'mlp')
# Old names of settings in the config.json of earlier versions.
RENAMED = {'model': {'num_waves': 'fourier_init', 'pre_layers': 'input_layers'}}
# Old names of layers in the weights and checkpoints of earlier versions.
RENAMED_LAYERS = {'pre': 'input_mlp'}
TABLES = ('networks',)
# The stages of `:cpu`: number of steps, updates, and weight of the answer loss.
STAGES = {
  1: (1, 4000, 0.0),
  2: (2, 4000, 0.0),
  3: (4, 5000, 0.3),
  4: (4, 2500, 1.0),
}


def get_config(arg: str | None = None):
  """Build the config; the module documents the arguments."""
  args = _parse(arg)
  stage = STAGES[args.stage or len(STAGES)] if _num_stages(args) else None
  steps = stage[0] if stage else args.steps or 8
  test_steps = tuple(sorted({steps, 8}))
  if args.network != NETWORKS[0]:
    steps, test_steps = 1, (1,)
  config = common.default_config()
  config.task = 'rrn.ages'
  config.model.network = args.network
  config.model.num_steps = steps
  config.model.width = 128
  config.model.input_layers = 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.output_layers = 3
  config.model.edge_width = 0  # 2: with the authors' constant inputs
  config.model.dropout = 0.5
  config.model.fourier_init = 0  # sines and cosines in initial weights
  config.model.fact_loss = 0.0  # 0: the paper's loss; see rrn.ages.task
  config.model.answer_loss = 1.0
  config.evals.every = 5000  # updates
  config.evals.num_steps = test_steps
  config.evals.num_validation = 2048  # problems, on training trees
  config.evals.batch_size = 256
  config.total_steps = 1_000_000  # ours; the authors' code stops at 10 million
  config.batch_size = 128
  config.steps_per_call = 50
  config.optim.learning_rate = 1e-4
  config.checkpoint.every = 5000
  if args.size == 'cpu':
    _cpu(config, stage)
  elif args.size == 'smoke':
    _smoke(config)
  last = f'test/steps_{config.evals.num_steps[-1]}/accuracy'
  config.report = {last: ''} | {
    f'{last}_{jumps}_jumps': '' for jumps in range(8)
  }
  return config


def stages(arg: str | None = None):
  """Return the stages of `:cpu`; {} if training has only one."""
  args = _parse(arg)
  return {} if args.stage else common.stages(get_config, arg, _num_stages(args))


def sweep(arg: str | None = None):
  """Return the paper's network, its relation network, and an MLP (ours)."""
  points = {}
  for name in NETWORKS:
    choice = f'{arg or ""},network={name}'
    points[name] = stages(choice) or get_config(choice)
  return points


def _parse(arg: str | None):
  args = common.parse_arg(
    arg, network=NETWORKS[0], steps=0, stage=0, table=TABLES[0]
  )
  common.check_known('network', args.network, NETWORKS)
  common.check_known('table', args.table, TABLES)
  common.check_stage(args, _num_stages(args))
  if args.steps and args.network != NETWORKS[0]:
    raise UserError(
      f'config argument steps={args.steps}: network={args.network} always runs'
      ' one step; leave it out'
    )
  if args.steps and args.size == 'cpu':
    raise UserError(
      f'config argument steps={args.steps}: the stages of cpu set the steps;'
      ' leave it out, or choose a stage with stage=1'
    )
  return args


def _num_stages(args) -> int:
  is_staged = args.size == 'cpu' and args.network == NETWORKS[0]
  return len(STAGES) if is_staged else 0


def _recipe(config):
  """Set what `:cpu` and `:smoke` share."""
  config.model.input_layers = 1
  config.model.message_layers = 1
  config.model.node_layers = 1
  config.model.output_layers = 1
  config.model.dropout = 0.0
  config.model.fourier_init = 16
  config.model.fact_loss = float(config.model.network != 'mlp')
  common.muon(
    config,
    paths='(input_mlp|message|node|lstm|mlp/layers/[0-3])/.*kernel',
    learning_rate=6e-3,
  )


def _cpu(config, stage):
  _recipe(config)
  config.model.message_layers = 2
  config.total_steps = 5000
  if stage:
    _, config.total_steps, config.model.answer_loss = stage
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.999
  config.evals.every = 1000
  config.checkpoint.every = 500


def _smoke(config):
  _recipe(config)
  config.model.width = 32
  config.total_steps = 600
  config.batch_size = 64
  config.steps_per_call = 20
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 200
  config.evals.num_validation = 512
  config.log.every = 20
  config.checkpoint.every = 200
