"""Reordered sentences as one stream of words.

The orders are 'natural', 'reverse' and 'three_words', which pads each sentence
to a multiple of three words and reverses each group of three. In every order,
the end-of-sentence token follows the sentence; the paper does not specify this.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from core.errors import check_choice

ORDERS = 'natural', 'reverse', 'three_words'
PAD = '<pad>'


def reorder(words: Sequence, order: str, pad=PAD) -> list:
  """Reorder a sentence.

  Args:
    words: words or their indices.
    order: one of `ORDERS`.
    pad: pads the sentence for 'three_words'.

  >>> reorder('This is a sentence .'.split(), 'three_words')
  ['a', 'is', 'This', '<pad>', '.', 'sentence']
  """
  check_choice('order', order, ORDERS)
  words = list(words)
  if order == 'natural':
    return words
  if order == 'reverse':
    return words[::-1]
  words += [pad] * (-len(words) % 3)
  return [
    word
    for start in range(0, len(words), 3)
    for word in words[start : start + 3][::-1]
  ]


def stream(
  sentences: Iterable[Sequence[int]], order: str, *, end: int, pad: int
) -> np.ndarray:
  """Concatenate reordered sentences, each followed by `end`.

  Args:
    sentences: word indices of each sentence.
    order: one of `ORDERS`.
    end: index of the end-of-sentence token.
    pad: index of the padding of 'three_words'.

  Returns:
    int32 [n].
  """
  parts = [[*reorder(words, order, pad), end] for words in sentences]
  return np.concatenate(parts).astype(np.int32)


def windows(
  words: np.ndarray, *, length: int, context: int, end: int
) -> dict[str, np.ndarray]:
  """Cut a stream into windows such that each word is scored once.

  The context of the first window consists of `end` tokens.

  Args:
    words: int32 [m].
    length: number of words that a window scores.
    context: a window starts with `context + 1` words before them.
    end: index of the end-of-sentence token.

  Returns:
    'words' int32 [n, context + length + 1]; 'is_scored' bool [n, length], False
    for padding after the text.
  """
  count = -(-len(words) // length)
  padded = np.full(context + 1 + count * length, end, np.int32)
  padded[context + 1 : context + 1 + len(words)] = words
  rows = np.arange(count)[:, None] * length + np.arange(context + 1 + length)
  scored = np.arange(count * length).reshape(count, length) < len(words)
  return {'words': padded[rows], 'is_scored': scored}
