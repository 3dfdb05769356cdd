"""The weights set by hand sort, and fail where the theory predicts it."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.report import results
from hinting import vocabulary
from hinting.sorting import construction
from hinting.transformer import Transformer
from hinting.vocabulary import Token
from tests import learning


def draw(count, length, num_values, seed=0):
  key = jax.random.key(seed)
  return jax.random.randint(key, (count, length), 1, num_values + 1)


def decode(model, lists, num_tokens):
  """Return the answers to lists of any lengths as lists of tokens."""
  prompts = [
    [Token.BOS, *vocabulary.value_token(np.array(x, int)), Token.SORT]
    for x in lists
  ]
  size = max(map(len, prompts))
  starts = [size - len(prompt) for prompt in prompts]
  rows = [[Token.PAD] * s + p for s, p in zip(starts, prompts, strict=True)]
  run = functools.partial(Transformer.decode, num_tokens=num_tokens)
  tokens = learning.compiled(run, model, jnp.array(rows), jnp.array(starts))
  return tokens.tolist()


def answer(values):
  tokens = vocabulary.value_token(np.array(sorted(values), int))
  return [*tokens.tolist(), Token.EOS]


def test_decoding_sorts_every_short_list():
  """All lists of 0 to 4 values out of 3 are sorted."""
  lists = [x for n in range(5) for x in itertools.product((1, 2, 3), repeat=n)]
  model = construction.build(3, max_copies=4, margin=1)
  decoded = decode(model, lists, num_tokens=5)
  for values, tokens in zip(lists, decoded, strict=True):
    assert tokens[: len(values) + 1] == answer(values)


def test_decoding_sorts_a_hundred_values():
  (values,) = draw(1, 100, 100).tolist()
  model = construction.build(100, max_copies=20, margin=3)
  (tokens,) = decode(model, [values], num_tokens=101)
  assert tokens == answer(values)


@pytest.mark.parametrize('margin', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_same_weights_sort_at_every_length(margin):
  model = construction.build(30, max_copies=30, margin=margin)
  for length in 1, 20, 100:
    lists = draw(20, length, 30)
    assert construction.share_sorted(model, lists) == 1


def test_many_copies():
  model = construction.build(2, max_copies=300, margin=1)
  lists = jnp.array([[1] * 300, [2] * 300, [2] * 1 + [1] * 299])
  assert construction.share_sorted(model, lists) == 1


def test_frozen_weights_sort_up_to_the_predicted_length():
  """SORT gets less than half of the weight once 2 n + 1 exceeds 42 e^c."""
  model = construction.build(30, max_copies=30, margin=1, frozen_length=20)
  last = int((42 * math.e - 1) / 2)
  assert last == 56
  for length, share in (20, 1), (last, 1), (last + 1, 0), (60, 0):
    lists = draw(20, length, 30)
    assert construction.share_sorted(model, lists) == share


def test_copies_beyond_the_threshold_are_lost():
  """Values with four or more copies fail the threshold for two copies.

  With one of k copies left, (k - l) / (k + l) is below that threshold, 1/6, for
  k = 4 and more.
  """
  lists = np.asarray(draw(100, 30, 30))
  copies = (lists[:, :, None] == np.arange(1, 31)).sum(1).max(1)
  model = construction.build(30, max_copies=2, margin=3)
  assert {3, 4} <= set(copies.tolist())
  for few, share in (copies <= 3, 1), (copies >= 4, 0):
    assert construction.share_sorted(model, jnp.array(lists[few])) == share


def test_bad_sizes():
  with pytest.raises(UserError, match='num_values=0'):
    construction.build(0, max_copies=1, margin=1)
  with pytest.raises(UserError, match='max_copies=0'):
    construction.build(5, max_copies=0, margin=1)


def test_lists_of_few_values():
  lists = construction.draw_few(jax.random.key(0), 5, 200)
  assert [len(set(x)) for x in lists.tolist()] == [10] * 5
  assert len(set(lists.flatten().tolist())) > 10


@pytest.mark.slow
def test_table(monkeypatch, capsys, tmp_path):
  case = {'max_copies': 8, 'margin': 3}, construction.draw_uniform, (4,)
  monkeypatch.setattr(construction, '_CASES', {'name': case})
  construction.run(tmp_path)
  assert '| name | 100% |' in capsys.readouterr().out.splitlines()
  table = results.read(tmp_path / 'hinting/sorting/construction.json')
  share = table['rows']['name']['metrics']['accuracy_length_4']
  assert share['value'] == 1 and share['count'] == 100
  assert 0.96 < share['low'] < share['high'] == 1
