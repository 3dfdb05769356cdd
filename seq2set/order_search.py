"""The loss that searches over orders (Vinyals et al. 2016, section 5.2).

The model treats a set of tokens as a sequence in an order that it selects. The
loss is -log p of one order of each set, and the modes differ in how they select
it. Each token encodes its position, so any order can be undone.

Axes: B batch, N tokens of a set, D width, V vocabulary, O = N! orders,
P prefixes.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice

MODES = 'given', 'uniform', 'shared', 'sample', 'posterior', 'marginal'
MOST_ENUMERATED = 6  # the largest set whose orders are enumerated


class Known(NamedTuple):
  """Parameters of the tokens of a set, looked up once for all prefixes.

  Attributes:
    output: output embeddings [B, N, D].
    bias: output biases [B, N].
    gates: contributions to the gates of the LSTM [B, N, 4 D].
  """

  output: jax.Array
  bias: jax.Array
  gates: jax.Array


class TokenModel(nnx.Module):
  """An LSTM over tokens: p(token | previous tokens)."""

  def __init__(self, num_tokens: int, width: int, *, rngs: nnx.Rngs):
    init = layers.symmetric_uniform(0.08)
    self.embedding = nnx.Param(init(rngs.params(), (num_tokens, width)))
    self.first = nnx.Param(init(rngs.params(), (1, width)))
    self.lstm = layers.LSTM(width, rngs=rngs)
    self.output = nnx.Param(init(rngs.params(), (num_tokens, width)))
    self.bias = nnx.Param(jnp.zeros(num_tokens))

  def log_p(self, tokens: Int[Array, 'B N']) -> Float[Array, 'B N']:
    """Compute log p of each token given the tokens before it."""
    shape = (len(tokens), 1, self.first.shape[1])
    inputs = jnp.concatenate(
      [
        jnp.broadcast_to(self.first[...], shape),
        self.embedding[...][tokens[:, :-1]],
      ],
      1,
    )
    states, _ = self.lstm.scan(inputs, self.lstm.zeros(len(tokens)))
    return -layers.cross_entropy(self._logits(states), tokens)

  def _logits(self, states: Float[Array, '*B D']) -> Float[Array, '*B V']:
    bias = layers.expand_left(self.bias[...], states.ndim)
    return states @ self.output[...].T + bias

  def log_normalizer(self, states: Float[Array, '*B D']) -> Float[Array, '*B']:
    """Compute the log-sum-exp of the logits over the vocabulary."""
    return jax.nn.logsumexp(self._logits(states), -1)

  def start(self, batch: int) -> layers.State:
    """Return the state before the first token, [B, P, D] with P = 1."""
    first = jnp.broadcast_to(self.first[...], (batch, self.first.shape[1]))
    state = self.lstm.step(first, self.lstm.zeros(batch))
    return state[0][:, None], state[1][:, None]

  def look_up(self, tokens: Int[Array, 'B N']) -> Known:
    """Look up the parameters of tokens."""
    return Known(
      self.output[...][tokens],
      self.bias[...][tokens],
      self.lstm.gates(self.embedding[...][tokens]),
    )

  def scores(
    self, states: Float[Array, 'B P D'], known: Known
  ) -> Float[Array, 'B P N']:
    """Compute the logits of the known tokens only."""
    scores = jnp.einsum('bpd,bnd->bpn', states, known.output)
    return scores + known.bias[:, None]


def loss(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  key: jax.Array,
  *,
  mode: str,
  orders: np.ndarray | None = None,
  num_draws: int = 8,
  sharpness: float = 1.0,
  is_uniform: jax.Array | None = None,
) -> tuple[Float[Array, ' B'], Int[Array, 'B N']]:
  """Compute -log p of each set in the order that a mode selects, in nats.

  An order [N] lists positions in `tokens`. No gradient flows through its
  selection. The paper has 'uniform' and 'sample'; the last three are additions.

    given      the order of the data
    uniform    a uniformly random order
    sample     sampled token by token, in proportion to the probabilities of
               the remaining tokens
    shared     the order with the highest probability over the first
               `num_draws` sets together, used for all sets
    posterior  sampled in proportion to its probability
    marginal   all orders: -log of the sum of their probabilities; the returned
               order has the highest probability

  Args:
    model: the token model.
    tokens: tokens of each set, in the order of the data.
    key: random key.
    mode: one of `MODES`.
    orders: int [O, N], the orders to search; None searches all orders. 'given'
      ignores it. With a few orders, 'sample' samples one in proportion to its
      probability.
    num_draws: number of sets that select the order of 'shared'.
    sharpness: exponent of the probabilities in 'sample' and 'posterior'; 1 in
      the paper. Larger values favor orders with a high probability.
    is_uniform: scalar; if True, use 'uniform' in place of the mode. The paper
      does so for the first 1,000 updates, so that the search does not keep its
      first choices.

  Returns:
    The losses, and the selected orders.
  """
  check_choice('mode', mode, MODES)
  if orders is not None and len(orders) == 1:
    chosen = jnp.broadcast_to(jnp.asarray(orders[0]), tokens.shape)
    return _loss_of(model, tokens, chosen), chosen

  uniform = functools.partial(uniform_orders, key, tokens.shape, orders)
  if mode == 'marginal':

    def loss_of_uniform():
      chosen = uniform()
      return _loss_of(model, tokens, chosen), chosen

    sum_orders = functools.partial(_marginal, model, tokens, orders)
    if is_uniform is None:
      return sum_orders()
    return jax.lax.cond(is_uniform, loss_of_uniform, sum_orders)
  choose = functools.partial(
    _choose, model, tokens, key, mode, orders, num_draws, sharpness
  )
  if is_uniform is None:
    chosen = choose()
  else:
    chosen = jax.lax.cond(is_uniform, uniform, choose)
  return _loss_of(model, tokens, chosen), chosen


def _choose(
  model, tokens, key, mode, orders, num_draws, sharpness
) -> Int[Array, 'B N']:
  """Select one order of each set, by a mode other than 'marginal'."""
  count, model = tokens.shape[1], _frozen(model)
  if mode == 'given':
    return jnp.broadcast_to(jnp.arange(count), tokens.shape)
  if mode == 'uniform':
    return uniform_orders(key, tokens.shape, orders)
  if mode == 'sample' and orders is None:
    return sample_orders(model, tokens, key, sharpness=sharpness)[0]
  if mode == 'shared':
    log_p = try_orders(model, tokens[:num_draws], orders).sum(0)
    index = jnp.broadcast_to(log_p.argmax(), len(tokens))
  else:
    log_p = try_orders(model, tokens, orders)
    index = jax.random.categorical(key, sharpness * log_p)
  return _all_or(orders, count)[index]


def _marginal(model, tokens, orders):
  log_p = try_orders(model, tokens, orders)
  best = _all_or(orders, tokens.shape[1])[log_p.argmax(1)]
  return -jax.nn.logsumexp(log_p, 1), best


def _frozen(model):
  """Copy the model with parameters that receive no gradient."""
  graphdef, params = nnx.split(model)
  return nnx.merge(graphdef, jax.lax.stop_gradient(params))


def _loss_of(model, tokens, orders) -> Float[Array, ' B']:
  ordered = jnp.take_along_axis(tokens, orders, 1)
  return -model.log_p(ordered).sum(1)


def log_p_of_sets(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  key: jax.Array,
  *,
  orders: np.ndarray | None = None,
  num_draws: int,
) -> tuple[Float[Array, ' B'], Float[Array, ' B'], Int[Array, 'B N']]:
  """Compute log p of each set over all orders and in its best order.

  Small sets, or a few `orders`, are enumerated. For other sets, `num_draws`
  samples give the best order and an estimate of the sum over orders. The
  estimate is unbiased before the logarithm, so its logarithm is a little low.

  Returns:
    log p summed over all orders, log p of the best order, and this order.
  """
  batch, count = tokens.shape
  if orders is not None or count <= MOST_ENUMERATED:
    log_p = try_orders(model, tokens, orders)
    best = _all_or(orders, count)[log_p.argmax(1)]
    return jax.nn.logsumexp(log_p, 1), log_p.max(1), best
  repeated = jnp.repeat(tokens, num_draws, 0)
  drawn, log_weight = sample_orders(model, repeated, key, has_weight=True)
  log_p = -_loss_of(model, repeated, drawn).reshape(batch, num_draws)
  total = jax.nn.logsumexp(log_weight.reshape(batch, num_draws), 1)
  drawn = drawn.reshape(batch, num_draws, count)
  best = jnp.take_along_axis(drawn, log_p.argmax(1)[:, None, None], 1)
  return total - jnp.log(num_draws), log_p.max(1), best[:, 0]


def uniform_orders(
  key: jax.Array, shape: tuple[int, ...], orders: np.ndarray | None = None
) -> Int[Array, 'B N']:
  """Sample a uniformly random order for each set of `shape` (B, N)."""
  if orders is None:
    return jnp.argsort(jax.random.uniform(key, shape), 1)
  return jnp.asarray(orders)[jax.random.randint(key, shape[:1], 0, len(orders))]


def sample_orders(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  key: jax.Array,
  *,
  sharpness: float = 1.0,
  has_weight: bool = False,
) -> tuple[Int[Array, 'B N'], Float[Array, ' B']]:
  """Sample an order token by token, without replacement.

  Each token is sampled in proportion to its probability to the power of
  `sharpness`, which needs only the logits of the remaining tokens.

  Returns:
    The orders, and the log importance weights: log p(order) minus the log
    probability of the sample, for a sharpness of 1. The weights need a softmax
    over the vocabulary and are 0 unless `has_weight` is True.
  """
  batch, count = tokens.shape
  known = model.look_up(tokens)

  def step(carry, key):
    state, is_left = carry
    scores = model.scores(state[0], known)[:, 0]
    scores = jnp.where(is_left, scores, -jnp.inf)
    choice = jax.random.categorical(key, sharpness * scores)
    left = jnp.zeros(batch)
    if has_weight:
      left = jax.nn.logsumexp(scores, 1) - model.log_normalizer(state[0][:, 0])
    gates = jnp.take_along_axis(known.gates, choice[:, None, None], 1)
    is_left &= jnp.arange(count) != choice[:, None]
    return (model.lstm.step_gates(gates, state), is_left), (choice, left)

  carry = model.start(batch), jnp.ones((batch, count), bool)
  _, (orders, left) = jax.lax.scan(step, carry, jax.random.split(key, count))
  return orders.T, left.sum(0)


@functools.cache
def all_orders(count: int) -> np.ndarray:
  """Return all orders of `count` tokens, int [O, N], sorted."""
  assert count <= MOST_ENUMERATED
  return np.array(list(itertools.permutations(range(count))))


def _all_or(orders: np.ndarray | None, count: int) -> jax.Array:
  return jnp.asarray(all_orders(count) if orders is None else orders)


def try_orders(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  orders: np.ndarray | None = None,
) -> Float[Array, 'B O']:
  """Compute log p of each of `orders`; None means `all_orders`."""
  if orders is None:
    return enumerate_orders(model, tokens)
  each = [model.log_p(tokens[:, order]).sum(1) for order in np.asarray(orders)]
  return jnp.stack(each, 1)


def enumerate_orders(
  model: TokenModel, tokens: Int[Array, 'B N']
) -> Float[Array, 'B O']:
  """Compute log p of each order in `all_orders`.

  Orders share prefixes: five tokens need 206 states in place of 600. To save
  memory, the softmax over the vocabulary runs for one prefix at a time and is
  recomputed in the backward pass.
  """
  batch, count = tokens.shape
  orders, known = all_orders(count), model.look_up(tokens)
  normalize = jax.checkpoint(model.log_normalizer)
  state, log_p = model.start(batch), jnp.zeros((batch, 1))
  for depth in range(count):
    prefixes = orders[:: math.factorial(count - depth), :depth]  # [P, depth]
    normalizer = jax.lax.map(normalize, state[0].swapaxes(0, 1))  # [P, B]
    scores = model.scores(state[0], known) - normalizer.T[..., None]
    longer = orders[:: math.factorial(count - depth - 1), : depth + 1]
    parent = np.repeat(np.arange(len(prefixes)), count - depth)
    log_p = log_p[:, parent] + scores[:, parent, longer[:, -1]]
    if depth + 1 < count:
      hidden, cell = (x[:, parent] for x in state)
      gates = known.gates[:, longer[:, -1]]
      state = model.lstm.step_gates(gates, (hidden, cell))
  return log_p
