"""bAbI with a recurrent relational network (Palm et al. 2018, section 3.1).

  uv run main.py --config=configs/rrn/babi.py:cpu --workdir=runs/babi

Sizes:
  (none): the paper's settings: all 20 tasks, 10k questions each, 3 steps, Adam
    2e-4, batch size 512, 5,000,000 updates.
  cpu: our settings for CPUs: one ReLU layer before the network, in its message
    function, and in its node function; Muon; batch size 1024; short stories
    first; later an auxiliary loss of the supporting facts. Training has six
    stages (`STAGES`), which took two hours on one core. Each stage starts from
    the weights of the previous one and draws the unsolved tasks more often.
  smoke: a small network on generated stories like those of task 1, without a
    data file. A run takes one minute, in which the network only learns which
    words are answers.

Expected result: a mean error of 0.46 % and 0.13 failed tasks (the paper's mean
over 15 runs). rrn/babi/README.md has the results of `:cpu`. The paper's
settings and `:cpu` need the data set, see rrn/babi/builder.py.
"""

import dataclasses

from configs import common
from core.errors import UserError

# Old names of settings in the config.json of earlier versions.
RENAMED = {
  'data': {'renaming': 'augmentation'},
  'model': {'pre_layers': 'input_layers'},
}
# Old names of layers in the weights and checkpoints of earlier versions.
RENAMED_LAYERS = {'pre': 'input_mlp'}


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of the training of `:cpu`.

  Attributes:
    total_steps: number of updates with 1024 questions each.
    task_weights: relative frequency of tasks 1 to 20.
    curriculum: (first, last, share): draw this share of the questions, those
      with the fewest facts, until update `first`, and all of them from update
      `last` on. (): always all. See `rrn.babi.task.share_of_questions`.
    schedule: learning-rate schedule.
    augmentation: see `rrn.babi.augmentation`.
    support_loss: see `rrn.babi.model.ModelConfig`.
    init_missing_regex: regex of the parameters that the weights of the previous
      stage lack.
  """

  total_steps: int
  task_weights: tuple[float, ...]
  curriculum: tuple[int, int, float] | tuple[()] = ()
  schedule: str = 'constant'
  augmentation: bool = False
  support_loss: float = 0.0
  init_missing_regex: str = ''


# Some questions, such as those of tasks 17 and 19, need two facts that share a
# word. The network learns to match such facts late in training, but sooner if
# batches have more of these questions. Stage 2 therefore draws tasks 17 and 19
# more often; in our run, the network learned both within about 1,000 updates.
STAGES = {
  1: Stage(
    total_steps=1350,
    task_weights=(0.7, 1.5, 1.5, 0.7, 1, 0.7, 0.7, 1, 0.7, 0.7)
    + (0.7, 0.7, 0.7, 1, 1.5, 1.5, 1.5, 1, 1.5, 0.5),
    curriculum=(200, 2000, 0.15),
  ),
  2: Stage(
    total_steps=1340,
    task_weights=(0.4, 1.5, 1, 0.3, 0.8, 0.5, 0.5, 0.5, 0.4, 0.6)
    + (0.8, 0.4, 0.6, 0.8, 0.4, 3, 3.5, 0.6, 3.5, 0.3),
    curriculum=(0, 700, 0.67),
  ),
  3: Stage(
    total_steps=1800,
    task_weights=(0.3, 3, 0.8, 0.3, 0.8, 0.4, 0.7, 0.9, 0.3, 0.5)
    + (0.4, 0.3, 0.3, 0.4, 0.4, 5, 2, 1.5, 0.8, 0.2),
  ),
  4: Stage(
    total_steps=3000,
    task_weights=(0.5, 2.5, 3, 0.3, 1, 0.5, 0.7, 0.8, 0.4, 0.5)
    + (0.5, 0.4, 0.5, 0.6, 0.8, 4, 1.2, 1, 0.6, 0.3),
    schedule='cosine',
    augmentation=True,
  ),
  # Half of the questions belong to task 16, which needs three facts.
  5: Stage(
    total_steps=2000,
    task_weights=(1,) * 15 + (19,) + (1,) * 4,
    augmentation=True,
    support_loss=1.0,
    init_missing_regex='support_output/.*',
  ),
  6: Stage(
    total_steps=1500,
    task_weights=(0.3, 2, 6, 0.2, 0.6, 0.3, 1, 2.5, 0.3, 0.5)
    + (0.3, 0.3, 0.4, 0.3, 0.3, 1, 1.2, 0.7, 0.5, 0.2),
    schedule='cosine',
    augmentation=True,
    support_loss=1.0,
  ),
}
TABLES = ('ablations',)
SWEEP_STEPS = 600  # updates of each run in a sweep of `:cpu`


def get_config(arg: str | None = None):
  """Build the config.

  Args:
    arg: comma-separated: 'cpu', with `stage=1` to `stage=6` for a single
      stage, or 'smoke'; and the paper's ablations `linear_input` (a linear
      layer replaces the MLP before the network), `no_question_in_facts` (only
      the edges have the question), and `no_dropout`.
  """
  args = _parse(arg)
  config = common.default_config()
  config.task = 'rrn.babi'
  config.model.width = 128
  config.model.sentence_width = 32
  config.model.num_steps = 3
  config.model.input_layers = 3
  config.model.message_layers = 3
  config.model.node_layers = 3
  config.model.question_in_facts = not args.no_question_in_facts
  config.model.dropout = 0.0 if args.no_dropout else 0.5
  config.model.embedding_std = 0.0
  config.model.tied_start = False
  config.model.forget_biases = (1, 1)
  config.model.support_loss = 0.0
  config.model.num_offsets = 20
  config.model.graph_sizes = (20,)
  config.data.source = 'official'  # or 'partial', 'generated'
  config.data.curriculum = ()  # see rrn.babi.task.share_of_questions
  config.data.augmentation = False  # see rrn.babi.augmentation
  config.data.task_weights = ()  # frequencies of the tasks; (): all equal
  config.data.dir = ''  # '': $LEARNED_ALGORITHMS_DATA
  config.evals.every = 10_000  # updates
  config.evals.batch_size = 512
  config.total_steps = 5_000_000
  config.batch_size = 512
  config.steps_per_call = 50
  config.optim.learning_rate = 2e-4
  config.optim.l2 = 1e-5
  config.optim.l2_paths = r'layers/\d+/kernel'  # all but the LSTM kernels
  config.checkpoint.every = 10_000
  # We do not know the paper's numbers for its ablations.
  is_ablated = args.linear_input or args.no_question_in_facts or args.no_dropout
  config.report = {
    'test/steps_3/mean_error': '%' if is_ablated else '0.46 ± 0.77 % (15 runs)',
    'test/steps_3/failed_tasks': '' if is_ablated else '0.13 ± 0.35 (15 runs)',
    'test/steps_2/mean_error': '%',
    'test/steps_1/mean_error': '%',
  } | {f'test/steps_3/error_task_{task}': '%' for task in range(1, 21)}
  if args.size == 'cpu':
    _cpu(config, args.stage or len(STAGES))
  elif args.size == 'smoke':
    _smoke(config)
  if args.linear_input:
    config.model.input_layers = 0
  return config


def stages(arg: str | None = None):
  """Return the stages of `:cpu`; {} if training has only one."""
  args = _parse(arg)
  return {} if args.stage else common.stages(get_config, arg, _num_stages(args))


def sweep(arg: str | None = None):
  """Return the network and its ablations.

  Evaluations report the error after each message passing step.

  In a sweep of `:cpu`, each run has the first `SWEEP_STEPS` updates of stage 1.
  """
  args = _parse(arg)
  if args.stage > 1:
    raise UserError(
      f'config argument stage={args.stage}: a sweep runs stage 1 only; omit it'
    )
  first = ',stage=1' if _num_stages(args) else ''
  names = 'linear_input', 'no_question_in_facts', 'no_dropout'
  choices = {'baseline': ''} | {name: f',{name}' for name in names}
  points = {
    name: get_config(f'{arg or ""}{first}{choice}')
    for name, choice in choices.items()
  }
  if args.size == 'cpu':
    for config in points.values():
      config.total_steps = SWEEP_STEPS
  return points


def _parse(arg):
  args = common.parse_arg(
    arg,
    stage=0,
    linear_input=False,
    no_question_in_facts=False,
    no_dropout=False,
    table=TABLES[0],
  )
  common.check_known('table', args.table, TABLES)
  common.check_stage(args, _num_stages(args))
  return args


def _num_stages(args) -> int:
  return len(STAGES) if args.size == 'cpu' else 0


def _recipe(config):
  """Set what `:cpu` and `:smoke` share."""
  config.model.input_layers = 1
  config.model.message_layers = 1
  config.model.node_layers = 1
  config.model.embedding_std = 1.0
  config.model.tied_start = True
  config.model.forget_biases = (0, 4)
  config.model.graph_sizes = (6, 10, 20)  # because most stories are short
  config.microbatch_size = 16
  common.muon(
    config, paths='(input_mlp|message|node)/.*kernel', learning_rate=4e-3
  )
  config.optim.muon_beta = 0.9
  config.optim.l2 = 0.0
  config.optim.ema_decay = 0.98
  config.log.every = 20
  config.checkpoint.every = 100


def _cpu(config, number):
  stage = STAGES[number]
  _recipe(config)
  if config.model.dropout:
    config.model.dropout = 0.1
  config.data.curriculum = stage.curriculum
  config.data.task_weights = stage.task_weights
  config.data.augmentation = stage.augmentation
  config.model.support_loss = stage.support_loss
  config.init_missing_regex = stage.init_missing_regex
  config.total_steps = stage.total_steps
  config.batch_size = 1024
  config.steps_per_call = 10
  config.optim.schedule = stage.schedule
  config.optim.warmup_steps = 100 if number == 1 else 20
  config.evals.every = 200
  config.evals.batch_size = 64


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
  config.evals.every = 100
  config.evals.batch_size = 100
  config.report = {
    'validation/steps_3/mean_error': '%',
    'validation/steps_1/mean_error': '%',
  }
