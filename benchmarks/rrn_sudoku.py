"""Compare training speed on Sudoku: our networks, plain forms, and PyTorch.

  uv run python benchmarks/rrn_sudoku.py
  uv run --with torch==2.13.0 python benchmarks/rrn_sudoku.py --output=out.json

Each contender makes whole updates (forward, backward, optimizer) of the same
model in float32: the paper's network, whose nodes are cells, or ours, whose
nodes are candidates. All contenders for a network take turns, so that other
load on the machine affects all of them. Matrix products, timed in the same
turns, show the peak speed of the machine. First, the script checks that all
contenders have the same logits for the same weights.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import rich.console
import rich.table
from absl import app, flags

# Python adds the folder of the script to sys.path, not the root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import sudoku_plain, timing
from configs.rrn import sudoku
from core import errors, sharding, step
from core.io import atomic_files
from core.run import run_folder
from rrn.sudoku import data, model, task

try:
  import torch

  from benchmarks import torch_twins
except ModuleNotFoundError:
  torch = None

TOLERANCE = 1e-4  # of logits, because float32 sums depend on their order
SQUARE = 2048  # side of the large product
SKINNY_REPEATS = 16  # a single small product is too short to be timed
# Network -> for each contender: its name, whether it is the plain form, whether
# it uses micro-batches, and the number of message layers (cells only).
PROGRAMS = {
  'cells': (
    ('plain form', True, False, 3),
    ('plain form, micro-batches', True, True, 3),
    ('ours', False, True, 3),
    ('ours, 1 layer', False, True, 1),
  ),
  'candidates': (
    ('plain form', True, False, 1),
    ('plain form, micro-batches', True, True, 1),
    ('ours', False, True, 1),
  ),
}
MICROBATCH = {'cells': 1, 'candidates': 2}  # the fastest on CPUs

Contender = tuple[Callable[[], Any], float]  # a call, and its operation count


def make_contenders(config, boards) -> dict[str, Contender]:
  """Build all contenders, and check that their logits are equal to ours.

  Args:
    config: the config of training, with the micro-batch size of the contenders
      that use micro-batches.
    boards: 'puzzle' and 'solution', int [B, N].
  """
  mesh = sharding.make_mesh(config.mesh)
  contenders, programs = {}, {}
  for name, is_plain, is_split, layers in PROGRAMS[config.model.network]:
    settings = config.copy_and_resolve_references()
    settings.model.message_layers = layers
    settings.microbatch_size = config.microbatch_size if is_split else 0
    made = (sudoku_plain.PlainTask if is_plain else task.SudokuTask)(settings)
    programs[name] = step.make_program(made, settings, mesh)
    flops = sudoku_plain.count_flops(made.model_config, is_plain=is_plain)
    update = make_update(programs[name], boards)
    contenders[name] = update, config.batch_size * flops
  params = _perturb(programs['ours'].init().params)
  logits = {
    name: programs[name].merge(params)(
      boards['puzzle'], num_steps=config.model.num_steps
    )
    for name in ('ours', 'plain form')
  }
  if torch is None or jax.default_backend() != 'cpu':
    print('skipping PyTorch: it is not installed, or the device is not a CPU')
  else:
    twins, their_logits = make_twins(config, params, boards)
    is_plain = config.model.network == 'cells'
    flops = contenders['plain form' if is_plain else 'ours'][1]
    contenders |= {name: (twin.update, flops) for name, twin in twins.items()}
    logits |= their_logits
  _check_equal(logits)
  return contenders


def make_twins(config, params, boards, *, compiler=None):
  """Build the PyTorch contenders.

  Args:
    config, boards: see `make_contenders`.
    params: parameters of the network, as nested dicts of arrays.
    compiler: compiles a step of the network on candidates. None selects
      `torch.compile` for fixed shapes.

  Returns:
    Name -> twin, and name -> its logits for the boards that it takes at once.
  """
  on_devices = config.microbatch_size * jax.device_count() or config.batch_size
  sizes = {'': config.batch_size}
  sizes[', micro-batches'] = min(on_devices, config.batch_size)
  options = {'num_steps': config.model.num_steps}
  kinds = {'PyTorch eager': {}}
  make = torch_twins.CellsTwin
  if config.model.network == 'candidates':
    make = torch_twins.CandidatesTwin
    options['groups'] = sudoku_plain.make_groups(
      model.ModelConfig(**config.model)
    )
    compiler = compiler or functools.partial(
      torch.compile, dynamic=False, fullgraph=True
    )
    kinds['PyTorch compiled'] = {'compiler': compiler}
  twins, logits = {}, {}
  for kind, choice in kinds.items():
    for suffix, at_once in sizes.items():
      twin = make(params, boards, at_once=at_once, **options, **choice)
      try:
        values = twin.logits(twin.puzzles[:at_once]).detach().numpy()
      except Exception as error:  # a compiler can raise any error
        if not choice:
          raise
        print(f'skipping {kind}: {errors.one_line(error)}')
        break
      twins[kind + suffix], logits[kind + suffix] = twin, values
  return twins, logits


def make_update(program: step.Program, boards) -> Callable[[], None]:
  """Return a function that makes one update and waits for it."""
  state = program.init()

  def update():
    nonlocal state
    state, *_ = jax.block_until_ready(program.update(state, boards))

  return update


def _perturb(params):
  """Add noise, because initial biases are 0, which would hide errors."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return structure.unflatten(
    leaf + 0.02 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  )


def _check_equal(logits):
  """Raise ArithmeticError if any logits differ from ours."""
  ours = logits.pop('ours')
  for name, others in logits.items():
    difference = np.abs(others - ours[:, : others.shape[1]]).max()
    if not difference < TOLERANCE:
      raise ArithmeticError(f'{name}: logits differ by {difference} from ours')
    print(f'{name}: logits are equal to ours within {difference:.0e}')


def make_products(config, at_once: int) -> dict[str, Contender]:
  """Return products of float32 matrices, with rows split over all devices.

  The first is a large square product. The second has the size of the largest
  layer of the network for `at_once` boards: a row for each edge between cells,
  or for each candidate.
  """
  mesh = sharding.make_mesh(config.mesh)
  side = SQUARE - SQUARE % mesh.size
  num_rows, width = data.neighbors(3, 3).size, config.model.width
  if config.model.network == 'candidates':
    num_rows, width = 9**3, config.model.hidden_width
  products = {}
  for rows, columns, repeats in (
    (side, side, 1),
    (at_once * num_rows, width, SKINNY_REPEATS),
  ):
    left = jax.random.normal(jax.random.key(0), (rows, columns))
    left = jax.device_put(left, sharding.batch_sharding(mesh))
    right = jax.random.normal(jax.random.key(1), (columns, columns))
    # The scale keeps repeated products from growing.
    right = jax.device_put(right / columns**0.5, sharding.replicated(mesh))

    @jax.jit
    def multiply(left, right, repeats=repeats):
      return jax.lax.fori_loop(0, repeats, lambda _, x: x @ right, left)

    def call(multiply=multiply, left=left, right=right):
      jax.block_until_ready(multiply(left, right))

    name = f'{rows} x {columns} x {columns}'
    products[name] = call, 2 * rows * columns**2 * repeats
  return products


def benchmark(
  network: str,
  *,
  batch_size: int,
  num_steps: int | None,
  microbatch_size: int | None,
  rounds: int,
) -> tuple[dict[str, int], dict[str, dict]]:
  """Measure all contenders for a network, and products.

  Args:
    network: a key of `PROGRAMS`.
    batch_size: number of boards in an update.
    num_steps: number of message passing steps. None selects that of `:cpu`.
    microbatch_size: number of boards that a device takes at once, 0 for all.
      None selects the fastest on CPUs, and 0 on other devices.
    rounds: number of turns of each contender.

  Returns:
    The sizes, and name -> result: the 'seconds' of every call, their 'median'
    and 'best', and the counted 'gflop'; from the median, 'gflop_per_second',
    its 'share' of the fastest product's, and for contenders,
    'board_steps_per_second'.

  Raises:
    UserError: the sizes do not divide each other.
  """
  config = sudoku.get_config(f'cpu,source=generated,network={network}')
  if microbatch_size is None:
    microbatch_size = MICROBATCH[network] * (jax.default_backend() == 'cpu')
  config.batch_size = batch_size
  config.microbatch_size = microbatch_size
  config.model.num_steps = num_steps = num_steps or config.model.num_steps
  config.model.burn_in, config.steps_per_call = 0, 1
  rng = np.random.default_rng(0)
  solutions = rng.integers(1, 10, (batch_size, 81))  # timing needs no real ones
  puzzles = np.where(rng.random(solutions.shape) < 0.3, solutions, 0)
  boards = {'puzzle': puzzles, 'solution': solutions}
  at_once = min(microbatch_size * jax.device_count() or batch_size, batch_size)
  contenders = make_contenders(config, boards)
  products = make_products(config, at_once)
  results = _time(contenders, products, rounds)
  for name in contenders:
    rate = batch_size * num_steps / results[name]['median']
    results[name]['board_steps_per_second'] = rate
  sizes = {
    'batch_size': batch_size,
    'num_steps': num_steps,
    'microbatch_size': microbatch_size,
    'rounds': rounds,
  }
  return sizes, results


def _time(
  contenders: Mapping[str, Contender],
  products: Mapping[str, Contender],
  rounds: int,
) -> dict[str, dict]:
  """Time contenders and products in turns; see `benchmark` for the results."""
  calls, flops, results = {}, {}, {}
  for name, (call, count) in {**contenders, **products}.items():
    calls[name], flops[name] = call, count
  for name, seconds in timing.measure(calls, rounds).items():
    gflop, median = flops[name] / 1e9, timing.median(seconds)
    results[name] = {
      'seconds': seconds,
      'median': median,
      'best': min(seconds),
      'gflop': gflop,
      'gflop_per_second': gflop / median,
    }
  fastest = max(results[name]['gflop_per_second'] for name in products)
  for result in results.values():
    result['share'] = result['gflop_per_second'] / fastest
  return results


def print_table(title: str, results: Mapping[str, Mapping]):
  """Print a row for each result; 'plain form' must be among them."""
  options = {'box': None, 'collapse_padding': True, 'pad_edge': False}
  table = rich.table.Table('', title=title, **options)  # 80 columns wide
  columns = 'steps/s|x plain|median ms|best ms|GFLOP|GFLOP/s|share'
  for column in columns.split('|'):
    table.add_column(column, justify='right')
  plain_rate = results['plain form']['board_steps_per_second']
  for name, result in results.items():
    rate = result.get('board_steps_per_second')
    table.add_row(
      name,
      f'{rate:.0f}' if rate else '',
      f'{rate / plain_rate:.2f}' if rate else '',
      f'{1e3 * result["median"]:.0f}',
      f'{1e3 * result["best"]:.0f}',
      f'{result["gflop"]:.1f}',
      f'{result["gflop_per_second"]:.1f}',
      f'{result["share"]:.0%}',
    )
  rich.console.Console().print(table)


def main(_):
  """Measure, print a table per network, and write JSON if --output is set."""
  args = flags.FLAGS
  path = timing.start(args.output, args.batch_size)
  runs = {}
  for network in PROGRAMS if args.network == 'all' else [args.network]:
    names = 'batch_size', 'num_steps', 'microbatch_size', 'rounds'
    sizes, results = benchmark(network, **{n: args[n].value for n in names})
    title = ', '.join(f'{name} {size}' for name, size in sizes.items())
    print_table(f'{network}: {title}, {jax.device_count()} devices', results)
    runs[network] = sizes | {'results': results}
  if args.output:
    versions = run_folder.versions() | {'torch': torch and torch.__version__}
    atomic_files.write_json(path, versions | runs)


if __name__ == '__main__':
  # Defined here, so that a test can import benchmarks with equal flag names.
  flags.DEFINE_enum('network', 'all', ['all', *PROGRAMS], 'Network to measure.')
  flags.DEFINE_integer('batch_size', 32, 'Boards per update.', 1)
  flags.DEFINE_integer(
    'num_steps', None, 'Message passing steps. Default: as in :cpu.', 1
  )
  flags.DEFINE_integer('rounds', 5, 'Turns of each contender.', 1)
  flags.DEFINE_integer(
    'microbatch_size',
    None,
    'Boards per device at once; 0: all. Default: 1 (cells) or 2 (candidates)'
    ' on CPUs, else 0.',
    lower_bound=0,
  )
  flags.DEFINE_string('output', None, 'JSON file to write.')
  app.run(timing.guarded(main))
