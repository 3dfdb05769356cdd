"""Orders of words, and windows that score each word once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2set.language_model import data

SENTENCE = 'This is a sentence .'.split()


@pytest.mark.parametrize(
  'order, expected',
  [
    ('natural', 'This is a sentence .'),
    ('reverse', '. sentence a is This'),
    ('three_words', 'a is This <pad> . sentence'),
  ],
)
def test_orders_match_the_papers_examples(order, expected):
  assert data.reorder(SENTENCE, order) == expected.split()


@given(st.lists(st.integers(2, 9)))
def test_every_order_can_be_undone(words):
  for order in data.ORDERS:
    twice = data.reorder(data.reorder(words, order, 0), order, 0)
    assert [word for word in twice if word] == words


def test_stream():
  words = data.stream([[5, 6], [7]], 'three_words', end=0, pad=9)
  np.testing.assert_array_equal(words, [9, 6, 5, 0, 9, 9, 7, 0])
  assert words.dtype == np.int32


@pytest.mark.parametrize('count', [1, 5, 6, 13])
def test_windows_score_each_word_once(count):
  words = np.arange(1, count + 1)
  cut = data.windows(words, length=3, context=2, end=0)
  assert cut['words'].shape == (-(-count // 3), 2 + 3 + 1)
  scored = cut['words'][:, -3:][cut['is_scored']]
  np.testing.assert_array_equal(scored, words)
  flat = np.concatenate([[0, 0, 0], words])
  for row, window in enumerate(cut['words']):
    known = flat[3 * row : 3 * row + 6]
    np.testing.assert_array_equal(window[: len(known)], known)
