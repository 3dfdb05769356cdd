"""Read, Process and Write: the Process block, and whole updates that sort.

The contenders are ours (`seq2set/read_process_write.py`), its plain form, which
attends step by step, the plain form in PyTorch, eager and compiled, and for the
block, `Set2Set` of PyTorch Geometric. All use the same weights. A call of the
block is a forward and a backward pass; it must give the same q* and the same
gradient with respect to the memories. An update must start from the same
logits. PyTorch makes updates on one fixed batch; ours draw their batches.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import harness, machine
from configs.seq2set import sorting
from core import sharding, step
from core.run import devices
from seq2set import read_process_write as rpw
from seq2set.attention import attend
from seq2set.sorting import task

REPEATS = 10  # calls in a turn, because training makes many updates at once
FLAGS = {
  'batch_size': (128, 1, 'Sets per update.'),
  'set_size': (10, 2, 'Numbers in a set.'),
  'num_process_steps': (10, 1, 'Steps of Process.'),
  'width': (128, 1, 'Width of memories and states.'),
  'rounds': (10, 1, 'Turns of each contender.'),
}
PEERS = 'torch', 'torch_geometric'
UNIT = 'sets'


class PlainNetwork(rpw.SetToSequence):
  """Our network, computed as the paper writes its equations."""

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


def load_set2set(network: rpw.SetToSequence):
  """Give Process the weights of a new `Set2Set`, and return the layer."""
  torch = harness.peer('PyTorch', 'torch')
  aggr = torch and harness.peer('PyTorch Geometric', 'torch_geometric.nn.aggr')
  if not aggr:
    return None
  torch.manual_seed(0)
  width = network.process.lstm.kernel.shape[1] // 4
  layer = aggr.Set2Set(width, network.num_process_steps)
  names = 'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'
  weights = (getattr(layer.lstm, name).detach().numpy() for name in names)
  rpw.load_set2set(network.process, *weights)
  return layer


def make_contenders(
  config,
) -> tuple[dict[str, harness.Contender], dict[str, harness.Contender]]:
  """Build the contenders of the Process block, and of the updates."""
  mesh = sharding.make_mesh(config.mesh)
  config.steps_per_call = REPEATS
  programs = {
    name: step.make_program(make_task(config), config, mesh)
    for name, make_task in (
      ('plain form', PlainTask),
      ('ours', task.SortingTask),
    )
  }
  ours = programs['ours']
  network = ours.merge(harness.perturb(ours.init().params))
  set2set = load_set2set(network)
  params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
  shape = config.batch_size, config.data.set_size
  batch = task.draw(jax.random.key(0), shape)
  memories = network.read(batch['elements'])
  blocks = make_blocks(network, memories, mesh)
  updates = {
    name: harness.make_updates(
      program,
      {},
      [program.merge(params)(*batch.values())],
      num_updates=REPEATS,
    )
    for name, program in programs.items()
  }
  if twins := harness.peer('PyTorch', 'benchmarks.torch_twins'):
    lstm = params['process']['lstm']
    num_steps = config.model.num_process_steps

    def make_block(compiler):
      weights, process = twins.to_tensors(lstm), compiler(twins.process)
      leaves = list(weights.values())
      return torch_block(
        twins, lambda x: process(weights, x, num_steps), leaves, memories
      )

    blocks |= twins.variants(make_block)
    if set2set:
      index = np.repeat(np.arange(shape[0]), shape[1])
      index = twins.torch.tensor(index)
      blocks['PyTorch Geometric'] = torch_block(
        twins,
        lambda x: set2set(x.flatten(0, 1), index),
        list(set2set.parameters()),
        memories,
      )
    updates |= twins.variants(
      functools.partial(torch_update, twins, params, batch, config)
    )
  return blocks, updates


def make_blocks(network, memories, mesh) -> dict[str, harness.Contender]:
  """Build our contenders of the Process block.

  A call computes the gradient of the mean square of q* with respect to the
  memories [B, N, D] and the weights.
  """
  num_steps = network.num_process_steps
  graphdef, params = nnx.split(network.process)
  params = jax.device_put(params, sharding.replicated(mesh))
  inputs = jax.device_put(memories, sharding.batch_sharding(mesh))
  contenders = {}
  for name, process in (
    ('plain form', functools.partial(plain_process, num_steps=num_steps)),
    ('ours', lambda process, x: process(x, num_steps=num_steps)),
  ):

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def backward(params, inputs, process=process):
      summary = process(nnx.merge(graphdef, params), inputs)
      return jnp.square(summary).mean(), summary

    backward, *costs = harness.compile_and_count(backward, params, inputs)

    def call(backward=backward):
      for _ in range(REPEATS):
        jax.block_until_ready(backward(params, inputs))

    (_, gradient), summary = backward(params, inputs)
    contenders[name] = harness.Contender(call, [summary, gradient], *costs)
  return contenders


def torch_block(twins, process, weights, memories) -> harness.Contender:
  """Build a contender of the block from a function memories -> q*."""
  x = twins.torch.tensor(np.asarray(memories), requires_grad=True)
  call = twins.make_call(
    lambda: [process(x).square().mean()], [*weights, x], repeats=REPEATS
  )
  call()
  return harness.Contender(call, twins.to_arrays(process(x), x.grad))


def torch_update(twins, params, batch, config, compiler) -> harness.Contender:
  """Build a contender that makes updates on one batch."""
  params, torch = twins.to_tensors(params), twins.torch
  leaves = jax.tree.leaves(params)
  elements, order = (
    torch.tensor(np.asarray(batch[name])) for name in ('elements', 'order')
  )
  order, solve = order.long(), compiler(twins.sorting_logits)

  def logits():
    return solve(params, elements, order, config.model.num_process_steps)

  def losses():
    loss = torch.nn.functional.cross_entropy(
      logits().flatten(0, 1), order.flatten(), reduction='sum'
    )
    return [loss / len(order)]

  call = twins.make_call(
    losses,
    leaves,
    optimizer=torch.optim.Adam(leaves, config.optim.learning_rate, fused=True),
    clip_norm=config.optim.clip_norm,
    repeats=REPEATS,
  )
  return harness.Contender(call, twins.to_arrays(logits()))


def make_config(
  batch_size: int, set_size: int, num_process_steps: int, width: int
):
  """Return the config of sorting with these sizes and one glimpse."""
  config = sorting.get_config(
    f'set_size={set_size},process={num_process_steps}'
  )
  config.batch_size, config.model.width = batch_size, width
  return config


def make_cases(args) -> Iterator[harness.Case]:
  """Build a case for the block, and one for the updates."""
  devices.use_cpu_cores(args.batch_size)
  sizes = {name: x for name, x in vars(args).items() if name != 'rounds'}
  blocks, updates = make_contenders(make_config(**sizes))
  limits = machine.limits()
  for name, contenders in ('Process', blocks), ('update', updates):
    yield harness.Case(name, contenders, args.batch_size, REPEATS, limits)
