"""bAbI by a recurrent relational network (Palm et al. 2018, section 3.1).

  uv run main.py --config=configs/rrn/babi.py:cpu --workdir=runs/babi

bare    the paper: all 20 tasks, 10k, 3 steps, Adam 2e-4, batch 512, 5,000,000
        updates.
:cpu    ours, for two CPU cores: one-layer messages, Muon, batch 128, short
        stories first, 24,000 updates; 19,000 took an hour.
:smoke  a small network on generated stories like those of task 1, without a
        file: a minute, in which it learns which words are answers, no more.
Expect: a mean error of 0.46 % and 0.13 failed tasks (paper, mean of 15 runs);
what `:cpu` reaches is in rrn/README.md.
Bare and `:cpu` need the data set, see rrn/babi/builder.py.
"""

from configs import common


def get_config(arg: str | None = None):
  """Builds the config.

  Args:
    arg: 'cpu', 'smoke'; the paper's ablations `linear_pre` (a linear layer for
      the MLP before the network), `no_question_in_facts` (the question is on
      the edges only) and `no_dropout`.
  """
  args = common.parse_arg(
    arg, linear_pre=False, no_question_in_facts=False, no_dropout=False
  )
  config = common.default_config()
  config.task = 'rrn.babi'
  config.model.width = 128
  config.model.sentence_width = 32
  config.model.num_steps = 3
  config.model.pre_layers = 0 if args.linear_pre else 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.question_in_facts = not args.no_question_in_facts
  config.model.dropout = 0.0 if args.no_dropout else 0.5
  config.model.embedding_std = 0.0
  config.model.tied_start = False
  config.model.forget_biases = (1, 1)
  config.model.num_offsets = 20
  config.model.graph_sizes = (20,)
  config.data.source = 'official'  # 'partial' or 'generated'
  config.data.curriculum = ()  # see rrn.babi.task.share_of_questions; (): none
  config.data.task_weights = ()  # how often each is asked; (): all as often
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.evals.every = 10_000  # updates
  config.evals.batch_size = 512
  config.total_steps = 5_000_000
  config.batch_size = 512
  config.steps_per_call = 50
  config.optim.learning_rate = 2e-4
  config.optim.l2 = 1e-5
  config.optim.l2_paths = r'layers/\d+/kernel'  # all but the LSTMs'
  config.checkpoint.every = 10_000
  # The paper's numbers of its ablations are not known to us.
  is_ablated = args.linear_pre or args.no_question_in_facts or args.no_dropout
  config.report = {
    'test/steps_3/mean_error': '' if is_ablated else '0.46 ± 0.77 % (15 runs)',
    'test/steps_3/failed_tasks': '' if is_ablated else '0.13 ± 0.35 (15 runs)',
    'test/steps_2/mean_error': '',
    'test/steps_1/mean_error': '',
  } | {f'test/steps_3/error_task_{task}': '' for task in range(1, 21)}
  if args.size == 'cpu':
    _cpu(config)
  elif args.size == 'smoke':
    _smoke(config)
  return config


def sweep(arg: str | None = None):
  """The network and its ablations; all are also read out at steps 1 and 2."""
  prefix = f'{arg},' if arg else ''
  names = 'linear_pre', 'no_question_in_facts', 'no_dropout'
  ablations = {name: get_config(prefix + name) for name in names}
  return {'baseline': get_config(arg)} | ablations


def _recipe(config):
  """What both small sizes share."""
  config.model.message_layers = 1
  config.model.tied_start = True
  config.model.graph_sizes = (6, 10, 20)  # most stories are short
  config.microbatch = 16
  common.muon(config, paths='(pre|message|node)/.*kernel', learning_rate=3e-3)
  config.optim.l2 = 0.0
  config.optim.warmup_steps = 100


def _cpu(config):
  _recipe(config)
  if config.model.dropout:
    config.model.dropout = 0.1
  config.data.curriculum = (1000, 8000, 0.15)
  config.total_steps = 24_000
  config.batch_size = 128
  config.steps_per_call = 10
  config.optim.ema_decay = 0.999
  config.evals.every = 1000
  config.evals.batch_size = 64
  config.log.every = 50
  config.checkpoint.every = 250


def _smoke(config):
  _recipe(config)
  config.model.width = 32
  config.model.sentence_width = 16
  config.model.graph_sizes = (10, 20)
  config.data.source = 'generated'
  config.total_steps = 400
  config.batch_size = 64
  config.steps_per_call = 20
  config.optim.warmup_steps = 20
  config.optim.ema_decay = 0.98
  config.evals.every = 100
  config.evals.batch_size = 100
  config.log.every = 20
  config.checkpoint.every = 100
  config.report = {
    'validation/steps_3/mean_error': '',
    'validation/steps_1/mean_error': '',
  }
