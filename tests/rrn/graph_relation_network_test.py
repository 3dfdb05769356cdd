"""Tests that the graph-centric relation network equals its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn import graph_relation_network, network
from tests.rrn import perturbed

WIDTH = 8


def ragged_graph():
  rng = np.random.default_rng(0)
  return network.Graph(rng.integers(0, 7, (7, 4)), rng.random((7, 4)) < 0.6)


def make_model(**options):
  return perturbed.split(
    graph_relation_network.RelationNetwork(
      WIDTH, 5, rngs=nnx.Rngs(0), **options
    )
  )


def answer(model, inputs, graph, edges, mask):
  """Compute one message per edge, their sum, and the readout."""
  total = 0
  for receiver, row in enumerate(graph.senders):
    for slot, sender in enumerate(row):
      features = [inputs[:, sender], inputs[:, receiver]]
      if edges is not None:
        features.append(edges[:, receiver, slot])
      exists = jnp.ones(len(inputs), bool)
      if graph.mask is not None:
        exists &= graph.mask[receiver, slot]
      if mask is not None:
        exists &= mask[:, receiver, slot]
      message = model.message(jnp.concatenate(features, -1))
      total += jnp.where(exists[:, None], message, 0)
  return model.readout(total)


@pytest.mark.parametrize(
  'graph, has_edges, masked, message_layers',
  [
    (network.Graph.complete(5), False, False, 1),
    (ragged_graph(), True, True, 3),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        (network.Graph.complete(5), False, False, 3),
        (ragged_graph(), True, False, 1),
        (ragged_graph(), True, False, 3),
        (ragged_graph(), True, True, 1),
      ]
    ),
  ],
)
def test_fast_form_equals_the_literal_one(
  graph, has_edges, masked, message_layers
):
  graphdef, params = make_model(
    message_layers=message_layers, edge_width=2 if has_edges else 0
  )
  shape = (3, *graph.senders.shape)
  keys = jax.random.split(jax.random.key(1), 4)
  inputs = jax.random.normal(keys[0], (3, len(graph.senders), WIDTH))
  edges = jax.random.normal(keys[1], (*shape, 2)) if has_edges else None
  mask = jax.random.bernoulli(keys[2], 0.7, shape) if masked else None
  weights = jax.random.normal(keys[3], (3, 5))

  def run(form):
    def weighted(params, inputs):
      outputs = form(nnx.merge(graphdef, params), inputs)
      return (outputs * weights).sum(), outputs

    return jax.jit(jax.grad(weighted, argnums=(0, 1), has_aux=True))(
      params, inputs
    )

  fast = run(lambda model, x: model(x, graph, edges=edges, mask=mask))
  literal = run(lambda model, x: answer(model, x, graph, edges, mask))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * max(1, np.abs(b).max()), rtol=1e-5
    ),
    fast,
    literal,
  )
  gradients, _ = fast
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


def test_order_of_the_nodes_does_not_matter():
  model = nnx.merge(*make_model())
  inputs = jax.random.normal(jax.random.key(2), (2, 6, WIDTH))
  graph = network.Graph.complete(6)
  order = np.random.default_rng(0).permutation(6)
  np.testing.assert_allclose(
    model(inputs[:, order], graph), model(inputs, graph), atol=1e-5
  )
