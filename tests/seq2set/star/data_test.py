"""Star models: probabilities sum to 1, and samples follow them."""

import itertools

import numpy as np
import pytest

from seq2set.star import data


@pytest.mark.parametrize('beta', [0.0, 1.0, 8.0])
def test_probabilities_sum_to_one(beta):
  star = data.make(3, beta, seed=0)
  everything = np.array(list(itertools.product(range(10), repeat=3)))
  log_p = data.log_p(star, everything)
  np.testing.assert_allclose(np.exp(log_p).sum(), 1)
  if beta == 0:
    np.testing.assert_allclose(log_p, -3 * np.log(10))


def test_samples_follow_the_model():
  star = data.make(4, 1.0, seed=2)
  symbols = data.sample(star, 100_000, np.random.default_rng(0))
  assert symbols.shape == (100_000, 4)
  everything = np.array(list(itertools.product(range(10), repeat=4)))
  log_p = data.log_p(star, everything)
  mean = (np.exp(log_p) * log_p).sum()
  assert data.log_p(star, symbols).mean() == pytest.approx(mean, abs=0.02)
  pairs = np.zeros((10, 10))
  np.add.at(pairs, (symbols[:, 0], symbols[:, 3]), 1e-5)
  expected = np.exp(star.log_head[:, None] + star.log_leaves[2])
  np.testing.assert_allclose(pairs, expected, atol=0.005)
