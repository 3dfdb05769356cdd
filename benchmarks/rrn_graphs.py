"""Message passing on the graphs of bAbI, Pretty-CLEVR and age arithmetic.

Each contender computes the forward and backward passes of the paper's network
for one experiment, from the inputs of the nodes to the states after all steps,
in float32: ours (`rrn/network.py`), the plain form (`rrn/reference.py`), and
the plain form in PyTorch, eager and with its step compiled.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks import harness
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

  @property
  def graph(self) -> network.Graph:
    """The graph of all pairs of nodes."""
    return network.Graph.complete(
      self.num_nodes, self_edges=self.has_self_edges
    )


CASES = {
  'bAbI': Case(20, 3, has_self_edges=True, edge_width=32, is_edge_shared=True),
  'Pretty-CLEVR': Case(
    8, 4, message_layers=1, node_layers=1, edge_width=1, has_lstm=False
  ),
  'age arithmetic': Case(8, 8),
}


def make_contenders(
  case: Case, batch_size: int
) -> dict[str, harness.Contender]:
  """Build all contenders."""
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

  contenders = {}
  for name, is_plain in ('plain form', True), ('ours', False):
    forward = functools.partial(states, is_plain=is_plain)

    def loss(*args, forward=forward):
      return jnp.square(forward(*args)).mean()

    backward = jax.jit(jax.grad(loss, (0, 1)))

    def call(backward=backward):
      jax.block_until_ready(backward(*args))

    contenders[name] = harness.Contender(
      call, [jax.jit(forward)(*args)], harness.count_gflop(backward, *args)
    )
  if twins := harness.peer('PyTorch', 'benchmarks.torch_twins'):
    make = functools.partial(_make_twin, twins, case, params, inputs, edges)
    contenders |= twins.variants(make)
  return contenders


def _make_twin(twins, case, params, inputs, edges, compiler):
  args = {'params': params, 'inputs': inputs, 'edges': edges}
  args = twins.to_tensors(args)
  leaves = jax.tree.leaves(args)
  args['senders'] = twins.torch.tensor(case.graph.senders).long()
  step = compiler(twins.relational_step)

  def states():
    return twins.pass_messages(step, num_steps=case.num_steps, **args)

  call = twins.make_call(lambda: [states().square().mean()], leaves)
  return harness.Contender(call, twins.to_arrays(states()))


def make_cases(args) -> Iterator[harness.Case]:
  """Build a case for each experiment."""
  devices.use_cpu_cores(args.batch_size)
  products = harness.make_products()
  for name, case in CASES.items():
    contenders = make_contenders(case, args.batch_size)
    yield harness.Case(name, contenders, args.batch_size, products=products)
