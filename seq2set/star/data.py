"""Star graphical models in NumPy: a head, and leaves that depend only on it.

Each variable takes one of ten symbols. The distribution of the head is
softmax(beta z) with standard normal z. Each leaf has such a distribution for
each symbol of the head. Distributions are uniform for beta = 0 and nearly
deterministic for large beta. The paper does not say how it varies the
randomness.

Axes: T variables, the head first; K symbols.
"""

from typing import NamedTuple

import numpy as np

NUM_SYMBOLS = 10


class Star(NamedTuple):
  """A model: log p of the head [K] and of the leaves [T - 1, K, K].

  The second axis of `log_leaves` is the symbol of the head.
  """

  log_head: np.ndarray
  log_leaves: np.ndarray


def make(num_variables: int, beta: float, seed: int) -> Star:
  """Sample a model.

  Args:
    num_variables: T.
    beta: inverse temperature of the distributions, at least 0.
    seed: seed of the model.
  """
  rng = np.random.default_rng(seed)
  shape = num_variables - 1, NUM_SYMBOLS, NUM_SYMBOLS
  return Star(
    _log_softmax(beta * rng.normal(size=NUM_SYMBOLS)),
    _log_softmax(beta * rng.normal(size=shape)),
  )


def sample(star: Star, count: int, rng: np.random.Generator) -> np.ndarray:
  """Sample the symbols of `count` examples: int32 [count, T], head first."""
  head = _categorical(star.log_head, rng.random((count, 1)))[:, 0]
  uniform = rng.random((count, len(star.log_leaves)))
  leaves = [
    _categorical(log_leaf[head], uniform[:, [leaf]])[:, 0]
    for leaf, log_leaf in enumerate(star.log_leaves)
  ]
  return np.stack([head, *leaves], 1).astype(np.int32)


def log_p(star: Star, symbols: np.ndarray) -> np.ndarray:
  """Compute log p of examples [..., T], in nats."""
  head, leaves = symbols[..., 0], symbols[..., 1:]
  index = np.arange(len(star.log_leaves)), head[..., None], leaves
  return star.log_head[head] + star.log_leaves[index].sum(-1)


def _log_softmax(x: np.ndarray) -> np.ndarray:
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _categorical(log_p: np.ndarray, uniform: np.ndarray) -> np.ndarray:
  """Map uniform samples [..., n] in [0, 1) to symbols."""
  ends = np.exp(log_p).cumsum(-1)
  index = (uniform[..., None] >= ends[..., None, :]).sum(-1)
  return np.minimum(index, NUM_SYMBOLS - 1)
