"""The fast form equals the paper's equations; counts and symmetries hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn import network, plain
from rrn.sudoku import data
from tests.rrn import perturbed

WIDTH = 12


def sudoku_graph():
  return network.Graph(data.neighbours(2, 2))


def ragged_graph():
  rng = np.random.default_rng(0)
  return network.Graph(rng.integers(0, 9, (9, 5)), rng.random((9, 5)) < 0.6)


def make_model(**options):
  model = network.RecurrentRelationalNetwork(WIDTH, rngs=nnx.Rngs(0), **options)
  return perturbed.split(model)


@pytest.mark.parametrize(
  'make_graph, message_layers, edge_width, remat',
  [
    (sudoku_graph, 1, 0, False),
    (sudoku_graph, 3, 2, True),
    (ragged_graph, 1, 0, True),
    (ragged_graph, 1, 2, False),
    (ragged_graph, 3, 0, False),
  ],
)
def test_fast_form_equals_the_equations(
  make_graph, message_layers, edge_width, remat
):
  graph = make_graph()
  num_nodes = len(graph.senders)
  edges = None
  if edge_width:
    edges = jax.random.normal(jax.random.key(3), (1, *graph.senders.shape, 2))
  graphdef, params = make_model(
    message_layers=message_layers, edge_width=edge_width, remat=remat
  )
  inputs = jax.random.normal(jax.random.key(2), (3, num_nodes, WIDTH))
  weights = jax.random.normal(jax.random.key(4), (3, 3, num_nodes, WIDTH))
  forms = [
    lambda network, *args, **kw: network(*args, **kw),
    plain.pass_messages,
  ]

  def run(form):
    def weighted(params, inputs):
      model = nnx.merge(graphdef, params)
      outputs = form(model, inputs, graph, num_steps=3, edges=edges)
      return (outputs * weights).sum(), outputs

    gradient = jax.grad(weighted, argnums=(0, 1), has_aux=True)
    return jax.jit(gradient)(params, inputs)

  (gradients, outputs), (expected_gradients, expected) = map(run, forms)
  np.testing.assert_allclose(outputs, expected, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4),
    gradients,
    expected_gradients,
  )
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


def test_missing_edge_features_are_zeros():
  graphdef, params = make_model(edge_width=2)
  model, graph = nnx.merge(graphdef, params), sudoku_graph()
  inputs = jax.random.normal(jax.random.key(2), (1, 16, WIDTH))
  zeros = jnp.zeros((1, *graph.senders.shape, 2))
  np.testing.assert_array_equal(
    model(inputs, graph, num_steps=2),
    model(inputs, graph, num_steps=2, edges=zeros),
  )


def test_more_steps_begin_with_the_same_states():
  graphdef, params = make_model()
  model, graph = nnx.merge(graphdef, params), sudoku_graph()
  inputs = jax.random.normal(jax.random.key(2), (1, 16, WIDTH))
  long = model(inputs, graph, num_steps=8)
  np.testing.assert_array_equal(long[:4], model(inputs, graph, num_steps=4))


def test_permuting_nodes_permutes_states():
  graphdef, params = make_model()
  model, graph = nnx.merge(graphdef, params), ragged_graph()
  inputs = jax.random.normal(jax.random.key(2), (2, 9, WIDTH))
  order = np.random.default_rng(1).permutation(9)
  inverse = np.argsort(order)
  permuted = network.Graph(inverse[graph.senders[order]], graph.mask[order])
  np.testing.assert_allclose(
    model(inputs[:, order], permuted, num_steps=3),
    model(inputs, graph, num_steps=3)[:, :, order],
    atol=1e-6,
  )


def test_masked_edges_carry_nothing():
  graphdef, params = make_model()
  model, graph = nnx.merge(graphdef, params), ragged_graph()
  inputs = jax.random.normal(jax.random.key(2), (1, 9, WIDTH))
  other = network.Graph(np.where(graph.mask, graph.senders, 0), graph.mask)
  np.testing.assert_array_equal(
    model(inputs, graph, num_steps=3), model(inputs, other, num_steps=3)
  )


def test_no_scatter_in_the_gradient():
  graphdef, params = make_model()
  inputs = jnp.ones((1, 16, WIDTH))

  def loss(params):
    model = nnx.merge(graphdef, params)
    return model(inputs, sudoku_graph(), num_steps=2).sum()

  assert 'scatter' not in str(jax.make_jaxpr(jax.grad(loss))(params))
