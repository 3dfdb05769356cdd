"""Star models: probabilities sum to 1, samples follow, entropy is exact."""

import itertools

import numpy as np
import pytest

from seq2set.star import data


def test_probabilities_sum_to_one():
  star = data.make(3, 2.0, seed=0)
  everything = np.array(list(itertools.product(range(10), repeat=3)))
  np.testing.assert_allclose(np.exp(data.log_p(star, everything)).sum(), 1)


@pytest.mark.parametrize('beta', [0.0, 1.0, 8.0])
def test_entropy_is_the_mean_of_minus_log_p(beta):
  star = data.make(3, beta, seed=1)
  everything = np.array(list(itertools.product(range(10), repeat=3)))
  log_p = data.log_p(star, everything)
  assert data.entropy(star) == pytest.approx(-(np.exp(log_p) * log_p).sum())
  if beta == 0:
    assert data.entropy(star) == pytest.approx(3 * np.log(10))


def test_samples_follow_the_model():
  star = data.make(4, 1.0, seed=2)
  symbols = data.sample(star, 100_000, np.random.default_rng(0))
  assert symbols.shape == (100_000, 4)
  log_p = data.log_p(star, symbols)
  assert -log_p.mean() == pytest.approx(data.entropy(star), abs=0.02)
  pairs = np.zeros((10, 10))
  np.add.at(pairs, (symbols[:, 0], symbols[:, 3]), 1e-5)
  expected = np.exp(star.log_head[:, None] + star.log_leaves[2])
  np.testing.assert_allclose(pairs, expected, atol=0.005)
