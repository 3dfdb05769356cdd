"""Joined and packed rows match the lists that they are built from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinting import rows
from hinting.sorting import hints
from hinting.vocabulary import Token

KINDS = hints.kinds(32)


def draw(key, count):
  return jax.random.randint(key, (8,), 1, 33)


def make(kind, batch_max_length=8, count=16):
  # One compiled program is much faster than one per operation.
  make_pairs = jax.jit(
    functools.partial(
      rows.make_pairs,
      kind,
      max_length=8,
      batch_max_length=batch_max_length,
      draw_values=draw,
    )
  )
  return make_pairs(jax.random.split(jax.random.key(0), count))


def unpack(packed):
  """Return the tokens and the answer targets of each row of a packed row."""
  found = []
  for segment in range(packed['segments'].max() + 1):
    inside = packed['segments'] == segment
    indices = np.flatnonzero(inside)
    is_target = np.isin(packed['at'], indices) & (packed['weights'] > 0)
    found.append((packed['tokens'][inside], packed['targets'][is_target]))
  return found


def test_join():
  row = rows.join(
    [
      rows.special(Token.BOS),
      rows.numbers(jnp.array([3, 9, 4]), jnp.array(2)),
      rows.numbers(jnp.array([7, 7]), 1, is_answer=True),
      rows.special(Token.EOS, is_answer=True),
    ],
    7,
  )
  assert row.tokens.tolist() == [1, 34, 40, 38, 2, 0, 0]
  assert row.is_answer.tolist() == [False] * 3 + [True] * 2 + [False] * 2
  assert row.length == 5


def test_pairs_of_sorting_have_no_padding():
  batch = jax.tree.map(np.asarray, make(KINDS['sort']))
  assert batch['tokens'].shape == (16, 2 * 10 + 2 * 2)
  assert (batch['segments'] >= 0).all()
  assert (batch['weights'] == 1).all()
  lengths = []
  for index in range(16):
    pair = unpack({k: v[index] for k, v in batch.items()})
    for tokens, targets in pair:
      count = len(targets) - 1
      lengths.append(count)
      values = tokens[1 : 1 + count]
      assert tokens[0] == Token.BOS and tokens[1 + count] == Token.SORT
      np.testing.assert_array_equal(targets[:-1], np.sort(values))
      assert targets[-1] == Token.EOS
      np.testing.assert_array_equal(tokens[2 + count :], targets[:-1])
    assert sum(lengths[-2:]) == 10
  assert set(lengths) == set(range(2, 9))


def test_lengths_are_uniform():
  batch = make(KINDS['sort'], count=2000)
  first = (batch['segments'] == 0).sum(1) - 2  # each row has 2 n + 2 inputs
  counts = np.bincount(np.asarray(first) // 2, minlength=9)[2:]
  assert counts.min() > 2000 / 7 * 0.75 and counts.max() < 2000 / 7 * 1.25


@pytest.mark.parametrize('name', KINDS)
def test_positions_and_answers(name):
  batch = jax.tree.map(np.asarray, make(KINDS[name]))
  for index in range(16):
    packed = {k: v[index] for k, v in batch.items()}
    for segment in 0, 1:
      inside = packed['segments'] == segment
      np.testing.assert_array_equal(
        packed['positions'][inside], np.arange(inside.sum())
      )
    used = packed['weights'] > 0
    assert used[: used.sum()].all()
    assert (np.diff(packed['at'][used]) > 0).all()
    # Each target is the next input, except for the last target of a row.
    inputs = np.append(packed['tokens'], Token.PAD)
    segments = np.append(packed['segments'], -2)
    at, targets = packed['at'][used], packed['targets'][used]
    is_input = segments[at] == segments[at + 1]
    np.testing.assert_array_equal(inputs[at + 1][is_input], targets[is_input])


def test_shorter_lists_of_a_curriculum():
  batch = make(KINDS['sort'], batch_max_length=jnp.asarray(4))
  assert batch['tokens'].shape == (16, 24)
  assert (batch['weights'].sum(1) == 4 + 2 + 2).all()
  assert (batch['segments'][:, 16:] == -1).all()


def test_training_never_sees_longer_lists():
  with pytest.raises(AssertionError, match='at most 20'):
    rows.make_pairs(
      KINDS['sort'],
      jax.random.split(jax.random.key(0), 1),
      max_length=21,
      batch_max_length=21,
      draw_values=draw,
    )
