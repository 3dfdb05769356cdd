"""Tests of the graph readout: symmetry and measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn import graph_readout
from tests.rrn import perturbed


def make_small(**options):
  sizes = dict.fromkeys(
    ('input_layers', 'message_layers', 'node_layers', 'output_layers'), 2
  )
  sizes |= {'width': 16, 'edge_width': 1, 'lstm': True, 'dropout': 0.5}
  model = graph_readout.GraphReadoutNetwork(
    5, 6, 7, dtype=jnp.float32, rngs=nnx.Rngs(0), **sizes | options
  )
  return perturbed.split(model)


@pytest.mark.parametrize('lstm', [True, False])
def test_the_order_of_the_nodes_does_not_matter(lstm):
  model = nnx.merge(*make_small(lstm=lstm))
  nodes = jax.random.normal(jax.random.key(0), (3, 6, 5))
  pairs = jax.random.normal(jax.random.key(1), (3, 6, 6, 1))
  order = np.random.default_rng(0).permutation(6)

  @jax.jit
  def logits(nodes, pairs):
    edges = pairs[:, np.arange(6)[:, None], model.graph.senders]
    return model(nodes, num_steps=3, edges=edges)

  plain = logits(nodes, pairs)
  other = logits(nodes[:, order], pairs[:, order][:, :, order])
  np.testing.assert_allclose(other, plain, atol=1e-4)
  mixed = logits(nodes[:, order], pairs)
  assert np.abs(mixed - plain).max() > 1e-2


def test_dropout_needs_a_key_and_differs_by_example():
  model = nnx.merge(*make_small())
  nodes = jnp.ones((2, 6, 5))
  edges = jnp.zeros((1, 6, 5, 1))
  one, again = (model(nodes, num_steps=2, edges=edges) for _ in range(2))
  np.testing.assert_array_equal(one, again)
  dropped = model(nodes, num_steps=2, edges=edges, key=jax.random.key(0))
  np.testing.assert_allclose(one[:, 0], one[:, 1], atol=1e-6)  # equal examples
  assert (np.abs(dropped[:, 0] - dropped[:, 1]) > 1e-3).any(-1).all()


def test_measures_by_hand():
  targets = np.array([0, 1, 2, 1])
  jumps = np.array([0, 1, 1, 1])
  weight = np.array([1.0, 1.0, 1.0, 0.0])  # the last is padding
  answers = np.array([[0, 0, 0, 0], [0, 1, 0, 1]])
  logits = jax.nn.one_hot(answers, 3)
  measured = graph_readout.measure(
    *map(jnp.asarray, (logits, targets, jumps, weight)),
    max_jumps=2,
    steps=(1, 2),
    is_independent=False,
  )
  values = {name: metric.result() for name, metric in measured.items()}
  np.testing.assert_array_equal(
    values['accuracy_by_step'], [[1, 0, np.nan], [1, 0.5, np.nan]]
  )
  np.testing.assert_allclose(values['steps_1/accuracy'], 1 / 3)
  np.testing.assert_allclose(values['steps_2/accuracy'], 2 / 3)
  assert values['steps_1/accuracy_0_jumps'] == 1
  assert values['steps_2/accuracy_1_jumps'] == 0.5
  assert measured['steps_2/accuracy_1_jumps'].weight == 2
  assert not any(metric.is_independent for metric in measured.values())


def test_loss_is_the_mean_over_steps_and_examples():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 4))
  targets = jnp.array([1, 3, 0])
  loss, logged = graph_readout.loss(logits, targets)
  p = np.asarray(jax.nn.softmax(logits))
  expected = -np.log(p[:, np.arange(3), targets])
  np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
  np.testing.assert_allclose(
    logged['last_loss'].result(), expected[1].mean(), rtol=1e-5
  )
