"""Shortest tours: order of the output (Vinyals et al. 2016, 5.1.3).

  uv run main.py --config=configs/seq2set/tsp.py:cpu --workdir=runs/tours

Sizes:
  (none)  the Pointer Network of 2015, the baseline of the paper, on a million
          sets of 10 points. The tours take a minute or two to compute. Adam
          with learning rate 1e-3 is our choice.
  :cpu    10 points, width 128, 500,000 sets, 20,000 updates.
  :smoke  5 points: seconds.

Arguments:
  num_points  number of points in a set. Tours of more than 10 points are
              computed once and cached. A tour of 20 points takes about 2 ms on
              one core. Tours of more than 12 points may not be optimal.
  min_points  sets have min_points to num_points points; 0: all have num_points.
  inputs      `random`, or `angle` to sort the points around their mean.
  optimizer   `adam` or `muon`.
  encoder     `pointer_network`, `read_process_write`, or, from later work,
              `set_transformer` or `deep_sets`.
  outputs     first point and direction of a tour: `fixed` (counterclockwise
              from the lowest index or, for encoders that do not see indices,
              from the leftmost point) or `random`.
  table       the runs of --mode=sweep: `orders`, or `set_transformer`.

seq2set/tsp/README.md has our results. Published Pointer Networks reach a mean
length of 2.12 for 5 points, 2.88 for 10, and 3.88 for 20. The lengths of the
shortest tours are 2.12, 2.87, and 3.83. We quote these numbers from a secondary
source. The paper reports at least 5 percentage points more accuracy with a
fixed order of the output.
"""

from configs import common
from configs.seq2set import common as shared

# Mean lengths of the tours of published Pointer Networks, and of the shortest.
PAPER = {5: ('2.12', '2.12'), 10: ('2.88', '2.87'), 20: ('3.88', '3.83')}

# The tables of --mode=sweep; `table=` selects one.
TABLES = 'orders', 'set_transformer'


def get_config(arg: str | None = None):
  """Build the config; the module docstring lists the arguments."""
  args = shared.parse_points(arg, TABLES, outputs='fixed')
  num_points = args.num_points or (5 if args.size == 'smoke' else 10)
  config = shared.points_config(args, num_points=num_points, paper=PAPER)
  config.task = 'seq2set.tsp'
  config.model.outputs = args.outputs
  is_published = (
    args.encoder == 'pointer_network'
    and args.inputs == 'random'
    and args.outputs == 'fixed'
  )
  config.report = {}
  for name, count in shared.reported_sets(config, args.size).items():
    length, optimal_length = PAPER.get(count, ('', ''))
    config.report[f'{name}/accuracy'] = '%'
    config.report[f'{name}/valid'] = '%'
    config.report[f'{name}/length'] = length if is_published else ''
    config.report[f'{name}/optimal_length'] = optimal_length
    config.report[f'{name}/excess'] = '%'
  if args.size == 'smoke':
    config.report = common.without_paper(config.report)
  return config


def sweep(arg: str | None = None):
  """Vary the number of points and the order of the outputs.

  The table `orders` has the Pointer Network, and the other table has the Set
  Transformer.
  """
  common.check_not_varied(arg, ('encoder', 'num_points', 'outputs'))
  sizes, encoder = (5, 10, 20), 'pointer_network'
  if shared.parse_points(arg, TABLES, outputs='fixed').table != 'orders':
    sizes, encoder = (5, 10), 'set_transformer'
  return {
    f'{num_points}_points_outputs_{outputs}': get_config(
      f'{arg or ""},encoder={encoder},num_points={num_points},outputs={outputs}'
    )
    for num_points in sizes
    for outputs in ('fixed', 'random')
  }
