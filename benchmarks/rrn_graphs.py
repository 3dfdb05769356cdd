"""Message passing on the graphs of bAbI, Pretty-CLEVR and age arithmetic.

  uv run python benchmarks/rrn_graphs.py
  uv run --with torch==2.13.0 python benchmarks/rrn_graphs.py --output=out.json

Each contender makes the forward and the backward pass of the paper's network of
one experiment, from the inputs of the nodes to the states after all steps, in
float32: ours (`rrn/network.py`), the plain form (`rrn/reference.py`), and the
plain form in eager PyTorch. All take turns. First, the script checks that their
states are equal.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable

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
from core import sharding
from core.io import atomic_files
from core.run import run_folder
from rrn import network, reference

try:
  import torch
  import torch.nn.functional as F
except ImportError:
  torch = None

TOLERANCE = 1e-4  # of states, because float32 sums depend on their order


@dataclasses.dataclass(frozen=True)
class Case:
  """The paper's sizes of an experiment.

  `edge_width` is E. With `one_edge`, all edges of an example have the same
  features, such as those of a question.
  """

  num_nodes: int
  num_steps: int
  width: int = 128
  self_edges: bool = False
  message_layers: int = 3
  node_layers: int = 3
  edge_width: int = 0
  one_edge: bool = False
  lstm: bool = True

  @property
  def graph(self) -> network.Graph:
    """The graph of all pairs of nodes."""
    return network.Graph.complete(self.num_nodes, self_edges=self.self_edges)


CASES = {
  'bAbI': Case(20, 3, self_edges=True, edge_width=32, one_edge=True),
  'Pretty-CLEVR': Case(
    8, 4, message_layers=1, node_layers=1, edge_width=1, lstm=False
  ),
  'age arithmetic': Case(8, 8),
}


def make_network(case: Case) -> network.RecurrentRelationalNetwork:
  """Build the network of a case, with biases that are not 0."""
  model = network.RecurrentRelationalNetwork(
    case.width,
    message_layers=case.message_layers,
    node_layers=case.node_layers,
    edge_width=case.edge_width,
    lstm=case.lstm,
    rngs=nnx.Rngs(0),
  )
  for module in (*model.message.layers, *model.node.layers):
    module.bias[...] += 0.02
  return model


def make_contenders(
  case: Case, batch_size: int
) -> dict[str, Callable[[], None]]:
  """Build all contenders, and check that their states are equal to ours."""
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  graphdef, params = nnx.split(make_network(case))
  keys = jax.random.split(jax.random.key(0), 2)
  inputs = jax.random.normal(keys[0], (batch_size, case.num_nodes, case.width))
  edges = None
  if case.edge_width:
    shape = (1, 1) if case.one_edge else case.graph.senders.shape
    edges = jax.random.normal(keys[1], (batch_size, *shape, case.edge_width))
  arrays = jax.device_put((inputs, edges), sharding.batch_sharding(mesh))
  params = jax.device_put(params, sharding.replicated(mesh))

  def states(is_plain, params, arrays):
    model, (inputs, edges) = nnx.merge(graphdef, params), arrays
    plain = functools.partial(reference.pass_messages, model)
    run = plain if is_plain else model
    return run(inputs, case.graph, num_steps=case.num_steps, edges=edges)

  contenders, outputs = {}, {}
  for name, is_plain in ('plain form', True), ('ours', False):
    forward = functools.partial(states, is_plain)

    @jax.jit
    def backward(params, arrays, forward=forward):
      return jax.grad(lambda p, a: jnp.square(forward(p, a)).mean(), (0, 1))(
        params, arrays
      )

    def call(backward=backward):
      jax.block_until_ready(backward(params, arrays))

    contenders[name] = call
    outputs[name] = np.asarray(jax.jit(forward)(params, arrays))
  if torch is not None and jax.default_backend() == 'cpu':
    twin = TorchTwin(case, nnx.to_pure_dict(params), inputs, edges)
    contenders['PyTorch eager'] = twin.update
    with torch.no_grad():
      outputs['PyTorch eager'] = twin.states().numpy()
  ours = outputs.pop('ours')
  for name, others in outputs.items():
    difference = np.abs(others - ours).max()
    if not difference < TOLERANCE * np.abs(ours).max():
      raise ArithmeticError(f'{name}: states differ by {difference} from ours')
  return contenders


class TorchTwin:
  """The plain form in eager PyTorch."""

  def __init__(self, case: Case, params, inputs, edges):
    def tensor(x):
      return torch.tensor(np.asarray(x), requires_grad=True)

    self.case = case
    self.params = jax.tree.map(tensor, params)
    self.inputs = tensor(inputs)
    self.edges = None if edges is None else tensor(edges)
    self.senders = torch.tensor(case.graph.senders, dtype=torch.int64)

  def update(self):
    """Make one forward and backward pass."""
    for leaf in jax.tree.leaves(self.params):
      leaf.grad = None
    self.inputs.grad = None
    self.states().square().mean().backward()

  def states(self):
    """Return the states [T, B, N, D] after each step."""
    state, hidden, cell = self.inputs, *torch.zeros(2, *self.inputs.shape)
    outputs = []
    for _ in range(self.case.num_steps):
      sender = state[:, self.senders]
      features = [sender, state[:, :, None].expand(sender.shape)]
      if self.edges is not None:
        features.append(self.edges.expand(*sender.shape[:3], -1))
      messages = self._mlp('message', torch.cat(features, -1)).sum(2)
      features = [messages, self.inputs]
      if self.case.lstm:
        update = self._mlp('node', torch.cat(features, -1))
        gates = torch.cat([update, hidden], -1) @ self.params['lstm']['kernel']
        gates = gates + self.params['lstm']['bias']
        write, candidate, forget, read = gates.chunk(4, -1)
        cell = torch.sigmoid(forget + 1) * cell
        cell = cell + torch.sigmoid(write) * torch.tanh(candidate)
        state = hidden = torch.sigmoid(read) * torch.tanh(cell)
      else:
        state = self._mlp('node', torch.cat([*features, state], -1))
      outputs.append(state)
    return torch.stack(outputs)

  def _mlp(self, name, x):
    layers = self.params[name]['layers']
    *hidden, last = (layers[key] for key in sorted(layers))
    for layer in hidden:
      x = F.relu(F.linear(x, layer['kernel'].T, layer['bias']))
    return F.linear(x, last['kernel'].T, last['bias'])


def main(_):
  """Measure, print a table, and write JSON if --output is set."""
  args = flags.FLAGS
  path = timing.start(args.output, args.batch_size)
  results = {}
  for name, case in CASES.items():
    contenders = make_contenders(case, args.batch_size)
    results[name] = timing.measure(contenders, args.rounds)
  columns = ['', 'graphs/s', 'x plain', 'median ms', 'best ms']
  table = rich.table.Table(*columns, title=f'batch_size {args.batch_size}')
  for experiment, seconds in results.items():
    plain_median = timing.median(seconds['plain form'])
    for name, times in seconds.items():
      median = timing.median(times)
      table.add_row(
        f'{experiment}, {name}',
        f'{args.batch_size / median:.0f}',
        f'{plain_median / median:.2f}',
        f'{1e3 * median:.1f}',
        f'{1e3 * min(times):.1f}',
      )
  rich.console.Console().print(table)
  if args.output:
    run = run_folder.versions() | {'torch': torch and torch.__version__}
    run['batch_size'] = args.batch_size
    atomic_files.write_json(path, run | {'seconds': results})


if __name__ == '__main__':
  flags.DEFINE_integer('batch_size', 32, 'Graphs at once.', 1)
  flags.DEFINE_integer('rounds', 20, 'Turns of each contender.', 1)
  flags.DEFINE_string('output', None, 'JSON file to write.')
  app.run(timing.guarded(main))
