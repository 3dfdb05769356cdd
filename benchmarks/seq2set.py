"""Read, Process and Write: the Process block, and whole updates that sort.

  uv run python benchmarks/seq2set.py
  uv run --with torch==2.13.0 --with torch_geometric==2.8.1 \
    python benchmarks/seq2set.py --output=out.json

The script times the Process block, forward and backward, and whole updates. The
contenders are ours (`seq2set/read_process_write.py`), its plain form, which
attends step by step, the plain form in eager PyTorch, and for the block,
`Set2Set` of PyTorch Geometric. All use the same weights and take turns. First,
the script checks that their outputs and the gradients of the memories agree.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from flax import nnx

# Python adds the folder of the script to sys.path, not the root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import timing
from configs.seq2set import sorting
from core import sharding, step
from core.io import atomic_files
from core.run import run_folder
from seq2set import read_process_write as rpw
from seq2set.attention import attend
from seq2set.sorting import task

try:
  import torch
  import torch.nn.functional as F
except ImportError:
  torch = None
try:
  import torch_geometric
  from torch_geometric.nn import aggr
except ImportError:
  torch_geometric = None

TOLERANCE = 1e-4  # of outputs, because float32 sums depend on their order
REPEATS = 10  # calls in a turn, because training makes many updates at once

Calls = dict[str, Callable[[], None]]


class PlainNetwork(rpw.SetToSequence):
  """The network with the same parameters, as the paper writes its equations."""

  def __call__(self, elements, targets, mask=None):
    """Return the logits [B, T, N] of each output, computed one by one."""
    assert mask is None
    memories = self.read(elements)
    summary = plain_process(self.process, memories, self.num_process_steps)
    start = jnp.split(jnp.tanh(self.start(summary)), 2, -1)
    write = self.write

    def point(attention, state):
      return attention(attention.keys(memories), state[:, None])

    def output(carry, target):
      x, hidden, cell = carry
      hidden, cell = lstm_step(write.lstm, x, hidden, cell)
      state = hidden
      for glimpse in write.glimpses:
        state += attend(point(glimpse, state), memories, None)[:, 0]
      x = memories[jnp.arange(len(memories)), target]
      return (x, hidden, cell), point(write.pointer, state)[:, 0]

    first = jnp.broadcast_to(write.first[...], start[0].shape)
    _, logits = jax.lax.scan(output, (first, *start), targets.T)
    return logits.swapaxes(0, 1)


def plain_process(process: rpw.Process, memories, num_steps: int):
  """Return q* [B, 2 D] of memories [B, N, D] by eqs. 3-7."""

  def step(carry, _):
    summary, cell = carry
    gates = summary @ process.lstm.kernel[...] + process.lstm.bias[...][None]
    state, cell = process.lstm.update(gates, cell)
    scores = process.attention(process.attention.keys(memories), state[:, None])
    reading = attend(scores, memories, None)[:, 0]
    return (jnp.concatenate([state, reading], -1), cell), None

  cell = jnp.zeros_like(memories[:, 0])
  start = jnp.concatenate([cell, cell], -1), cell
  return jax.lax.scan(step, start, length=num_steps)[0][0]


def lstm_step(lstm, x, hidden, cell):
  """Return the state after one LSTM step; all arrays are [B, D]."""
  gates = jnp.concatenate([x, hidden], -1) @ lstm.kernel[...]
  return lstm.update(gates + lstm.bias[...][None], cell)


class PlainTask(task.SortingTask):
  """The task with the plain network."""

  def make_model(self, rngs):
    """Build the network."""
    sizes = dict(vars(self.model_config))
    decoder, outputs = sizes.pop('decoder'), sizes.pop('outputs')
    assert decoder == 'write' and outputs == 'indices'
    return PlainNetwork(1, **sizes, rngs=rngs)


class TorchTwin:
  """The plain form in eager PyTorch, with its own optimizer.

  Args:
    params: parameters of the network, as nested dicts of arrays.
    batch: 'elements' [B, N, 1] and 'order', int [B, N], of every update.
    config: the config of training.
  """

  def __init__(self, params, batch, config):
    self.params = jax.tree.map(
      lambda x: torch.tensor(np.asarray(x), requires_grad=True), params
    )
    self.leaves = jax.tree.leaves(self.params)
    self.optimizer = torch.optim.Adam(self.leaves, config.optim.learning_rate)
    self.clip_norm = config.optim.clip_norm
    self.num_process_steps = config.model.num_process_steps
    self.elements = torch.tensor(np.asarray(batch['elements']))
    self.order = torch.tensor(np.asarray(batch['order']), dtype=torch.int64)

  def update(self):
    """Make one update."""
    self.optimizer.zero_grad()
    losses = F.cross_entropy(
      self.logits().flatten(0, 1), self.order.flatten(), reduction='sum'
    )
    (losses / len(self.order)).backward()
    torch.nn.utils.clip_grad_norm_(self.leaves, self.clip_norm)
    self.optimizer.step()

  def logits(self):
    """Return the logits [B, T, N] of each output, computed one by one."""
    layers, write = self.params['read']['layers'], self.params['write']
    memories = F.relu(self._linear(layers[0], self.elements))
    memories = self._linear(layers[1], memories)
    summary = self.process(memories)
    start = torch.tanh(self._linear(self.params['start'], summary))
    hidden, cell = start.chunk(2, -1)
    glimpses = [write['glimpses'][key] for key in sorted(write['glimpses'])]
    attentions = [*glimpses, write['pointer']]
    keys = [self._linear(each['memory'], memories) for each in attentions]
    x = write['first'].expand(hidden.shape)
    sets, outputs = torch.arange(len(memories)), []
    for target in self.order.T:
      x = torch.cat([x, hidden], -1)
      hidden, cell = self._lstm(write['lstm'], x, cell)
      state = hidden
      for glimpse, key in zip(glimpses, keys[:-1], strict=True):
        weights = self._scores(glimpse, key, state).softmax(-1)
        state = state + torch.einsum('bn,bnd->bd', weights, memories)
      outputs.append(self._scores(write['pointer'], keys[-1], state))
      x = memories[sets, target]
    return torch.stack(outputs, 1)

  def process(self, memories):
    """Return q* [B, 2 D] of memories [B, N, D]."""
    cell = torch.zeros_like(memories[:, 0])
    summary = torch.cat([cell, cell], -1)
    for _ in range(self.num_process_steps):
      state, cell = self._lstm(self.params['process']['lstm'], summary, cell)
      weights = torch.einsum('bnd,bd->bn', memories, state).softmax(-1)
      reading = torch.einsum('bn,bnd->bd', weights, memories)
      summary = torch.cat([state, reading], -1)
    return summary

  @staticmethod
  def _scores(attention, keys, state):
    query = state @ attention['query']['kernel']
    both = torch.tanh(keys + query[:, None])
    return (both @ attention['score']['kernel'])[..., 0]

  @classmethod
  def _lstm(cls, lstm, x, cell):
    write, candidate, forget, read = cls._linear(lstm, x).chunk(4, -1)
    cell = torch.sigmoid(forget + 1) * cell
    cell = cell + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(cell), cell

  @staticmethod
  def _linear(layer, x):
    return F.linear(x, layer['kernel'].T, layer['bias'])


def make_params(config, program: step.Program):
  """Make perturbed parameters, because initial biases are 0.

  Returns:
    Nested dicts of arrays, and a `Set2Set` with Process's weights, or None.
  """
  params = program.init().params
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  params = structure.unflatten(
    leaf + 0.02 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  )
  if torch is None or torch_geometric is None:
    return params, None
  torch.manual_seed(0)
  layer = aggr.Set2Set(config.model.width, config.model.num_process_steps)
  network = program.merge(params)
  names = 'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'
  weights = (getattr(layer.lstm, name).detach().numpy() for name in names)
  rpw.load_set2set(network.process, *weights)
  return nnx.to_pure_dict(nnx.state(network, nnx.Param)), layer


def make_contenders(config) -> tuple[Calls, Calls]:
  """Build the calls of the Process block and the updates, `REPEATS` per call.

  Raises:
    ArithmeticError: the outputs of a contender differ from ours.
  """
  mesh = sharding.make_mesh(config.mesh)
  config.steps_per_call = REPEATS
  programs = {
    name: step.make_program(make_task(config), config, mesh)
    for name, make_task in (
      ('plain form', PlainTask),
      ('ours', task.SortingTask),
    )
  }
  params, set2set = make_params(config, programs['ours'])
  batch = task.draw(
    jax.random.key(0), (config.batch_size, config.data.set_size)
  )
  twin = None
  if torch is None or jax.default_backend() != 'cpu':
    print('skipping PyTorch: it is not installed, or the device is not a CPU')
  else:
    twin = TorchTwin(params, batch, config)
    if set2set is None:
      print('skipping PyTorch Geometric: it is not installed')
  network = programs['ours'].merge(params)
  memories = network.read(batch['elements'])
  blocks = make_blocks(network, memories, mesh, twin, set2set)
  updates, logits = {}, {}
  for name, program in programs.items():
    updates[name] = _repeat_update(program)
    logits[name] = program.merge(params)(*batch.values())
  if twin is not None:
    updates['PyTorch eager'] = _repeat(twin.update)
    with torch.no_grad():
      logits['PyTorch eager'] = twin.logits().numpy()
  check_equal('logits', logits)
  return blocks, updates


def make_blocks(network, memories, mesh, twin, set2set) -> Calls:
  """Build the calls of the Process block, and check that their results agree.

  A call computes the gradient of the mean square of q* with respect to the
  memories [B, N, D] and the weights.
  """
  num_steps = network.num_process_steps
  graphdef, params = nnx.split(network.process)
  params = jax.device_put(params, sharding.replicated(mesh))
  inputs = jax.device_put(memories, sharding.batch_sharding(mesh))
  calls, summaries, gradients = {}, {}, {}
  for name, process in (
    ('plain form', functools.partial(plain_process, num_steps=num_steps)),
    ('ours', lambda process, x: process(x, num_steps=num_steps)),
  ):

    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def backward(params, inputs, process=process):
      summary = process(nnx.merge(graphdef, params), inputs)
      return jnp.square(summary).mean(), summary

    backward = jax.jit(backward)

    def call(backward=backward):
      jax.block_until_ready(backward(params, inputs))

    calls[name] = _repeat(call)
    (_, gradients[name]), summaries[name] = backward(params, inputs)
  peers = {}
  if twin is not None:
    peers['PyTorch eager'] = twin.process, twin.params['process']['lstm']
    if set2set is not None:
      index = torch.arange(len(memories)).repeat_interleave(memories.shape[1])
      peers['PyTorch Geometric'] = (
        lambda x: set2set(x.flatten(0, 1), index),
        dict(set2set.named_parameters()),
      )
  for name, (process, weights) in peers.items():
    x = torch.tensor(np.asarray(memories), requires_grad=True)

    def call(process=process, weights=weights, x=x):
      for leaf in (*weights.values(), x):
        leaf.grad = None
      summary = process(x)
      summary.square().mean().backward()
      return summary

    summaries[name] = call().detach().numpy()
    gradients[name] = x.grad.numpy()
    calls[name] = _repeat(call)
  check_equal('q*', summaries)
  check_equal('gradients of the memories', gradients)
  return calls


def check_equal(what: str, outputs: Mapping):
  """Raise ArithmeticError if outputs differ from ours."""
  ours = np.asarray(outputs['ours'])
  for name, others in outputs.items():
    difference = np.abs(np.asarray(others) - ours).max() / np.abs(ours).max()
    if not difference < TOLERANCE:
      raise ArithmeticError(f'{name}: {what} differ by {difference} from ours')


def _repeat(call):
  def repeated():
    for _ in range(REPEATS):
      call()

  return repeated


def _repeat_update(program: step.Program):
  state = program.init()

  def call():
    nonlocal state
    state, *_ = jax.block_until_ready(program.update(state, {}))

  return call


def make_config(
  batch_size: int, set_size: int, num_process_steps: int, width: int
):
  """Return the config of sorting with these sizes and one glimpse."""
  config = sorting.get_config(
    f'set_size={set_size},process={num_process_steps}'
  )
  config.batch_size, config.model.width = batch_size, width
  return config


def main(_):
  """Measure, print a table, and write JSON if --output is set."""
  args = flags.FLAGS
  path = timing.start(args.output, args.batch_size)
  names = 'batch_size', 'set_size', 'num_process_steps', 'width'
  sizes = {name: args[name].value for name in names}
  blocks, updates = make_contenders(make_config(**sizes))
  title = ', '.join(f'{name} {size}' for name, size in sizes.items())
  columns = ['', 'per second', 'x plain', 'median ms', 'best ms']
  table = rich.table.Table(*columns, title=title)
  results = {}
  for what, calls in ('Process', blocks), ('update', updates):
    results[what] = {
      name: [total / REPEATS for total in totals]
      for name, totals in timing.measure(calls, args.rounds).items()
    }
    plain_median = timing.median(results[what]['plain form'])
    for name, seconds in results[what].items():
      median = timing.median(seconds)
      table.add_row(
        f'{what}, {name}',
        f'{1 / median:.1f}',
        f'{plain_median / median:.2f}',
        f'{1e3 * median:.2f}',
        f'{1e3 * min(seconds):.2f}',
      )
  rich.console.Console().print(table)
  if args.output:
    run = run_folder.versions() | sizes
    run['torch'] = torch and torch.__version__
    run['torch_geometric'] = torch_geometric and torch_geometric.__version__
    atomic_files.write_json(path, run | {'seconds': results})


if __name__ == '__main__':
  # Defined here, so that a test can import benchmarks with equal flag names.
  flags.DEFINE_integer('batch_size', 128, 'Sets per update.', 1)
  flags.DEFINE_integer('set_size', 10, 'Numbers in a set.', 2)
  flags.DEFINE_integer('num_process_steps', 10, 'Steps of Process.', 1)
  flags.DEFINE_integer('width', 128, 'Width of memories and states.', 1)
  flags.DEFINE_integer('rounds', 10, 'Turns of each contender.', 1)
  flags.DEFINE_string('output', None, 'JSON file to write.')
  app.run(timing.guarded(main))
