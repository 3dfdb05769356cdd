"""Probes on residuals that are linear in their targets."""

import numpy as np
import pytest

from hinting.sorting.analysis import measures, probes

NUM_VALUES = 12


def draw(length, seed):
  rng = np.random.default_rng(seed)
  return rng.integers(1, NUM_VALUES + 1, (40, length))


def residuals(values, seed=0):
  """Return noise and a layer that encodes all targets, [B, 2, L, D]."""
  rng = np.random.default_rng(seed)
  targets = probes.probe_targets(measures.answer_steps(values))
  one_hot = np.eye(NUM_VALUES + 1)
  columns = np.concatenate(
    [
      one_hot[targets['value']],
      one_hot[targets['successor']],
      np.stack([targets['copies left'], targets['is repeat']], -1),
    ],
    -1,
  )
  count, steps, width = columns.shape
  encoded = np.zeros((count, 2 * steps, width + 1))
  encoded[:, steps:, :width] = columns
  encoded[:, steps:, -1] = 1
  mixing = np.random.default_rng(9).normal(size=(width + 1, width + 1))
  noise = rng.normal(size=encoded.shape)
  return np.stack([noise, encoded @ mixing + 3], 1)


@pytest.mark.slow
def test_probes_generalize_to_longer_lists():
  short, long = [draw(n, n) for n in (4, 8)], draw(16, 16)
  fitted = probes.fit(list(map(residuals, short)), short, NUM_VALUES)
  scores = probes.score(fitted, residuals(long, 1), long)
  assert set(scores) == set(probes.PROBES)
  for name, (noise, encoded) in scores.items():
    assert encoded > 0.98, name
    assert noise < 0.7, name


def test_ridge_is_least_squares_with_an_offset():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(50, 3)) + 5
  outputs = rng.normal(size=(50, 2))
  weights = probes.fit_ridge(inputs, outputs, 1e-12)
  padded = np.column_stack([inputs, np.ones(50)])
  expected = np.linalg.lstsq(padded, outputs, rcond=None)[0]
  np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-8)
  strong = probes.fit_ridge(inputs, outputs, 1e9)
  np.testing.assert_allclose(
    probes.apply_ridge(strong, inputs),
    outputs.mean(0)[None].repeat(50, 0),
    atol=1e-6,
  )


def test_scores():
  is_true = np.array([True, False, True, False])
  assert probes.roc_auc(np.array([3.0, 1, 4, 2]), is_true) == 1
  assert probes.roc_auc(np.array([1.0, 3, 2, 4]), is_true) == 0
  assert probes.roc_auc(np.zeros(4), is_true) == 0.5
  assert probes.roc_auc(np.array([1.0, 1, 4, 2]), is_true) == 0.625
  assert np.isnan(probes.roc_auc(np.ones(2), np.array([True, True])))
  true = np.arange(4.0)
  assert probes.r_squared(true, true) == 1
  assert probes.r_squared(np.full(4, 1.5), true) == 0
