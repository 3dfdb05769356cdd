"""A network with one answer per graph (Palm et al. 2018).

An MLP embeds each node together with the question, messages pass between all
pairs of nodes, and an MLP reads the answer from the sum of the node states
after each step: o = r(sum of states). This module also defines the loss, and
the accuracy by number of jumps. The number of jumps measures the difficulty of
a question.

Axes: B batch, T steps, N nodes, K neighbors, F features, E edge features,
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


class GraphReadoutNetwork(nnx.Module):
  """Passes messages on a complete graph and reads out one answer.

  Args:
    num_features: number F of features of a node.
    num_nodes: number N of nodes.
    num_classes: number C of classes.
    width: width of all layers and of the states.
    input_layers: number of ReLU layers in the MLP that embeds nodes, at least
      1.
    message_layers: number of ReLU layers in the message function, at least 1.
    node_layers: number of ReLU layers in the node function, at least 1.
    output_layers: number of ReLU layers in the readout, at least 1.
    edge_width: number E of edge features, 0 for none.
    lstm: see `network.RecurrentRelationalNetwork`.
    dropout: dropout rate before the last readout layer.
    dtype: type of the products; parameters, states, and logits are float32.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    num_features: int,
    num_nodes: int,
    num_classes: int,
    *,
    width: int,
    input_layers: int,
    message_layers: int,
    node_layers: int,
    output_layers: int,
    edge_width: int,
    lstm: bool,
    dropout: float,
    dtype,
    rngs: nnx.Rngs,
  ):
    self.input_mlp = layers.MLP(
      [num_features, *[width] * input_layers, width], dtype=dtype, rngs=rngs
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
    """Return the logits after each step.

    Args:
      nodes: node features.
      num_steps: number of steps T.
      edges: edge features, broadcast to 'B N K E'. None means zeros.
      key: key for dropout. None disables dropout.
    """
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
    """Return the node states after each step."""
    return self.network(
      self.input_mlp(nodes), self.graph, num_steps=num_steps, edges=edges
    )

  def read_out(
    self, states: Float[Array, 'T B N D'], key: jax.Array | None = None
  ) -> Float[Array, 'T B C']:
    """Return the logits for the states of each step."""
    return self.output(states.sum(2), key).astype(jnp.float32)


def loss(
  logits: Float[Array, 'T B C'], targets: Int[Array, ' B']
) -> tuple[jax.Array, Metrics]:
  """Return the cross-entropy, averaged over steps and examples, and metrics."""
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
  """Measure the accuracy by step and by number of jumps.

  Args:
    logits: logits after each step.
    targets: correct classes.
    jumps: number of jumps of each question.
    weight: weight of each question, 0 for padding.
    max_jumps: largest number of jumps, G - 1.
    steps: steps that get metrics of their own.
    is_independent: whether no two questions are about the same example.

  Returns:
    'accuracy_by_step', an array [T, G], and for each t of `steps`
    'steps_<t>/accuracy' and 'steps_<t>/accuracy_<g>_jumps'.
  """
  is_correct = logits.argmax(-1) == targets[None]
  weights = jax.nn.one_hot(jumps, max_jumps + 1) * weight[:, None]
  mean = functools.partial(Metric.mean, is_independent=is_independent)
  by_jumps = mean(is_correct[:, :, None], weights, axis=1)
  metrics = {'accuracy_by_step': by_jumps}
  for step in steps:
    name = f'steps_{step}'
    metrics[f'{name}/accuracy'] = mean(is_correct[step - 1], weight)
    for count in range(max_jumps + 1):
      metrics[f'{name}/accuracy_{count}_jumps'] = by_jumps[step - 1, count]
  return metrics
