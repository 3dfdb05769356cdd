"""How fast the Sudoku network trains on a CPU: ours, its plain form, PyTorch.

  uv run python benchmarks/rrn_sudoku.py
  uv run --with torch==2.13.0 python benchmarks/rrn_sudoku.py --output=out.json

Each contender makes whole updates (forward, backward, optimiser) of the same
model in float32; all take turns, so that what else the machine does hits each
of them. Products of matrices in the same turns say what the machine can do.
First, each contender's logits are compared with ours on the same weights.
"""

import pathlib
import sys
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags

# A script's own folder, not the one it was started in, is where Python looks.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import timing
from configs.rrn import sudoku
from core import runtime, sharding, step, storage
from rrn import plain
from rrn.sudoku import data, model, task

try:
  import torch
  import torch.nn.functional as F
except ImportError:
  torch = None

TOLERANCE = 1e-4  # of logits: other orders of the same float32 sums
SQUARE = 2048  # side of the large product
SKINNY_REPEATS = 16  # a single one is too short to be timed

Contender = tuple[Callable[[], None], float]  # a call, and its operations


class PlainNetwork(model.SudokuNetwork):
  """The same parameters, in the form of the paper's equations."""

  def __call__(self, puzzles, *, num_steps, burn_in=0):
    """Returns the logits of every step."""
    assert not burn_in  # the plain form has none
    row, column = np.divmod(np.arange(puzzles.shape[1]), 9)
    position = jnp.concatenate(
      [self.row_embedding[row], self.column_embedding[column]], -1
    )
    position = jnp.broadcast_to(position, (*puzzles.shape, position.shape[-1]))
    digits = self.digit_embedding[puzzles]
    inputs = self.pre(jnp.concatenate([digits, position], -1))
    states = plain.pass_messages(
      self.network, inputs, self.graph, num_steps=num_steps
    )
    return self.output(states)


class PlainTask(task.SudokuTask):
  """The task with the plain network."""

  def make_model(self, rngs):
    """Builds the network."""
    return PlainNetwork(self.model_config, dtype=self.dtype, rngs=rngs)


class TorchTwin:
  """The plain form in eager PyTorch, with an optimiser of its own.

  Args:
    params: of the network, as nested dicts of arrays.
    boards: the batch of every update, 'puzzle' and 'solution', int [B, N].
    num_steps: message passing steps.
    at_once: boards in one forward and backward pass.
  """

  def __init__(self, params, boards, *, num_steps: int, at_once: int):
    self.params = jax.tree.map(
      lambda x: torch.tensor(np.asarray(x), requires_grad=True), params
    )
    self.optimizer = torch.optim.AdamW(jax.tree.leaves(self.params))
    self.senders = torch.tensor(data.neighbours(3, 3), dtype=torch.int64)
    self.num_steps = num_steps
    self.puzzles = torch.tensor(boards['puzzle'])
    self.solutions = torch.tensor(boards['solution'])
    self.at_once = at_once

  def update(self):
    """Makes one update on the whole batch."""
    self.optimizer.zero_grad()
    part = self.at_once / len(self.puzzles)
    for puzzles, solutions in zip(
      self.puzzles.split(self.at_once),
      self.solutions.split(self.at_once),
      strict=True,
    ):
      logits = self.logits(puzzles).flatten(0, -2)
      targets = solutions.flatten().repeat(self.num_steps)
      (part * F.cross_entropy(logits, targets)).backward()
    self.optimizer.step()

  def logits(self, puzzles):
    """Returns the logits [T, B, N, K] of every step."""
    params = self.params
    cells = torch.arange(puzzles.shape[1])
    rows = params['row_embedding'][cells // 9]
    columns = params['column_embedding'][cells % 9]
    position = torch.cat([rows, columns], -1).expand(len(puzzles), -1, -1)
    digits = params['digit_embedding'][puzzles]
    inputs = self._mlp(params['pre'], torch.cat([digits, position], -1))
    network = params['network']
    state, hidden, cell = inputs, *torch.zeros(2, *inputs.shape)
    outputs = []
    for _ in range(self.num_steps):
      sender = state[:, self.senders]
      receiver = state[:, :, None].expand(sender.shape)
      edges = torch.cat([sender, receiver], -1)
      messages = self._mlp(network['message'], edges).sum(2)
      update = self._mlp(network['node'], torch.cat([messages, inputs], -1))
      gates = self._linear(network['lstm'], torch.cat([update, hidden], -1))
      write, candidate, forget, read = gates.chunk(4, -1)
      cell = torch.sigmoid(forget + 1) * cell
      cell = cell + torch.sigmoid(write) * torch.tanh(candidate)
      state = hidden = torch.sigmoid(read) * torch.tanh(cell)
      outputs.append(self._linear(params['output'], state))
    return torch.stack(outputs)

  def _mlp(self, params, x):
    *hidden, last = (layer for _, layer in sorted(params['layers'].items()))
    for layer in hidden:
      x = F.relu(self._linear(layer, x))
    return self._linear(last, x)

  @staticmethod
  def _linear(layer, x):
    return F.linear(x, layer['kernel'].T, layer['bias'])


def count_flops(config: model.ModelConfig, *, is_plain: bool) -> int:
  """Operations of the matrix products in forward and backward on one board.

  A multiplication with its addition counts as two. The backward pass has two
  products for each of the forward's: one for the inputs' gradient, one for the
  kernel's. Left out: what is not a matrix product; the digits' embedding; the
  products of two kernels, which are shared by all boards.
  """
  neighbours = data.neighbours(config.box_height, config.box_width)
  num_nodes, degree = neighbours.shape
  width, side = config.width, config.box_height * config.box_width
  square = width**2
  before = 3 * config.embedding_width * width + config.pre_layers * square
  if is_plain:
    messages = degree * (config.message_layers + 2) * square
    node = (config.node_layers + 2) * square
  else:
    before += square  # the part of the node function that is the same each step
    messages = (2 + degree * (config.message_layers - 1)) * square
    node = config.node_layers * square
  each_step = messages + node + 8 * square + width * (side + 1)
  return 3 * 2 * num_nodes * (before + config.num_steps * each_step)


def make_contenders(config, boards) -> dict[str, Contender]:
  """Builds all contenders, after a comparison of their logits with ours.

  Args:
    config: of the recipe, with the micro-batch of those that have one.
    boards: 'puzzle' and 'solution', int [B, N].
  """
  mesh = sharding.make_mesh(config.mesh)
  contenders, programs = {}, {}
  for name, make_task, message_layers, is_split in (
    ('plain form', PlainTask, 3, False),
    ('plain form, micro-batches', PlainTask, 3, True),
    ('ours', task.SudokuTask, 3, True),
    ('ours, 1 layer', task.SudokuTask, 1, True),
  ):
    settings = config.copy_and_resolve_references()
    settings.model.message_layers = message_layers
    settings.microbatch = config.microbatch if is_split else 0
    made = make_task(settings)
    programs[name] = step.make_program(made, settings, mesh)
    flops = count_flops(made.model_config, is_plain=make_task is PlainTask)
    update = make_update(programs[name], boards)
    contenders[name] = update, config.batch_size * flops
  params = _with_biases(programs['ours'].init().params)
  puzzles, num_steps = boards['puzzle'][:2], config.model.num_steps
  logits = {
    name: programs[name].merge(params)(puzzles, num_steps=num_steps)
    for name in ('ours', 'plain form')
  }
  if torch is None or jax.default_backend() != 'cpu':
    print('PyTorch is left out: it is not installed, or this is no CPU')
  else:
    on_devices = config.microbatch * jax.device_count() or config.batch_size
    for name, at_once in (
      ('PyTorch eager', config.batch_size),
      ('PyTorch eager, micro-batches', min(on_devices, config.batch_size)),
    ):
      twin = TorchTwin(params, boards, num_steps=num_steps, at_once=at_once)
      contenders[name] = twin.update, contenders['plain form'][1]
    with torch.no_grad():
      logits['PyTorch eager'] = twin.logits(torch.tensor(puzzles)).numpy()
  _check_equal(logits)
  return contenders


def make_update(program: step.Program, boards) -> Callable[[], None]:
  """A call that makes one update and waits for it."""
  state = program.init()

  def update():
    nonlocal state
    state, *_ = jax.block_until_ready(program.update(state, boards))

  return update


def _with_biases(params):
  """Adds noise: biases start at 0, which would hide what becomes of them."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return structure.unflatten(
    leaf + 0.02 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  )


def _check_equal(logits):
  ours = logits.pop('ours')
  for name, others in logits.items():
    difference = np.abs(others - ours).max()
    if not difference < TOLERANCE:
      raise ArithmeticError(f'{name}: logits differ by {difference} from ours')
    print(f'{name}: logits as ours, to {difference:.0e}')


def make_products(config, at_once: int) -> dict[str, Contender]:
  """Products of float32 matrices, the rows split over all devices.

  The second is a layer of the message function in the plain form: a row for
  each edge of the boards that are in work at once.
  """
  mesh = sharding.make_mesh(config.mesh)
  side = SQUARE - SQUARE % mesh.size
  num_edges, width = data.neighbours(3, 3).size, config.model.width
  products = {}
  for rows, columns, repeats in (
    (side, side, 1),
    (at_once * num_edges, width, SKINNY_REPEATS),
  ):
    left = jax.random.normal(jax.random.key(0), (rows, columns))
    left = jax.device_put(left, sharding.batch_sharding(mesh))
    right = jax.random.normal(jax.random.key(1), (columns, columns))
    # Scaled, so that repeated products stay of one size.
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
  batch_size: int, num_steps: int, microbatch: int, rounds: int
) -> dict[str, dict]:
  """Measures all contenders and products.

  Returns:
    By name: 'seconds' of every call, their 'median' and 'best', its counted
    'gflop'; and by the median 'gflop_per_second', the 'share' that this is of
    the fastest product's, and 'puzzles_per_second' (not of products).

  Raises:
    UserError: sizes that do not divide.
  """
  config = sudoku.get_config('cpu,source=generated')  # no file is read
  config.batch_size, config.microbatch = batch_size, microbatch
  config.model.num_steps, config.steps_per_call = num_steps, 1
  config.model.burn_in = 0
  rng = np.random.default_rng(0)
  solutions = rng.integers(1, 10, (batch_size, 81))  # any digits cost the same
  puzzles = np.where(rng.random(solutions.shape) < 0.3, solutions, 0)
  boards = {'puzzle': puzzles, 'solution': solutions}
  at_once = min(microbatch * jax.device_count() or batch_size, batch_size)
  contenders = make_contenders(config, boards)
  products = make_products(config, at_once)
  calls, results = contenders | products, {}
  timed = {name: call for name, (call, _) in calls.items()}
  for name, seconds in timing.measure(timed, rounds).items():
    gflop, median = calls[name][1] / 1e9, timing.median(seconds)
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
  for name in contenders:
    results[name]['puzzles_per_second'] = batch_size / results[name]['median']
  return results


def print_table(title: str, results: Mapping[str, Mapping]):
  """Prints a row for each result, whose first is the plain form."""
  options = {'box': None, 'collapse_padding': True, 'pad_edge': False}
  table = rich.table.Table('', title=title, **options)  # 80 columns wide
  columns = 'puzzles/s|x plain|median ms|best ms|GFLOP|GFLOP/s|share'
  for column in columns.split('|'):
    table.add_column(column, justify='right')
  plain_rate = results['plain form']['puzzles_per_second']
  for name, result in results.items():
    rate = result.get('puzzles_per_second')
    table.add_row(
      name,
      f'{rate:.1f}' if rate else '',
      f'{rate / plain_rate:.2f}' if rate else '',
      f'{1e3 * result["median"]:.0f}',
      f'{1e3 * result["best"]:.0f}',
      f'{result["gflop"]:.1f}',
      f'{result["gflop_per_second"]:.1f}',
      f'{result["share"]:.0%}',
    )
  rich.console.Console().print(table)


def main(_):
  """Measures, prints a table, and writes JSON where --output says so."""
  args = flags.FLAGS
  path = timing.start(args.output, args.batch_size)
  if args.microbatch is None:
    args.microbatch = 1 if jax.default_backend() == 'cpu' else 0
  names = 'batch_size', 'num_steps', 'microbatch', 'rounds'
  sizes = {name: args[name].value for name in names}
  results = benchmark(**sizes)
  title = ', '.join(f'{name} {size}' for name, size in sizes.items())
  print_table(f'{title}, {jax.device_count()} devices', results)
  if args.output:
    run = runtime.versions() | {'torch': torch and torch.__version__} | sizes
    storage.write_json(path, run | {'results': results})


if __name__ == '__main__':
  # Here, so that a test may import several benchmarks with flags alike.
  flags.DEFINE_integer('batch_size', 32, 'Boards an update.', 1)
  flags.DEFINE_integer('num_steps', 16, 'Message passing steps.', 1)
  flags.DEFINE_integer('rounds', 5, 'Turns of each contender.', 1)
  flags.DEFINE_integer(
    'microbatch',
    None,
    'Boards at once on a device; 0: all. Default: 1 on CPUs, else 0.',
    lower_bound=0,
  )
  flags.DEFINE_string('output', None, 'The JSON file to write.')
  app.run(timing.guarded(main))
