"""Delaunay triangulations: order of the output (Vinyals et al. 2016, 5.1.3).

  CONFIG=configs/seq2set/delaunay.py
  uv run main.py --config=$CONFIG:cpu,optimizer=muon --workdir=runs/five

Sizes:
  (none)  the Pointer Network of 2015, the baseline of the paper, on a million
          sets of 10 points. SciPy triangulates them in minutes. Adam 1e-3 is
          our choice.
  :cpu    5 points, width 128, 500,000 sets, 20,000 updates. With Adam, this
          took 9 minutes on one core.
  :smoke  5 points: seconds.

Arguments:
  num_points  number of points in a set.
  min_points  sets have min_points to num_points points; 0: all have num_points.
  inputs      `random`, or `angle` to sort the points around their mean.
  encoder     `pointer_network`, `read_process_write`, or, from later work,
              `set_transformer` or `deep_sets`.
  outputs     order of the triangles: `incenter` (left to right) or `random`.
  optimizer   `adam` or `muon`.

Expected accuracy: published Pointer Networks reach 80.7 % for 5 points, 22.6 %
for 10, and 0 % for 50. They find 93.0, 81.3, and 52.8 % of the triangles. The
paper reports at least 5 percentage points more with a fixed order of the
output. For 5 points, `:cpu` with optimizer=muon reaches 68 %, 93 % with
inputs=angle, and 78 % with outputs=random and 36,000 updates. With Adam, the
Pointer Network reaches 18 %, and the Set Transformer (encoder=set_transformer)
94 %. With min_points=5, num_points=10, and encoder=set_transformer, 10,000
updates reach 89.2 % for 5 points and 49.2 % for 10.
"""

from configs import common
from configs.seq2set import common as shared

# Published Pointer Networks: triangulations, and triangles.
PAPER = {
  5: ('80.7 %', '93.0 %'),
  10: ('22.6 %', '81.3 %'),
  50: ('0 %', '52.8 %'),
}

# The tables of --mode=sweep; `table=` selects one.
TABLES = 'orders', 'muon'


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = shared.parse_points(arg, TABLES, outputs='incenter')
  num_points = args.num_points or (10 if args.size == 'paper' else 5)
  config = shared.points_config(args, num_points=num_points, paper=PAPER)
  config.task = 'seq2set.delaunay'
  config.model.outputs = args.outputs
  is_published = (
    args.encoder == 'pointer_network'
    and args.inputs == 'random'
    and args.outputs == 'incenter'
  )
  published = PAPER if is_published else {}
  config.report = {}
  for name, count in shared.reported_sets(config, args.size).items():
    accuracy, coverage = published.get(count, ('%', '%'))
    config.report[f'{name}/accuracy'] = accuracy
    config.report[f'{name}/coverage'] = coverage
  if args.size == 'smoke':
    config.report = common.without_paper(config.report)
  return config


def sweep(arg: str | None = None):
  """Vary the order of the input, the order of the output, and the encoder.

  The table `orders` trains with Adam, and the table `muon` with Muon.
  """
  args = shared.parse_points(arg, TABLES, outputs='incenter')
  optimizer = 'muon' if args.table == 'muon' else 'adam'
  return shared.orders(
    get_config, arg, optimizer=optimizer, random_outputs='outputs=random'
  )
