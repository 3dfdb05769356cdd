"""Sentences in another order, as one stream of words.

Orders: 'natural'; 'reverse'; 'three_words', which fills each sentence up to a
multiple of three words and reverses each run of three. The end of the sentence
comes after it in every order (ours).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from core.errors import check_choice

ORDERS = 'natural', 'reverse', 'three_words'
PAD = '<pad>'


def reorder(words: Sequence, order: str, pad=PAD) -> list:
  """A sentence in one of `ORDERS`; `pad` fills it up.

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
  """All sentences one after the other, int32 [n], each with its end."""
  parts = [[*reorder(words, order, pad), end] for words in sentences]
  return np.concatenate(parts).astype(np.int32)


def windows(words: np.ndarray, *, length: int, context: int, end: int):
  """Cuts a stream into windows that score each of its words once.

  Returns:
    'words' int32 [n, context + length + 1]: of each window the first ones are
    what the model sees before the `length` words that are scored, and the text
    begins with ends of sentences; 'is_scored' bool [n, length], False beyond
    the text.
  """
  count = -(-len(words) // length)
  padded = np.full(context + 1 + count * length, end, np.int32)
  padded[context + 1 : context + 1 + len(words)] = words
  rows = np.arange(count)[:, None] * length + np.arange(context + 1 + length)
  scored = np.arange(count * length).reshape(count, length) < len(words)
  return {'words': padded[rows], 'is_scored': scored}
