"""Compare the network with its reference; test burn-in, masks, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn import network, reference
from rrn.sudoku import data
from tests.rrn import perturbed

WIDTH = 12


def sudoku_graph():
  return network.Graph(data.neighbors(2, 2))


def ragged_graph():
  rng = np.random.default_rng(0)
  return network.Graph(rng.integers(0, 9, (9, 5)), rng.random((9, 5)) < 0.6)


def make_model(**options):
  model = network.RecurrentRelationalNetwork(WIDTH, rngs=nnx.Rngs(0), **options)
  return perturbed.split(model)


def complete_graph():
  return network.Graph.complete(6, self_edges=True)


def pairs_graph():
  return network.Graph.complete(6)


def edges_of(graph, shape):
  key = jax.random.key(3)
  shapes = {
    'none': None,
    'each': (3, *graph.senders.shape, 2),
    'slot': (graph.senders.shape[1], 2),
    'example': (3, 1, 1, 2),
  }
  return shapes[shape] and jax.random.normal(key, shapes[shape])


# Edge features and masks of each kind, and each option of the network.
CASES = [
  (sudoku_graph, 'slot', False, {'message_layers': 1}),
  (sudoku_graph, 'each', False, {'message_layers': 3, 'remat': True}),
  (ragged_graph, 'none', True, {'message_layers': 3}),
  (complete_graph, 'each', False, {'message_layers': 1, 'lstm': False}),
  (complete_graph, 'example', 'senders', {'message_layers': 1}),
]
MORE_CASES = [
  (ragged_graph, 'each', True, {'message_layers': 1}),
  (complete_graph, 'example', True, {'message_layers': 1}),
  (pairs_graph, 'example', False, {'message_layers': 1}),
  (sudoku_graph, 'none', False, {'message_layers': 1}),
  (ragged_graph, 'none', False, {'message_layers': 1, 'remat': True}),
  (complete_graph, 'example', True, {'message_layers': 2}),
  (complete_graph, 'slot', 'senders', {'message_layers': 1}),
  (pairs_graph, 'none', False, {'message_layers': 1}),
  (pairs_graph, 'slot', False, {'message_layers': 1}),
]


@pytest.mark.parametrize(
  'make_graph, edges, masked, options',
  [
    *CASES,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_CASES),
  ],
)
def test_fast_form_equals_the_equations(make_graph, edges, masked, options):
  graph = make_graph()
  num_nodes = len(graph.senders)
  edges = edges_of(graph, edges)
  mask = None
  if masked:
    mask = jax.random.bernoulli(jax.random.key(5), 0.7, (3, num_nodes, 1))
    if masked == 'senders':
      mask = mask.swapaxes(1, 2)
    else:
      mask = jnp.broadcast_to(mask, (3, *graph.senders.shape))
  graphdef, params = make_model(edge_width=0 if edges is None else 2, **options)
  inputs = jax.random.normal(jax.random.key(2), (3, num_nodes, WIDTH))
  weights = jax.random.normal(jax.random.key(4), (3, 3, num_nodes, WIDTH))
  forms = [
    lambda network, *args, **kw: network(*args, **kw),
    reference.pass_messages,
  ]

  def run(form):
    def weighted(params, inputs, edges):
      model = nnx.merge(graphdef, params)
      outputs = form(model, inputs, graph, num_steps=3, edges=edges, mask=mask)
      return (outputs * weights).sum(), outputs

    gradient = jax.grad(weighted, argnums=(0, 1, 2), has_aux=True)
    return jax.jit(gradient)(params, inputs, edges)

  (gradients, outputs), (expected_gradients, expected) = map(run, forms)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * max(1, np.abs(b).max()), rtol=1e-5
    ),
    (gradients, outputs),
    (expected_gradients, expected),
  )
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


def test_burn_in_returns_later_states_and_stops_their_gradient():
  graphdef, params = make_model()
  graph = sudoku_graph()
  inputs = jax.random.normal(jax.random.key(2), (2, 16, WIDTH))

  def states(params, **steps):
    return nnx.merge(graphdef, params)(inputs, graph, **steps)

  static = {'static_argnames': ('num_steps', 'burn_in')}
  whole = jax.jit(states, **static)(params, num_steps=5)
  late = jax.jit(states, **static)(params, num_steps=2, burn_in=3)
  np.testing.assert_allclose(late, whole[3:], atol=1e-6)
  run = jax.jit(lambda burn_in: states(params, num_steps=2, burn_in=burn_in))
  np.testing.assert_allclose(run(3), whole[3:], atol=1e-6)

  def loss(params, **steps):
    return jnp.square(states(params, **steps)[-1]).sum()

  gradient = jax.jit(jax.grad(loss), **static)
  short = gradient(params, num_steps=2, burn_in=3)
  full = gradient(params, num_steps=5)
  difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), short, full)
  assert max(jax.tree.leaves(difference)) > 1e-3


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
  short = model(inputs, graph, num_steps=4)
  np.testing.assert_allclose(long[:4], short, atol=1e-6)


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
