"""Delaunay triangulations: order of the output (Vinyals et al. 2016, 5.1.3).

  uv run main.py --config=configs/seq2set/delaunay.py:cpu --workdir=runs/five

Sizes:
  (none)  the Pointer Network of 2015, the baseline of the paper, on 10 points
          and a million sets, which SciPy labels in some minutes. Adam 1e-3 is
          our choice.
  :cpu    5 points, width 128, 500,000 sets, 20,000 updates: 9 minutes.
  :smoke  5 points: seconds.

Arguments:
  num_points  number of points in a set.
  inputs      `random`, or `angle` to sort the points around their mean.
  encoder     `pointer_network`, `read_process_write`, or, from later work,
              `set_transformer` or `deep_sets`.
  outputs     `incentre` for triangles from left to right, or `random`.

Expected accuracy: Pointer Networks report 80.7 % for 5 points with 93.0 % of
the triangles, 22.6 % for 10 with 81.3 %, and 0 % for 50 with 52.8 %. The paper
reports at least 5 points more with a fixed order of the output. `:cpu` reaches
17.7 % for 5 points, 89.8 % with inputs=angle, and 93.9 % with
encoder=set_transformer.
"""

from configs import common
from configs.seq2set import common as shared

# Published Pointer Networks: triangulations, and triangles.
PAPER = {
  5: ('80.7 %', '93.0 %'),
  10: ('22.6 %', '81.3 %'),
  50: ('0 %', '52.8 %'),
}


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
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
  """Vary the encoder, the order of the inputs, and the order of the outputs."""
  points = {}
  for encoder in shared.ENCODERS:
    for inputs in 'random', 'angle':
      for outputs in 'incentre', 'random':
        points[f'{encoder}_inputs_{inputs}_outputs_{outputs}'] = get_config(
          f'{arg or ""},encoder={encoder},inputs={inputs},outputs={outputs}'
        )
  return points
