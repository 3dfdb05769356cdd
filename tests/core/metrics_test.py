"""Metrics: weighted means that merge like concatenation; known intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.metrics import Metric, Perplexity, wilson_interval


def test_mean_of_all_values():
  assert Metric.mean(jnp.array([[1, 2], [3, 6]])).result() == 3


def test_weights_broadcast_and_exclude_values():
  values = jnp.array([[1.0, 2.0], [30.0, 40.0]])
  assert Metric.mean(values, jnp.array([[1.0], [0.0]])).result() == 1.5
  assert Metric.mean(values, jnp.array([[1.0], [3.0]])).result() == 26.625


def test_curve_keeps_the_other_axes():
  curve = Metric.mean(
    jnp.arange(12.0).reshape(2, 3, 2), jnp.array([[0], [2], [2]]), axis=1
  )
  np.testing.assert_array_equal(curve.result(), [[3, 4], [9, 10]])
  np.testing.assert_array_equal(curve.weight, [[4, 4], [4, 4]])


def test_an_index_selects_a_part():
  curve = Metric.mean(
    jnp.arange(6.0).reshape(3, 2), axis=1, is_independent=False
  )
  part = curve[2]
  assert (part.total, part.weight, part.is_independent) == (9, 2, False)
  assert isinstance(Perplexity.mean(jnp.ones(3), axis=())[0], Perplexity)


def test_merge_is_concatenation():
  rng = np.random.default_rng(0)
  values = rng.integers(0, 9, 10)
  weights = rng.integers(0, 3, 10)
  merged = Metric.mean(values[:3], weights[:3])
  rest = Metric.mean(values[3:], weights[3:])
  merged = jax.tree.map(jnp.add, merged, rest)
  assert merged.result() == Metric.mean(values, weights).result()
  assert merged.result() == np.float32((values * weights).sum() / weights.sum())


def test_sums_of_dependent_samples_are_dependent():
  metric = Metric.mean(jnp.ones((2, 3)), axis=1, is_independent=False)
  summed = jax.tree.map(lambda x: x.sum(0), metric)
  assert not summed.is_independent and summed.result() == 1
  assert Metric.mean(jnp.ones(2)).is_independent


def test_booleans_are_shares():
  assert Metric.mean(jnp.array([True, False, True, True])).result() == 0.75


@pytest.mark.parametrize('kind', [Metric, Perplexity])
def test_results_of_host_values_stay_on_the_host(kind):
  """An operation on the device would wait for the call that runs there."""
  result = kind(np.float32(6), np.float32(3)).result()
  assert not isinstance(result, jax.Array)
  expected = kind(jnp.float32(6), jnp.float32(3)).result()
  np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_mean_without_weight_is_nan():
  assert np.isnan(Metric.mean(jnp.ones(3), jnp.zeros(3)).result())


@pytest.mark.parametrize(
  'successes, count, interval',
  [
    (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, Table I, method 3
    (15, 148, (0.0624, 0.1605)),
    (0, 20, (0.0, 0.1611)),
    (1, 29, (0.0061, 0.1718)),
    (10, 10, (0.7225, 1.0)),
    (0, 0, (0.0, 1.0)),
  ],
)
def test_wilson_interval(successes, count, interval):
  low_high = wilson_interval(float(successes), float(count))
  assert low_high == pytest.approx(interval, abs=5e-5)
