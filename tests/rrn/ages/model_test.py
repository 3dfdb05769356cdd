"""The paper's parameter counts, and gradients for all parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from rrn.ages import data, problems
from rrn.ages.model import ModelConfig, make_model
from tests.rrn import perturbed


def make(**options):
  return make_model(ModelConfig(**options), dtype=jnp.float32, rngs=nnx.Rngs(0))


def draw(count=16):
  trees = jnp.asarray(data.split_trees()['train'][:count])
  keys = jax.random.split(jax.random.key(0), count)
  drawn = jax.jit(jax.vmap(problems.draw))(keys, trees)
  return drawn['facts'], drawn['question']


@pytest.mark.parametrize(
  'options, count',
  [
    ({'edge_width': 2}, 425_060),
    ({}, 424_804),
    ({'network': 'relation_network', 'edge_width': 2}, 425_060),
    ({'network': 'mlp'}, 469_092),
  ],
)
def test_parameter_count_is_the_papers(options, count):
  params = nnx.eval_shape(lambda: nnx.state(make(**options), nnx.Param))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize('network', ['recurrent_relational_network', 'mlp'])
def test_every_parameter_has_a_gradient(network):
  graphdef, params = perturbed.split(make(network=network, width=16))

  @jax.jit
  @jax.grad
  def gradient(params):
    model = nnx.merge(graphdef, params)
    return jnp.square(model(*draw(), num_steps=2)).mean()

  for path, leaf in jax.tree.leaves_with_path(gradient(params)):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_the_order_of_the_facts_does_not_matter():
  model = nnx.merge(*perturbed.split(make(width=16)))
  facts, question = draw()
  order = np.random.default_rng(0).permutation(8)
  run = jax.jit(lambda facts: model(facts, question, num_steps=3))
  np.testing.assert_allclose(run(facts[:, order]), run(facts), atol=1e-4)
  other = facts.at[:, 0, 3].add(1)
  assert np.abs(run(other) - run(facts)).max() > 1e-3


def test_unknown_networks_are_named():
  with pytest.raises(UserError, match='relation_network or mlp'):
    make(network='rn')
