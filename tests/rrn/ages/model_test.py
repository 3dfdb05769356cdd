"""Tests of the networks for age arithmetic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from rrn.ages import data, problems
from rrn.ages.model import ModelConfig, make_model
from tests.rrn import perturbed

ONE_STEP = {'num_steps': 1}


def make(**options):
  return make_model(ModelConfig(**options), dtype=jnp.float32, rngs=nnx.Rngs(0))


@functools.cache
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
    ({**ONE_STEP, 'network': 'relation_network', 'edge_width': 2}, 425_060),
    ({**ONE_STEP, 'network': 'mlp'}, 469_092),
  ],
)
def test_parameter_counts(options, count):
  params = nnx.eval_shape(lambda: nnx.state(make(**options), nnx.Param))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize('options', [{}, {**ONE_STEP, 'network': 'mlp'}])
def test_every_parameter_has_a_gradient(options):
  graphdef, params = perturbed.split(make(width=16, **options))
  drawn = draw()

  @jax.jit
  @jax.grad
  def gradient(params):
    model = nnx.merge(graphdef, params)
    return jnp.square(model(*drawn, num_steps=2)).mean()

  for path, leaf in jax.tree.leaves_with_path(gradient(params)):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_facts_are_inferred_from_the_same_states():
  model = nnx.merge(*perturbed.split(make(width=16, fact_loss=1.0)))
  answers, ages = model.infer_facts(*draw(), num_steps=2)
  assert ages.shape == (2, 16, 8, 2, 100)
  np.testing.assert_array_equal(answers, model(*draw(), num_steps=2))
  with pytest.raises(
    UserError, match='an mlp has no states of facts; set it to 0'
  ):
    make(network='mlp', num_steps=1, fact_loss=1.0)


def test_fourier_initialization_changes_the_weights_of_numbers_only():
  plain, waves = make(width=16), make(width=16, fourier_init=4)
  plain, waves = plain.answer, waves.answer
  first = np.asarray(waves.input_mlp.layers[0].kernel[...])
  usual = np.asarray(plain.input_mlp.layers[0].kernel[...])
  np.testing.assert_array_equal(first[:16], 3 * usual[:16])
  others = np.r_[16:19, 119:127]
  np.testing.assert_array_equal(first[others], usual[others])
  # Close numbers have similar weights, and all weights span 8 dimensions.
  numbers = first[19:119], np.asarray(waves.output.layers[-1].kernel[...]).T
  for rows in numbers:
    assert rows.shape == (100, 16)
    assert np.linalg.matrix_rank(rows, tol=1e-4) == 8
    steps = np.linalg.norm(np.diff(rows, axis=0), axis=1)
    assert steps.max() < np.linalg.norm(rows, axis=1).max() / 4


def test_the_order_of_the_facts_does_not_matter():
  model = nnx.merge(*perturbed.split(make(width=16)))
  facts, question = draw()
  order = np.random.default_rng(0).permutation(8)
  run = jax.jit(lambda facts: model(facts, question, num_steps=3))
  np.testing.assert_allclose(run(facts[:, order]), run(facts), atol=1e-4)
  other = facts.at[:, 0, 3].add(1)
  assert np.abs(run(other) - run(facts)).max() > 1e-3


@pytest.mark.parametrize(
  'network, message',
  [
    ('rn', 'is unknown; expected .* relation_network, or mlp'),
    ('relation_network', 'one step, but .*ages.py:network=relation_network'),
    ('mlp', 'one step, but .*ages.py:network=mlp'),
  ],
)
def test_errors_name_what_to_change(network, message):
  with pytest.raises(UserError, match=message):
    make(network=network, num_steps=8)
