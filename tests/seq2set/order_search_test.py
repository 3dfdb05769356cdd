"""Orders that are sampled, enumerated, and weighted agree with brute force."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seq2set import order_search
from tests import learning

TOKENS = jnp.array([[3, 0, 5, 1], [2, 6, 4, 0]])


@functools.cache
def make_model(scale=6.0):
  model = order_search.TokenModel(7, 8, rngs=nnx.Rngs(0))
  graphdef, params = nnx.split(model)
  return nnx.merge(graphdef, jax.tree.map(lambda x: scale * x, params))


@functools.cache
def brute_force(model):
  orders = list(itertools.permutations(range(TOKENS.shape[1])))
  rows = TOKENS[:, np.array(orders)].reshape(-1, TOKENS.shape[1])
  log_p = learning.compiled(order_search.TokenModel.log_p, model, rows)
  return log_p.sum(1).reshape(len(TOKENS), -1)


def search(model, tokens, key, **options):
  """Compute `order_search.loss` as one compiled program."""
  loss = functools.partial(order_search.loss, **options)
  return learning.compiled(loss, model, tokens, key)


def test_log_p_is_a_distribution():
  model = make_model()
  pairs = jnp.array(list(itertools.product(range(7), repeat=2)))
  np.testing.assert_allclose(
    jnp.exp(model.log_p(pairs).sum(1)).sum(), 1, atol=1e-5
  )


def test_step_and_scores_agree_with_log_p():
  def both(model):
    state, total, known = model.start(2), 0, model.token_params(TOKENS)
    for k in range(4):
      score = model.scores(state[0], known)[:, 0, k]
      total += score - model.log_normalizer(state[0])[:, 0]
      state = model.lstm.step_gates(known.gates[:, [k]], state)
    return total, model.log_p(TOKENS).sum(1)

  total, expected = learning.compiled(both, make_model())
  np.testing.assert_allclose(total, expected, atol=1e-5)


def test_enumeration_agrees_with_brute_force():
  model = make_model()
  log_p = learning.compiled(order_search.log_p_of_all_orders, model, TOKENS)
  assert log_p.shape == (2, 24)
  np.testing.assert_allclose(log_p, brute_force(model), atol=1e-5)


def test_the_marginal_is_above_any_order():
  model, key = make_model(), jax.random.key(0)
  losses = {
    mode: search(model, TOKENS, key, mode=mode)[0]
    for mode in order_search.MODES
  }
  best = -brute_force(model).max(1)
  assert (losses['marginal'] <= best).all()
  for mode in 'given', 'uniform', 'shared', 'sample', 'posterior':
    assert (best <= losses[mode] + 1e-5).all()
  np.testing.assert_allclose(
    losses['given'], -model.log_p(TOKENS).sum(1), atol=1e-5
  )


def draws(model, mode, count=20_000, **options):
  """Return the share of draws of each order of the first set."""
  tokens = jnp.repeat(TOKENS[:1], count, 0)
  _, orders = search(model, tokens, jax.random.key(1), mode=mode, **options)
  rows = (orders[:, None] == order_search.all_orders(4)[None]).all(-1)
  assert (rows.sum(1) == 1).all()
  return np.asarray(rows.mean(0))


@functools.cache
def ancestral(model):
  """Return p of each order, sampled token by token, and its log weight."""
  p, weights, known = [], [], model.token_params(TOKENS[:1])
  for order in order_search.all_orders(4):
    state, log_q, weight, left = model.start(1), 0.0, 0.0, list(range(4))
    for k in order:
      scores = model.scores(state[0], known)[0, 0]
      among = jax.nn.logsumexp(scores[np.array(left)])
      log_q += scores[k] - among
      weight += among - model.log_normalizer(state[0])[0, 0]
      state = model.lstm.step_gates(known.gates[:, [k]], state)
      left.remove(k)
    p.append(jnp.exp(log_q))
    weights.append(weight)
  return np.array(p), np.array(weights)


def test_draws_follow_their_distributions():
  model = make_model()
  posterior = np.asarray(jax.nn.softmax(brute_force(model)[0]))
  q, _ = ancestral(model)
  assert np.abs(q - posterior).max() > 0.02  # they can be told apart
  expected = {
    'posterior': posterior,
    'sample': q,
    'uniform': np.full(24, 1 / 24),
  }
  for mode, p in expected.items():
    np.testing.assert_allclose(draws(model, mode), p, atol=0.012)


def test_sharpness_is_an_exponent_of_probabilities():
  model = make_model()
  log_p = brute_force(model)[0]
  power = np.asarray(jax.nn.softmax(5 * log_p))
  assert power.max() > 1.5 * jax.nn.softmax(log_p).max()
  np.testing.assert_allclose(
    draws(model, 'posterior', sharpness=5.0), power, atol=0.012
  )
  # A large sharpness selects the best remaining token at each step.
  orders = order_search.all_orders(4)
  greedy, known = [], model.token_params(TOKENS[:1])
  state = model.start(1)
  while len(greedy) < 4:
    scores = np.array(model.scores(state[0], known)[0, 0])
    scores[greedy] = -np.inf
    greedy.append(int(scores.argmax()))
    state = model.lstm.step_gates(known.gates[:, greedy[-1:]], state)
  share = draws(model, 'sample', 100, sharpness=1e6)
  assert share[(orders == greedy).all(1)] == 1


def test_importance_weights_recover_the_posterior():
  model = make_model()
  q, weights = ancestral(model)
  np.testing.assert_allclose(
    np.log(q) + weights, brute_force(model)[0], atol=1e-5
  )
  orders, log_weight = learning.compiled(
    functools.partial(order_search.sample_orders, with_weights=True),
    model,
    jnp.repeat(TOKENS[:1], 50, 0),
    jax.random.key(0),
  )
  rows = (orders[:, None] == order_search.all_orders(4)[None]).all(-1).argmax(1)
  np.testing.assert_allclose(log_weight, weights[rows], atol=1e-5)


def test_posterior_gradients_equal_the_marginals_in_expectation():
  model = make_model()
  graphdef, params = nnx.split(model)

  def mean_loss(params, mode):
    tokens = jnp.repeat(TOKENS, 4000, 0)
    losses, _ = order_search.loss(
      nnx.merge(graphdef, params),
      tokens,
      jax.random.key(2),
      mode=mode,
    )
    return losses.mean()

  grad = jax.jit(jax.grad(mean_loss), static_argnums=1)
  ours, exact = grad(params, 'posterior'), grad(params, 'marginal')
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
    np.testing.assert_allclose(a, b, atol=0.1 * jnp.abs(b).max() + 1e-3)


def test_order_selection_has_no_gradient():
  """A sampled order has the gradient of the same fixed order."""
  model = make_model()
  graphdef, params = nnx.split(model)
  key = jax.random.key(3)
  _, orders = search(model, TOKENS, key, mode='sample')
  ordered = jnp.take_along_axis(TOKENS, orders, 1)

  def drawn(params):
    model = nnx.merge(graphdef, params)
    return order_search.loss(model, TOKENS, key, mode='sample')[0].sum()

  def fixed(params):
    return -nnx.merge(graphdef, params).log_p(ordered).sum()

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    jax.jit(jax.grad(drawn))(params),
    jax.jit(jax.grad(fixed))(params),
  )


def test_sampled_estimates_agree_with_enumeration(monkeypatch):
  model, key = make_model(), jax.random.key(4)

  def log_p(num_draws):
    run = functools.partial(order_search.log_p_of_sets, num_draws=num_draws)
    return learning.compiled(run, model, TOKENS, key)

  exact = log_p(1)
  monkeypatch.setattr(order_search, 'MAX_ENUMERATED', 0)
  drawn = log_p(4000)
  np.testing.assert_allclose(drawn[0], exact[0], atol=0.05)
  np.testing.assert_allclose(drawn[1], exact[1], atol=1e-4)
  np.testing.assert_array_equal(drawn[2], exact[2])


@pytest.mark.parametrize('num_sets', [1, 8])
def test_shared_is_the_best_order_of_the_first_sets_together(num_sets):
  model = make_model()
  log_p = brute_force(model)
  together = log_p.sum(0).argmax()
  assert together not in log_p.argmax(1)
  _, chosen = search(
    model, TOKENS, jax.random.key(0), mode='shared', num_sets=num_sets
  )
  best = together if num_sets > 1 else log_p[0].argmax()
  np.testing.assert_array_equal(chosen, [order_search.all_orders(4)[best]] * 2)


SEARCHES = 'uniform', 'shared', 'sample', 'posterior', 'marginal'


@pytest.mark.parametrize('mode', SEARCHES)
def test_with_one_order_all_modes_have_its_loss(mode):
  model, order = make_model(), np.array([2, 0, 3, 1])
  losses, chosen = search(
    model, TOKENS, jax.random.key(0), mode=mode, orders=order[None]
  )
  expected = -model.log_p(TOKENS[:, order]).sum(1)
  np.testing.assert_allclose(losses, expected, atol=1e-5)
  np.testing.assert_array_equal(chosen, [order] * 2)


@pytest.mark.parametrize('mode', SEARCHES)
def test_only_the_given_orders_are_selected(mode):
  model, orders = make_model(), np.array([[2, 0, 3, 1], [0, 1, 2, 3]])
  _, chosen = search(model, TOKENS, jax.random.key(0), mode=mode, orders=orders)
  assert (chosen[:, None] == orders[None]).all(-1).any(1).all()


@pytest.mark.parametrize(
  'mode',
  [
    pytest.param(
      mode, marks=[] if mode in ('sample', 'posterior') else pytest.mark.slow
    )
    for mode in order_search.MODES
  ],
)
@pytest.mark.parametrize('is_uniform', [False, True])
def test_is_uniform_overrides_the_mode(mode, is_uniform):
  model, key = make_model(), jax.random.key(5)
  switched = jnp.asarray(is_uniform)
  losses, chosen = search(model, TOKENS, key, mode=mode, is_uniform=switched)
  expected = search(model, TOKENS, key, mode='uniform' if is_uniform else mode)
  np.testing.assert_allclose(losses, expected[0], atol=1e-5)
  np.testing.assert_array_equal(chosen, expected[1])
