"""An LSTM scan equals single steps; dropout keeps the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core import layers

WIDTH, FEATURES, STEPS = 5, 3, 7


def make():
  return layers.LSTM(WIDTH, FEATURES, rngs=nnx.Rngs(0))


def inputs():
  return jax.random.normal(jax.random.key(1), (2, STEPS, FEATURES))


def test_scan_is_step_by_step():
  lstm = make()
  hidden, end = lstm.scan(inputs(), lstm.zeros(2))
  state = lstm.zeros(2)
  for t in range(STEPS):
    state = lstm.step(inputs()[:, t], state)
    np.testing.assert_allclose(hidden[:, t], state[0], atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, state
  )


def test_masked_inputs_do_not_change_the_state():
  lstm = make()
  mask = np.arange(STEPS) < np.array([[4], [0]])
  hidden, (end, _) = lstm.scan(inputs(), lstm.zeros(2), mask)
  expected, _ = lstm.scan(inputs()[:, :4], lstm.zeros(2))
  np.testing.assert_allclose(end[0], expected[0, -1], atol=1e-6)
  np.testing.assert_array_equal(hidden[0, 3:], np.tile(end[0], (4, 1)))
  np.testing.assert_array_equal(end[1], 0)


def test_scan_has_the_gradient_of_a_plain_loop():
  keys = jax.random.split(jax.random.key(2), 6)
  shapes = (4, 6), (3, 2, 6), (2, 4), (2, 1), (3, 2, 1), (2, 6)
  arrays = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]

  def step(state, gates, inputs, given):
    hidden, count = state
    gates = jnp.tanh(gates * given) + inputs
    return gates[:, :4] * hidden, count + gates[:, 4:].sum(1, keepdims=True)

  def ours(kernel, gates, hidden, count, inputs, given):
    return layers.lstm_scan(step, kernel, gates, (hidden, count), inputs, given)

  def plain(kernel, gates, hidden, count, inputs, given):
    state, hiddens = (hidden, count), []
    for t in range(len(gates)):
      step_gates = gates[t] + state[0] @ kernel
      state = step(state, step_gates, inputs[t], given)
      hiddens.append(state[0])
    return jnp.stack(hiddens), state

  def make_loss(function):
    def loss(*arrays):
      hiddens, (hidden, count) = function(*arrays)
      return (jnp.sin(hiddens).sum() + (hidden * count).sum()) ** 2

    return loss

  results = [jax.value_and_grad(make_loss(f), range(6)) for f in (ours, plain)]
  ours, expected = (jax.jit(f)(*arrays) for f in results)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), ours, expected
  )


def test_scan_of_no_steps():
  lstm = make()

  def end(kernel, gates):
    layer = make()
    layer.kernel[...] = kernel
    hidden, (end, _) = layer.scan_gates(gates, lstm.zeros(2))
    assert hidden.shape == (2, 0, WIDTH)
    return end.sum() + kernel.sum()

  value = jax.grad(end)(lstm.kernel[...], jnp.zeros((2, 0, 4 * WIDTH)))
  np.testing.assert_array_equal(value, 1)


def test_one_step_by_hand():
  lstm = make()
  x, h, c = np.ones(FEATURES), np.full(WIDTH, 0.5), np.full(WIDTH, -0.3)
  gates = np.concatenate([x, h]) @ lstm.kernel[...] + lstm.bias[...]
  input_, candidate, forget, output = np.split(gates, 4)
  cell = jax.nn.sigmoid(forget + 1) * c + jax.nn.sigmoid(input_) * np.tanh(
    candidate
  )
  hidden = jax.nn.sigmoid(output) * np.tanh(cell)
  ours = lstm.step(
    jnp.asarray(x)[None], (jnp.asarray(h)[None], jnp.asarray(c)[None])
  )
  np.testing.assert_allclose(ours[0][0], hidden, atol=1e-6)
  np.testing.assert_allclose(ours[1][0], cell, atol=1e-6)


def test_dropout():
  x = layers.dropout(jax.random.key(0), jnp.ones(10_000), 0.2)
  assert set(np.asarray(x).round(4)) == {0, 1.25}
  assert abs(x.mean() - 1) < 0.02


def test_mlp_applies_dropout_only_with_a_key():
  mlp = layers.MLP([4, 64, 2], dropout=(0.5,), rngs=nnx.Rngs(0))
  x = jnp.ones((1, 4))
  np.testing.assert_array_equal(mlp(x), mlp(x))
  assert (mlp(x) != mlp(x, jax.random.key(0))).any()


@pytest.mark.parametrize('strides', [1, 2, 3])
@pytest.mark.parametrize('kernel', [(3, 3), (2, 5)])
@pytest.mark.parametrize('use_bias', [True, False])
def test_convolution_matches_flax(strides, kernel, use_bias):
  options = {'strides': strides, 'use_bias': use_bias}
  ours, plain = (
    kind(3, 5, kernel, rngs=nnx.Rngs(0), **options)
    for kind in (layers.Conv, nnx.Conv)
  )
  for size in (9, 9), (8, 7):
    x = jax.random.normal(jax.random.key(1), (2, *size, 3))
    np.testing.assert_allclose(ours(x), plain(x), atol=1e-5)
