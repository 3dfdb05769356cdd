"""One answer per graph: o = r(sum of all nodes' states) (Palm et al. 2018).

The network that reads a question together with each node, passes messages
between all pairs of nodes, and answers at every step from the sum of the
states; its loss; and what is measured of answers whose difficulty is a number
of jumps.

Axes: B batch, T steps, N nodes, K neighbours, F features, E edge features,
D width, C classes, G numbers of jumps.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.metrics import Metric
from core.task import Metrics
from rrn import network


class AnswerNetwork(nnx.Module):
  """An MLP of each node, messages on a complete graph, an MLP of the sum.

  Args:
    num_features: F of a node.
    num_nodes: N.
    num_classes: C.
    width: of all layers and of the states.
    pre_layers, message_layers, node_layers, output_layers: ReLU layers before
      each last one, >= 1.
    edge_width: E, 0 for none.
    lstm: see `network.RecurrentRelationalNetwork`.
    dropout: rate before the last output layer.
  """

  def __init__(
    self,
    num_features: int,
    num_nodes: int,
    num_classes: int,
    *,
    width: int,
    pre_layers: int,
    message_layers: int,
    node_layers: int,
    output_layers: int,
    edge_width: int,
    lstm: bool,
    dropout: float,
    dtype,
    rngs: nnx.Rngs,
  ):
    self.pre = layers.MLP(
      [num_features, *[width] * pre_layers, width], dtype=dtype, rngs=rngs
    )
    self.network = network.RecurrentRelationalNetwork(
      width,
      message_layers=message_layers,
      node_layers=node_layers,
      edge_width=edge_width,
      lstm=lstm,
      dtype=dtype,
      rngs=rngs,
    )
    self.output = layers.MLP(
      [width, *[width] * output_layers, num_classes],
      dropout=(*[0.0] * (output_layers - 1), dropout),
      dtype=dtype,
      rngs=rngs,
    )
    self.graph = network.Graph.complete(num_nodes)

  def __call__(
    self,
    nodes: Float[Array, 'B N F'],
    *,
    num_steps: int,
    edges: Float[Array, '... N K E'] | None = None,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B C']:
    """Returns the logits of each step; `key`: for dropout, None: without."""
    return self.read_out(
      self.states(nodes, num_steps=num_steps, edges=edges), key
    )

  def states(
    self,
    nodes: Float[Array, 'B N F'],
    *,
    num_steps: int,
    edges: Float[Array, '... N K E'] | None = None,
  ) -> Float[Array, 'T B N D']:
    """Returns the states of the nodes after each step."""
    return self.network(
      self.pre(nodes), self.graph, num_steps=num_steps, edges=edges
    )

  def read_out(
    self, states: Float[Array, 'T B N D'], key: jax.Array | None = None
  ) -> Float[Array, 'T B C']:
    """Returns the logits of each step's states."""
    return self.output(states.sum(2), key).astype(jnp.float32)


def loss(
  logits: Float[Array, 'T B C'], targets: Int[Array, ' B']
) -> tuple[jax.Array, Metrics]:
  """Cross-entropy, averaged over steps and examples, and what to log."""
  losses = layers.cross_entropy(logits, targets)
  return losses.mean(), {
    'last_loss': Metric.mean(losses[-1]),
    'accuracy': Metric.mean(logits[-1].argmax(-1) == targets),
  }


def measure(
  logits: Float[Array, 'T B C'],
  targets: Int[Array, ' B'],
  jumps: Int[Array, ' B'],
  weight: Float[Array, ' B'],
  *,
  max_jumps: int,
  steps: Iterable[int],
  is_independent: bool,
) -> Metrics:
  """Accuracy by step and by number of jumps, 0 to `max_jumps`.

  `is_independent`: whether no two questions are about the same example.

  Returns:
    'accuracy_by_step', a curve [T, G]; and for each t of `steps`
    'steps_<t>/accuracy' and 'steps_<t>/accuracy_<g>_jumps'.
  """
  right = logits.argmax(-1) == targets[None]
  weights = jax.nn.one_hot(jumps, max_jumps + 1) * weight[:, None]
  mean = functools.partial(Metric.mean, is_independent=is_independent)
  by_jumps = mean(right[:, :, None], weights, axis=1)
  metrics = {'accuracy_by_step': by_jumps}
  for step in steps:
    name = f'steps_{step}'
    metrics[f'{name}/accuracy'] = mean(right[step - 1], weight)
    for count in range(max_jumps + 1):
      metrics[f'{name}/accuracy_{count}_jumps'] = jax.tree.map(
        lambda x, at=(step - 1, count): x[at], by_jumps
      )
  return metrics
