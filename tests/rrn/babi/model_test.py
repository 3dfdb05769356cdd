"""Tests of the bAbI network: parameters, reference, and padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from rrn import network, reference
from rrn.babi import data
from rrn.babi.model import BabiNetwork, ModelConfig
from tests import learning
from tests.rrn import perturbed

SMALL = ModelConfig(
  width=16,
  sentence_width=8,
  input_layers=1,
  message_layers=2,
  node_layers=1,
  num_offsets=4,
)
COUNTS = [3, 1, 2]  # facts


def make(config=SMALL):
  return BabiNetwork(config, dtype=jnp.float32, rngs=nnx.Rngs(0))


def batch(num_nodes=6, num_words=7):
  """Draw facts, questions, and offsets; sentences have 2 to 6 words."""
  rng = np.random.default_rng(0)
  sentences = rng.integers(1, 177, (3, 7, 7))
  lengths = rng.integers(2, 7, (3, 7, 1))
  sentences = np.where(np.arange(7) < lengths, sentences, 0)
  facts = np.zeros((3, num_nodes, num_words), np.int32)
  question = np.zeros((3, num_words), np.int32)
  for row, count in enumerate(COUNTS):
    facts[row, :count, :7] = sentences[row, :count]
    question[row, :7] = sentences[row, -1]
  return facts, question, np.array([0, 3, 2], np.int32)


def apply(model, facts, question, offset, **options):
  inputs = map(jnp.asarray, (facts, question, offset))
  return learning.compiled(BabiNetwork.__call__, model, *inputs, **options)


@pytest.mark.parametrize(
  ('options', 'count'),
  [
    ({}, 441_681),
    # One layer instead of four: 3 * (128 * 128 + 128) parameters fewer.
    ({'input_layers': 0}, 441_681 - 49_536),
    ({'question_in_facts': False}, 441_681 - 32 * 128),
  ],
)
def test_parameter_count_is_the_papers(options, count):
  config = ModelConfig(**options)
  model = nnx.eval_shape(lambda: make(config))
  params = nnx.state(model, nnx.Param)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
  assert model.num_positions == 40
  assert model.embedding.shape == (177, 32)


@pytest.mark.parametrize(
  'sizes', [(), (10,), (10, 8, 20), (10, 10, 20), (0, 20), (10, 20, 30)]
)
def test_graph_sizes_rise_to_the_maximum_number_of_facts(sizes):
  with pytest.raises(UserError, match='in increasing order, the last one 20'):
    ModelConfig(graph_sizes=sizes)


def test_forget_biases_rise_evenly():
  model = make(dataclasses.replace(SMALL, forget_biases=(0, 4)))
  for lstm in model.fact_lstm, model.question_lstm:
    write, candidate, forget, read = jnp.split(lstm.bias[...], 4)
    # The LSTM adds 1.
    np.testing.assert_allclose(forget + 1, np.linspace(0, 4, 8), atol=1e-6)
    assert not jnp.concatenate([write, candidate, read]).any()
  for lstm in make().fact_lstm, make().question_lstm:
    assert not lstm.bias[...].any()


def literal(model, facts, question, offset):
  """Run the paper's network for one example, sentence by sentence."""

  def encode(lstm, words):
    def step(carry, word):
      hidden, cell = carry
      gates = jnp.concatenate([word, hidden]) @ lstm.kernel[...]
      write, candidate, forget, read = jnp.split(gates + lstm.bias[...], 4)
      cell = jax.nn.sigmoid(forget + 1) * cell
      cell += jax.nn.sigmoid(write) * jnp.tanh(candidate)
      return (jax.nn.sigmoid(read) * jnp.tanh(cell), cell), None

    zeros = jnp.zeros(SMALL.sentence_width)
    vectors = model.embedding[...][words[words > 0]]
    (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), vectors)
    return hidden

  def dense(layers, x):
    *hidden, last = layers
    for layer in hidden:
      x = jax.nn.relu(layer(x))
    return last(x)

  logits = []
  for fact, asked, first in zip(facts, question, offset, strict=True):
    asked = encode(model.question_lstm, asked)
    fact = fact[fact.any(-1)]
    inputs = [
      jnp.concatenate(
        [
          encode(model.fact_lstm, words),
          jnp.eye(model.num_positions)[first + index],
          asked,
        ]
      )
      for index, words in enumerate(fact)
    ]
    states = reference.pass_messages(
      model.network,
      dense(model.input_mlp.layers, jnp.stack(inputs))[None],
      network.Graph.complete(len(fact), self_edges=True),
      num_steps=3,
      edges=asked[None, None, None],
    )
    logits.append(dense(model.output.layers, states.sum(2)))
  return jnp.concatenate(logits, axis=1)


@pytest.mark.parametrize(
  'graph_sizes', [pytest.param((20,), marks=pytest.mark.slow), (2, 4, 20)]
)
def test_fast_form_is_the_literal_form(graph_sizes):
  inputs = batch()
  weights = jax.random.normal(jax.random.key(3), (3, 3, 177))

  def run(form, config):
    graphdef, params = perturbed.split(make(config))

    def weighted(params):
      logits = form(nnx.merge(graphdef, params), *inputs)
      return (logits * weights).sum(), logits

    return jax.jit(jax.grad(weighted, has_aux=True))(params)

  expected_gradients, expected = run(literal, SMALL)
  config = dataclasses.replace(SMALL, graph_sizes=graph_sizes)
  gradients, logits = run(apply, config)
  np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
  for (path, ours), theirs in zip(
    jax.tree.leaves_with_path(gradients),
    jax.tree.leaves(expected_gradients),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    scale = np.abs(theirs).max()
    assert scale > 0, name  # every parameter has a gradient
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, err_msg=name)


def test_more_padding_changes_nothing():
  model = nnx.merge(*perturbed.split(make()))
  plain = apply(model, *batch())
  np.testing.assert_allclose(apply(model, *batch(9, 11)), plain, atol=1e-5)


def test_order_of_facts_and_of_words_matters():
  model = nnx.merge(*perturbed.split(make()))
  facts, question, offset = batch()
  plain = apply(model, facts, question, offset)
  swapped = facts.copy()
  swapped[0, [0, 1]] = facts[0, [1, 0]]
  changed = np.abs(apply(model, swapped, question, offset) - plain).max((0, 2))
  assert changed[0] > 1e-4 and changed[1:].max() < 1e-6
  swapped = facts.copy()
  swapped[1, 0, [0, 1]] = facts[1, 0, [1, 0]]
  changed = np.abs(apply(model, swapped, question, offset) - plain).max((0, 2))
  assert changed[1] > 1e-4 and changed[[0, 2]].max() < 1e-6


def test_dropout_depends_on_the_key_and_needs_a_rate():
  model = nnx.merge(*perturbed.split(make()))
  plain, again = apply(model, *batch()), apply(model, *batch())
  np.testing.assert_array_equal(plain, again)
  one, other = (
    apply(model, *batch(), key=jax.random.key(seed)) for seed in (0, 1)
  )
  assert np.abs(one - other).max() > 1e-3
  without = nnx.merge(
    *perturbed.split(make(dataclasses.replace(SMALL, dropout=0.0)))
  )
  np.testing.assert_array_equal(
    apply(without, *batch(), key=jax.random.key(0)),
    apply(without, *batch()),
  )


def test_no_scatter_in_the_gradient():
  graphdef, params = nnx.split(make(), nnx.Param)

  def loss(params):
    return apply(nnx.merge(graphdef, params), *batch()).sum()

  assert 'scatter' not in str(jax.make_jaxpr(jax.grad(loss))(params))


def test_longest_story_fits():
  """Check that 20 facts at the last offset use the last position."""
  facts = np.ones((1, data.MAX_FACTS, data.MAX_WORDS), np.int32)
  question, model = np.ones((1, data.MAX_WORDS), np.int32), make()
  positions = SMALL.num_offsets + data.MAX_FACTS
  assert model.num_positions == positions
  logits = apply(model, facts, question, np.array([SMALL.num_offsets - 1]))
  assert logits.shape == (3, 1, 177) and np.isfinite(logits).all()


@pytest.mark.parametrize(
  'graph_sizes', [pytest.param((20,), marks=pytest.mark.slow), (3, 20)]
)
def test_support_is_read_from_each_fact(graph_sizes):
  """Check the support logits; those of the answer do not change."""
  config = dataclasses.replace(SMALL, support_loss=1.0, graph_sizes=graph_sizes)
  model = nnx.merge(*perturbed.split(make(config)))
  story = batch(num_nodes=20)
  logits, support = learning.compiled(
    BabiNetwork.find_support, model, *map(jnp.asarray, story)
  )
  np.testing.assert_allclose(logits, apply(model, *story), atol=1e-5)
  assert support.shape == (3, 3, 20)
  # The logit of padding is the bias, or 0 outside a smaller graph.
  bias = model.support_output.bias[0] if graph_sizes == (20,) else 0
  missing = np.arange(20) >= np.array(COUNTS)[:, None]
  np.testing.assert_allclose(support[:, missing & (np.arange(20) > 2)], bias)
  assert len(np.unique(support[:, ~missing])) == 3 * sum(COUNTS)
