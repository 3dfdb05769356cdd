"""Paths in mazes with a recurrent relational network (ours).

  uv run main.py --config=configs/rrn/mazes.py:cpu --workdir=runs/mazes

The paper does not have this experiment. "Can You Learn an Algorithm?"
(Schwarzschild et al. 2021, arXiv 2106.04537) trains recurrent convolutional
networks on 9x9 mazes, and solves larger mazes with more steps. Data and
networks differ from ours, so the numbers are not comparable.

Sizes:
  (none): a larger network: width 96, MLPs with three hidden layers, 50,000
    updates. We have not trained it.
  cpu: width 48, MLPs with one hidden layer, 3,500 updates. Training took 34
    minutes on one core, shared with other work.
  smoke: 5x5 mazes, half a minute.

Expected result: with `:cpu`, at least 95 % of the 19x19 mazes are solved after
256 steps. rrn/mazes/README.md has our results.
"""

from configs import common


def get_config(arg: str | None = None):
  """Build the config; it has no arguments besides the size."""
  args = common.parse_arg(arg)
  config = common.default_config()
  config.task = 'rrn.mazes'
  config.model.width = 96
  config.model.num_steps = 16
  config.model.mean_steps = 128
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.data.maze_size = 9  # rows and columns of a training maze
  config.evals.every = 1000  # updates
  config.evals.maze_sizes = (9, 13, 19, 29)  # rows and columns of test mazes
  config.evals.max_steps = (128, 256, 512, 512)  # one for each size
  config.evals.num_mazes = 500  # in each set
  config.evals.batch_size = 50
  config.total_steps = 50_000
  config.batch_size = 128
  config.steps_per_call = 50
  common.muon(config, paths='(message|node|lstm)/.*kernel', learning_rate=2e-3)
  config.optim.warmup_steps = 100
  config.optim.ema_decay = 0.999
  if args.size != 'paper':
    _cpu(config)
  if args.size == 'smoke':
    _smoke(config)
  config.report = {
    f'test/size_{size}/steps_{steps}/solved': ''
    for size, steps in zip(
      config.evals.maze_sizes, config.evals.max_steps, strict=True
    )
  }
  return config


def _cpu(config):
  config.model.width = 48
  config.model.num_steps = 8
  config.model.mean_steps = 64
  config.model.message_layers = 1
  config.model.node_layers = 1
  config.total_steps = 3500
  config.batch_size = 32
  config.steps_per_call = 10
  config.optim.learning_rate = 4e-3
  config.optim.ema_decay = 0.99
  config.evals.every = 500
  config.evals.batch_size = 4  # 1.6 times as fast as 50 on CPUs
  config.checkpoint.every = 500
  config.log.every = 50


def _smoke(config):
  config.model.width = 32
  config.data.maze_size = 5
  config.total_steps = 400
  config.steps_per_call = 20
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 200
  config.evals.maze_sizes = (5, 7)
  config.evals.max_steps = (32, 64)
  config.evals.num_mazes = 100
  config.log.every = 20
  config.checkpoint.every = 200
