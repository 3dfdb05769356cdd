"""Measures on cases computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hinting.model_config import ModelConfig
from hinting.sorting import hints
from hinting.sorting.analysis import measures
from hinting.transformer import Hook, Transformer
from hinting.vocabulary import Token, value_token

VALUES = jnp.array([[7, 3, 7, 1], [2, 2, 2, 2]])
SEEN = np.tri(5, 10, 5, dtype=bool)  # the keys that each answer step sees


def tokens(*words):
  return [w if isinstance(w, Token) else value_token(w) for w in words]


def test_rows_and_steps():
  rows = hints.sort_rows(VALUES)
  expected = tokens(Token.BOS, 7, 3, 7, 1, Token.SORT, 1, 3, 7, 7, Token.EOS)
  np.testing.assert_array_equal(rows[0], expected)
  steps = measures.answer_steps(VALUES)
  np.testing.assert_array_equal(
    steps.current[0], tokens(Token.SORT, 1, 3, 7, 7)
  )
  np.testing.assert_array_equal(steps.target[0], tokens(1, 3, 7, 7, Token.EOS))
  np.testing.assert_array_equal(steps.successor[0], [*tokens(1, 3, 7), -1, -1])
  np.testing.assert_array_equal(steps.copies_left[0], [0, 0, 0, 1, 0])
  np.testing.assert_array_equal(steps.copies_left[1], [0, 3, 2, 1, 0])
  np.testing.assert_array_equal(steps.is_repeat[0], [0, 0, 0, 1, 0])


def test_bucket_shares_of_confident_logits():
  """Logits of one token fill one bucket."""
  steps = measures.answer_steps(VALUES[:1])

  def shares(token):
    logits = 50.0 * jax.nn.one_hot(token, 64)
    return measures.bucket_shares(logits, steps)[0]  # [A 2 5]

  def close(actual, desired):
    np.testing.assert_allclose(actual, desired, atol=1e-6)

  step = 2  # at 3: the successor is 7, and the minimum is 1
  for index, token in enumerate(
    [steps.current, steps.successor, steps.minimum]
  ):
    close(shares(token)[step], np.eye(5)[[index] * 2])
  end = jnp.full_like(steps.current, Token.EOS)
  close(shares(end)[step], np.eye(5)[[3, 3]])
  close(shares(end + 1)[step], np.eye(5)[[4, 4]])
  # The minimum is the successor of SORT, and the identity at 1.
  close(shares(steps.minimum)[0], np.eye(5)[[1, 1]])
  close(shares(steps.minimum)[1], np.eye(5)[[0, 0]])


def test_bucket_shares_of_uniform_logits():
  steps = measures.answer_steps(VALUES[:1])
  shares = measures.bucket_shares(jnp.zeros((1, 5, 64)), steps)[0, 2, 0]
  np.testing.assert_allclose(shares, np.array([1, 1, 1, 1, 60]) / 64, rtol=1e-5)


def test_mass_and_gap():
  values = VALUES[:1]
  rows, steps = (
    hints.sort_rows(values)[:, :-1],
    measures.answer_steps(values),
  )
  logits = jnp.where(rows == value_token(7), 2.0, 0.0)
  logits = jnp.where(SEEN, logits[:, None, None], -1e30)
  weights = jnp.array(SEEN / SEEN.sum(1, keepdims=True))[None, None]
  mass = measures.group_mass(weights, rows, steps)[0, 0]
  # Copies of the current value: none, 1 1, 3 3, 7 7 7, 7 7 7 7.
  np.testing.assert_allclose(
    mass[0], np.mean([0, 2 / 7, 2 / 8, 3 / 9, 4 / 10]), rtol=1e-6
  )
  # Copies of the successor: 1, 3, 7 7, none, none; one delimiter.
  np.testing.assert_allclose(
    mass[1], np.mean([1 / 6, 1 / 7, 2 / 8, 0, 0]), rtol=1e-6
  )
  np.testing.assert_allclose(
    mass[2], np.mean([1 / 6, 1 / 7, 1 / 8, 1 / 9, 1 / 10]), rtol=1e-6
  )
  # 7 has logit 2. It is outside the groups at two steps, inside at three.
  gap = measures.logit_gap(logits, rows, steps)[0, 0]
  np.testing.assert_allclose(gap, np.mean([-2, -2, 2, 2, 2]), rtol=1e-6)


def test_keys_in_order():
  rows = hints.sort_rows(VALUES)[:, :-1].astype(jnp.float32)
  weights = jnp.broadcast_to(rows[:, None, None], (2, 1, 5, 10))
  ordered = measures.order_by_value(weights, VALUES)[0, 0, 3]
  np.testing.assert_array_equal(
    ordered, tokens(Token.BOS, 1, 3, 7, 7, Token.SORT, 1, 3, 7, 7)
  )


def test_entropy_and_its_match():
  """Uniform logits have a known entropy, and a known scale is recovered."""
  even = measures.entropy(jnp.where(SEEN, jnp.zeros((2, 1, 5, 10)), -1e30))
  np.testing.assert_allclose(even, np.log(np.arange(6, 11)).mean(), rtol=1e-5)
  logits = jax.random.normal(jax.random.key(0), (4, 3, 5, 10))
  logits = jnp.where(SEEN, logits, -1e30)
  scales = jnp.array([0.5, 1.0, 3.0])
  wanted = measures.entropy(logits, scales)
  found = measures.match_entropy(logits, wanted)
  np.testing.assert_allclose(found, scales, rtol=1e-3)


def test_circuit_equals_the_attention_logits_of_the_first_layer():
  config = ModelConfig(width=32, num_heads=2, feed_forward_width=32)
  model = Transformer(config, 64, rngs=nnx.Rngs(0))
  row = jnp.array([1, 40, 3, 50])
  maps = measures.qk_circuit(model, row)
  assert maps.shape == (2, 2, 4, 4)
  seen = {}
  model(row[None], hooks=(Hook(observe=seen.__setitem__), Hook()))
  np.testing.assert_allclose(
    np.tril(maps[0]), np.tril(seen['logits'][0]), rtol=1e-4, atol=1e-6
  )


def test_correlations():
  x = np.array([[1.0, 2.0], [3.0, 10.0]])
  result = measures.correlations(x, x**2)
  assert result['spearman'] == 1 and 0.9 < result['pearson'] < 1
  assert measures.correlations(x, -x)['pearson'] < -0.999
