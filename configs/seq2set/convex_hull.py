"""Convex hulls: order of input and output (Vinyals et al. 2016, 4.1, 5.1.3).

  uv run main.py --config=configs/seq2set/convex_hull.py:cpu --workdir=runs/hull

bare    the Pointer Network of 2015, which the paper starts from, on 50 points;
        a million sets. Adam 1e-3 is ours.
:cpu    10 points, width 128, 500,000 sets, 20,000 updates: 11 minutes.
:smoke  5 points, seconds.
Arguments: `num_points=50`; `inputs=random`, or `angle`: around their mean;
`encoder=pointer_network`, `read_process_write`, or of later work
`set_transformer` or `deep_sets`; `start=lowest`, from the corner of the lowest
index (that of the Pointer Network), `leftmost`, of the smallest x (that of the
others, which see no indices), or `random`, from any corner and either way
round; `distribution=uniform` or `normal`.
Expect: 72.6 % of 50 points by a network trained on 50; by one trained on 5 to
50 points 92.0 % of 5, 87.0 % of 10 and 69.6 % of 50 (Pointer Networks); up to
10 points more by sorted inputs, and 5 or more by a fixed start (the paper).
`:cpu` finds 85.3 % of 10 points, with inputs=angle 93.6 %, and with
encoder=set_transformer 96.5 %.
"""

from configs import common
from configs.seq2set import common as shared

# Of Pointer Networks; those of 5 and 10 were trained on 5 to 50 points.
PAPER = {5: '92.0 %', 10: '87.0 %', 50: '72.6 %'}


def get_config(arg: str | None = None):
  """Builds the config; for its arguments see above."""
  args = common.parse_arg(
    arg,
    num_points=0,
    inputs='random',
    start='',
    encoder='pointer_network',
    distribution='uniform',
  )
  start = args.start or _fixed_start(args.encoder)
  num_points = (
    args.num_points or {'paper': 50, 'cpu': 10, 'smoke': 5}[args.size]
  )
  config = shared.points_config(args, num_points=num_points)
  config.task = 'seq2set.convex_hull'
  config.model.start = start
  config.data.distribution = args.distribution
  is_quoted = args.encoder == 'pointer_network' and args.inputs == 'random'
  is_quoted &= (start, args.distribution) == ('lowest', 'uniform')
  paper = PAPER.get(num_points, '') if is_quoted else ''
  split = 'test' if args.size == 'paper' else 'validation'
  config.report = {
    f'{split}/accuracy': paper,
    f'{split}/area': '',
    f'{split}/simple': '',
  }
  return config


def sweep(arg: str | None = None):
  """Both encoders; inputs sorted and not; its fixed start and a random one."""
  points = {}
  for encoder in shared.ENCODERS:
    for inputs in 'random', 'angle':
      for start in _fixed_start(encoder), 'random':
        points[f'{encoder}_inputs_{inputs}_start_{start}'] = get_config(
          f'{arg or ""},encoder={encoder},inputs={inputs},start={start}'
        )
  return points


def _fixed_start(encoder: str) -> str:
  return 'lowest' if encoder == 'pointer_network' else 'leftmost'
