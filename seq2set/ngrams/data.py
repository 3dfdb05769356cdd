"""5-grams as sets of tokens: a token is a word and its position.

The position in each token allows any order to be undone. Positions start at 0,
while those in section 5.2.1 of the paper start at 1.
"""

import itertools
from collections.abc import Sequence

import numpy as np

N = 5
NATURAL = (0, 1, 2, 3, 4)
BAD = (4, 0, 2, 3, 1)  # the paper's (5, 1, 3, 4, 2)


def windows(sentences: Sequence[Sequence[int]]) -> np.ndarray:
  """Return all 5-grams within sentences, int32 [n, 5]."""
  rows = [
    np.lib.stride_tricks.sliding_window_view(np.asarray(words, np.int32), N)
    for words in sentences
    if len(words) >= N
  ]
  return np.concatenate([np.zeros((0, N), np.int32), *rows])


def tokens(words: np.ndarray) -> np.ndarray:
  """Convert words [..., 5] in natural order to N * word + position."""
  return N * words + np.arange(N, dtype=words.dtype)


def kendall_tau(order: Sequence[int]) -> float:
  """Return the rank correlation with the natural order: -1 if reversed."""
  signs = [
    np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(N), 2)
  ]
  return float(np.mean(signs))
