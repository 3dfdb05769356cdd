"""Delaunay triangulations: order of the output (Vinyals et al. 2016, 5.1.3).

  uv run main.py --config=configs/seq2set/delaunay.py:cpu --workdir=runs/five

bare    the Pointer Network of 2015, which the paper starts from, on 10 points;
        a million sets, which scipy labels at the start: some minutes. Adam
        1e-3 is ours.
:cpu    5 points, width 128, 500,000 sets, 20,000 updates: 9 minutes.
:smoke  5 points, seconds.
Arguments: `num_points`; `inputs=random`, or `angle`: around their mean;
`encoder=pointer_network`, `read_process_write`, or of later work
`set_transformer` or `deep_sets`; `outputs=incentre`, triangles from left to
right, or `random`.
Expect: 80.7 % of 5 points and 93.0 % of their triangles, 22.6 % of 10 and
81.3 %, none of 50 and 52.8 % (Pointer Networks); by a fixed order of the output
5 points more than by a random one, or better (the paper). `:cpu` finds 17.7 %
of 5 points, with inputs=angle 89.8 % and encoder=set_transformer 93.9 %.
"""

from configs import common
from configs.seq2set import common as shared

# Of Pointer Networks: triangulations, and triangles.
PAPER = {
  5: ('80.7 %', '93.0 %'),
  10: ('22.6 %', '81.3 %'),
  50: ('0 %', '52.8 %'),
}


def get_config(arg: str | None = None):
  """Builds the config; for its arguments see above."""
  args = common.parse_arg(
    arg,
    num_points=0,
    inputs='random',
    outputs='incentre',
    encoder='pointer_network',
  )
  num_points = args.num_points or (10 if args.size == 'paper' else 5)
  config = shared.points_config(args, num_points=num_points)
  config.task = 'seq2set.delaunay'
  config.model.outputs = args.outputs
  is_quoted = (args.encoder, args.inputs) == ('pointer_network', 'random')
  is_quoted &= args.outputs == 'incentre'
  paper = PAPER.get(num_points, ('', '')) if is_quoted else ('', '')
  split = 'test' if args.size == 'paper' else 'validation'
  config.report = {
    f'{split}/accuracy': paper[0],
    f'{split}/coverage': paper[1],
  }
  return config


def sweep(arg: str | None = None):
  """Both encoders; inputs sorted and not; outputs sorted and not."""
  points = {}
  for encoder in shared.ENCODERS:
    for inputs in 'random', 'angle':
      for outputs in 'incentre', 'random':
        points[f'{encoder}_inputs_{inputs}_outputs_{outputs}'] = get_config(
          f'{arg or ""},encoder={encoder},inputs={inputs},outputs={outputs}'
        )
  return points
