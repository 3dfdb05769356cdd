"""Message passing on the graphs of bAbI, Pretty-CLEVR and age arithmetic.

Each contender computes the forward and backward passes of the paper's network
for one experiment, from the inputs of the nodes to the states after all steps,
in float32: ours (`rrn/network.py`), the plain form (`rrn/reference.py`), and
the plain form in PyTorch, eager and with its step compiled. Ours takes a few
graphs at once, which fit in the cache of a core, and adds up the gradients.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks import harness, machine
from core import sharding
from core.run import devices
from rrn import network, reference

FLAGS = {
  'batch_size': (32, 1, 'Graphs per call.'),
  'rounds': (20, 1, 'Turns of each contender.'),
}
PEERS = ('torch',)
UNIT = 'graphs'


@dataclasses.dataclass(frozen=True)
class Case:
  """The sizes of an experiment in the paper.

  Attributes:
    num_nodes: number of nodes of a graph.
    num_steps: number of message passing steps.
    width: width of the states and of all layers.
    has_self_edges: whether each node also sends messages to itself.
    message_layers: number of ReLU layers in the message function.
    node_layers: number of ReLU layers in the node function.
    edge_width: number of edge features; 0 for edges without features.
    is_edge_shared: whether all edges of an example have the same features, such
      as those of a question.
    has_lstm: whether an LSTM follows the node function.
    microbatch_size: number of graphs that a CPU core takes at once: the fastest
      of 1, 2, 4, 8, and 16.
  """

  num_nodes: int
  num_steps: int
  width: int = 128
  has_self_edges: bool = False
  message_layers: int = 3
  node_layers: int = 3
  edge_width: int = 0
  is_edge_shared: bool = False
  has_lstm: bool = True
  microbatch_size: int = 8

  @property
  def graph(self) -> network.Graph:
    """The graph of all pairs of nodes."""
    return network.Graph.complete(
      self.num_nodes, self_edges=self.has_self_edges
    )


CASES = {
  'bAbI': Case(
    20,
    3,
    has_self_edges=True,
    edge_width=32,
    is_edge_shared=True,
    microbatch_size=4,
  ),
  'Pretty-CLEVR': Case(
    8, 4, message_layers=1, node_layers=1, edge_width=1, has_lstm=False
  ),
  'age arithmetic': Case(8, 8),
}


def make_contenders(
  case: Case, batch_size: int
) -> dict[str, harness.Contender]:
  """Build all contenders.

  Two of ours, and two of PyTorch, take micro-batches of graphs on CPUs.
  """
  model = network.RecurrentRelationalNetwork(
    case.width,
    message_layers=case.message_layers,
    node_layers=case.node_layers,
    edge_width=case.edge_width,
    lstm=case.has_lstm,
    rngs=nnx.Rngs(0),
  )
  graphdef, params = nnx.split(model)
  params = harness.perturb(nnx.to_pure_dict(params))
  keys = jax.random.split(jax.random.key(0), 2)
  inputs = jax.random.normal(keys[0], (batch_size, case.num_nodes, case.width))
  edges = None
  if case.edge_width:
    shape = (1, 1) if case.is_edge_shared else case.graph.senders.shape
    edges = jax.random.normal(keys[1], (batch_size, *shape, case.edge_width))
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  args = (
    jax.device_put(params, sharding.replicated(mesh)),
    jax.device_put((inputs, edges), sharding.batch_sharding(mesh)),
  )

  def states(params, arrays, *, is_plain):
    model, (inputs, edges) = nnx.merge(graphdef, params), arrays
    plain = functools.partial(reference.pass_messages, model)
    run = plain if is_plain else model
    return run(inputs, case.graph, num_steps=case.num_steps, edges=edges)

  on_device = batch_size // mesh.size
  is_split = jax.default_backend() == 'cpu'
  at_once = math.gcd(on_device, case.microbatch_size if is_split else 0)
  contenders = {
    name: _make_pass(
      functools.partial(states, is_plain=is_plain),
      args,
      mesh,
      num_parts=batch_size // size,
    )
    for name, is_plain, size in (
      ('plain form', True, on_device),
      ('plain form, micro-batches', True, at_once),
      ('ours', False, at_once),
    )
  }
  if twins := harness.peer('PyTorch', 'benchmarks.torch_twins'):
    sizes = {'': batch_size, ', micro-batches': at_once * mesh.size}
    for suffix, size in sizes.items():
      make = functools.partial(
        _make_twin, twins, case, params, inputs, edges, at_once=size
      )
      contenders |= twins.variants(make, suffix)
  return contenders


def _make_pass(forward, args, mesh, *, num_parts: int) -> harness.Contender:
  """Build a contender that computes a forward and a backward pass.

  Args:
    forward: maps parameters and the arrays of some graphs to states.
    args: parameters, and the arrays of all graphs.
    mesh: the mesh, whose devices share the micro-batches.
    num_parts: number of micro-batches.
  """

  def loss(*args):
    return jnp.square(forward(*args)).mean()

  def accumulate(params, parts):
    def add(total, part):
      d_params, d_arrays = jax.grad(loss, (0, 1))(params, part)
      return jax.tree.map(jnp.add, total, d_params), d_arrays

    return jax.lax.scan(add, optax.tree.zeros_like(params), parts)

  @jax.jit
  def gradients(params, arrays):
    parts = jax.tree.map(
      lambda x: x.reshape(num_parts, -1, *x.shape[1:]), arrays
    )
    return sharding.sum_over_shards(accumulate, mesh)(params, parts)

  gradients, *costs = harness.compile_and_count(gradients, *args)

  def call():
    jax.block_until_ready(gradients(*args))

  return harness.Contender(call, [jax.jit(forward)(*args)], *costs)


def _make_twin(twins, case, params, inputs, edges, compiler, *, at_once: int):
  """Build a PyTorch contender that takes `at_once` graphs at once."""
  args = twins.to_tensors({'params': params, 'inputs': inputs, 'edges': edges})
  leaves = jax.tree.leaves(args)
  senders = twins.torch.tensor(case.graph.senders).long()
  step = compiler(twins.relational_step)

  def states():
    for start in range(0, len(inputs), at_once):
      part = {
        name: args[name][start : start + at_once]
        for name in ('inputs', 'edges')
        if args[name] is not None
      }
      yield twins.pass_messages(
        step, args['params'], senders, num_steps=case.num_steps, **part
      )

  call = twins.make_call(lambda: (x.square().mean() for x in states()), leaves)
  values = twins.torch.cat([x.detach() for x in states()], 1)
  return harness.Contender(call, twins.to_arrays(values))


def make_cases(args) -> Iterator[harness.Case]:
  """Build a case for each experiment."""
  devices.use_cpu_cores(args.batch_size)
  limits = machine.limits()
  for name, case in CASES.items():
    contenders = make_contenders(case, args.batch_size)
    yield harness.Case(name, contenders, args.batch_size, limits=limits)
