"""Parallel outputs: logits, the best permutation, and padding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from seq2set import assignment

BATCH, COUNT, WIDTH = 4, 5, 8


def make(seed=0):
  model = assignment.Assignment(WIDTH, attention='dot', rngs=nnx.Rngs(seed))
  memories, start = (
    jax.random.normal(jax.random.key(seed + k), shape)
    for k, shape in enumerate([(BATCH, COUNT, WIDTH), (BATCH, WIDTH)])
  )
  return model, memories, (start, start)


def test_best_permutation():
  model, memories, start = make()
  targets = jnp.zeros((BATCH, COUNT), int)
  log_p = np.asarray(jax.nn.log_softmax(model(memories, start, targets)))
  orders, totals = model.decode(
    memories, start, length=COUNT, avoid_repeats=True
  )
  for row, order, total in zip(log_p, orders, totals, strict=True):
    ranks = np.arange(COUNT)
    best = max(
      itertools.permutations(ranks), key=lambda p: row[ranks, list(p)].sum()
    )
    assert tuple(order.tolist()) == best
    np.testing.assert_allclose(total, row[ranks, list(best)].sum(), rtol=1e-5)


def test_independent_ranks_may_repeat_elements():
  model, memories, start = make()
  targets = jnp.zeros((BATCH, COUNT), int)
  logits = model(memories, start, targets)
  orders, totals = model.decode(memories, start, length=COUNT)
  np.testing.assert_array_equal(orders, logits.argmax(-1))
  best = jax.nn.log_softmax(logits).max(-1).sum(1)
  np.testing.assert_allclose(totals, best, rtol=1e-5)
  assert any(len(set(order.tolist())) < COUNT for order in orders)


def test_order_of_the_elements_does_not_matter():
  model, memories, start = make()
  targets = jnp.zeros((BATCH, COUNT), int)
  logits = model(memories, start, targets)
  turned = model(memories[:, ::-1], start, targets)
  np.testing.assert_allclose(logits, turned[..., ::-1], rtol=1e-4, atol=1e-5)


def test_padding_is_never_chosen_and_has_no_effect():
  model, memories, start = make()
  mask = np.arange(COUNT)[None].repeat(BATCH, 0) < 3
  other = jnp.where(mask[..., None], memories, 1e3)
  for avoid_repeats in False, True:
    options = {'avoid_repeats': avoid_repeats}
    orders, _ = model.decode(other, start, length=COUNT, mask=mask, **options)
    alone, _ = model.decode(memories[:, :3], start, length=3, **options)
    np.testing.assert_array_equal(orders[:, :3], alone)
