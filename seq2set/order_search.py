"""The loss that searches over orders (Vinyals et al. 2016, section 5.2).

The model treats a set of tokens as a sequence in some order. The loss selects
an order for each set, and is -log p of the set in this order. Each token
encodes its position, so any order can be undone.

The modes differ in how they select an order. The paper has 'uniform' and
'sample'; 'shared', 'posterior', and 'marginal' are additions.

  given      the order of the data
  uniform    a uniformly random order
  shared     one order for all sets: the one with the highest joint probability
             over a few of them
  sample     sampled token by token, in proportion to the probabilities of the
             remaining tokens
  posterior  sampled in proportion to its probability
  marginal   all orders: the loss is -log of the sum of their probabilities

Axes: B batch, N tokens of a set, D width, V vocabulary, O orders (N! if all
are searched), P prefixes.
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
MAX_ENUMERATED = 6  # the largest set whose orders are enumerated


class TokenParams(NamedTuple):
  """The parameters of the tokens of a set, gathered once for all prefixes.

  Attributes:
    output: output embeddings [B, N, D].
    bias: output biases [B, N].
    gates: contributions of the tokens to the gates of the LSTM [B, N, 4 D].
  """

  output: jax.Array
  bias: jax.Array
  gates: jax.Array


class TokenModel(nnx.Module):
  """An LSTM over tokens: p(token | previous tokens).

  Args:
    num_tokens: V.
    width: D.
    rngs: random keys of the parameters.
  """

  def __init__(self, num_tokens: int, width: int, *, rngs: nnx.Rngs):
    init = layers.symmetric_uniform(0.08)
    self.embedding = nnx.Param(init(rngs.params(), (num_tokens, width)))
    self.first = nnx.Param(init(rngs.params(), (1, width)))
    self.lstm = layers.LSTM(width, rngs=rngs)
    self.output = nnx.Param(init(rngs.params(), (num_tokens, width)))
    self.bias = nnx.Param(jnp.zeros(num_tokens))

  def log_p(self, tokens: Int[Array, 'B N']) -> Float[Array, 'B N']:
    """Compute log p of each token given the tokens before it, in nats."""
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

  def token_params(self, tokens: Int[Array, 'B N']) -> TokenParams:
    """Gather the parameters of tokens."""
    return TokenParams(
      self.output[...][tokens],
      self.bias[...][tokens],
      self.lstm.gates(self.embedding[...][tokens]),
    )

  def scores(
    self, states: Float[Array, 'B P D'], params: TokenParams
  ) -> Float[Array, 'B P N']:
    """Compute the logits of the tokens of each set only."""
    scores = jnp.einsum('bpd,bnd->bpn', states, params.output)
    return scores + params.bias[:, None]


def loss(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  key: jax.Array,
  *,
  mode: str,
  orders: np.ndarray | None = None,
  num_sets: int = 8,
  sharpness: float = 1.0,
  is_uniform: jax.Array | None = None,
) -> tuple[Float[Array, ' B'], Int[Array, 'B N']]:
  """Compute -log p of each set in the order that a mode selects, in nats.

  An order [N] lists positions in `tokens`. No gradient flows through its
  selection.

  Args:
    model: the token model.
    tokens: tokens of each set, in the order of the data.
    key: random key.
    mode: one of `MODES`; the module docstring describes them.
    orders: int [O, N], the orders to search; None searches all orders. A single
      order is used in every mode. Otherwise, 'given' ignores `orders`, and
      'sample' samples one of them in proportion to its probability.
    num_sets: for 'shared', the number of sets, from the start of the batch,
      whose joint probability selects the order.
    sharpness: exponent of the probabilities in 'sample' and 'posterior'; 1 in
      the paper. Larger values favor orders with a high probability.
    is_uniform: scalar; if True, use 'uniform' in place of the mode. The paper
      does so for the first 1,000 updates, so that the search does not lock in
      its first choices.

  Returns:
    The losses, and the selected orders; for 'marginal', the orders with the
    highest probability.
  """
  check_choice('mode', mode, MODES)
  if orders is not None and len(orders) == 1:
    chosen = jnp.broadcast_to(jnp.asarray(orders[0]), tokens.shape)
    return _order_loss(model, tokens, chosen), chosen

  uniform = functools.partial(uniform_orders, key, tokens.shape, orders)
  if mode == 'marginal':
    return _marginal_or_uniform(model, tokens, orders, uniform, is_uniform)
  select = functools.partial(
    _select_orders,
    model,
    tokens,
    key,
    mode=mode,
    orders=orders,
    num_sets=num_sets,
    sharpness=sharpness,
  )
  if is_uniform is None:
    chosen = select()
  else:
    chosen = jax.lax.cond(is_uniform, uniform, select)
  return _order_loss(model, tokens, chosen), chosen


def _select_orders(
  model, tokens, key, *, mode, orders, num_sets, sharpness
) -> Int[Array, 'B N']:
  """Select an order for each set, by a mode other than 'marginal'."""
  model = _stop_gradient(model)
  count = tokens.shape[1]
  if mode == 'given':
    return jnp.broadcast_to(jnp.arange(count), tokens.shape)
  if mode == 'uniform':
    return uniform_orders(key, tokens.shape, orders)
  if mode == 'sample' and orders is None:
    return sample_orders(model, tokens, key, sharpness=sharpness)[0]
  if mode == 'shared':
    log_p = log_p_of_orders(model, tokens[:num_sets], orders).sum(0)
    index = jnp.broadcast_to(log_p.argmax(), len(tokens))
  else:  # 'posterior', or 'sample' from given orders
    log_p = log_p_of_orders(model, tokens, orders)
    index = jax.random.categorical(key, sharpness * log_p)
  return _orders_or_all(orders, count)[index]


def _marginal_or_uniform(model, tokens, orders, uniform, is_uniform):
  """Compute the loss of 'marginal', or of 'uniform' if `is_uniform` is True."""

  def uniform_loss():
    chosen = uniform()
    return _order_loss(model, tokens, chosen), chosen

  def marginal_loss():
    log_p = log_p_of_orders(model, tokens, orders)
    best = _orders_or_all(orders, tokens.shape[1])[log_p.argmax(1)]
    return -jax.nn.logsumexp(log_p, 1), best

  if is_uniform is None:
    return marginal_loss()
  return jax.lax.cond(is_uniform, uniform_loss, marginal_loss)


def _stop_gradient(model):
  """Copy the model with parameters that receive no gradient."""
  graphdef, params = nnx.split(model)
  return nnx.merge(graphdef, jax.lax.stop_gradient(params))


def _order_loss(model, tokens, orders) -> Float[Array, ' B']:
  """Compute -log p of each set in its own order, in nats."""
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
  """Compute log p of each set, summed over all orders and in its best order.

  Orders are enumerated if the sets are small or `orders` is given. Otherwise,
  `num_draws` sampled orders give the best order and an importance-sampling
  estimate of the sum. The estimate is unbiased, so its logarithm is too low
  on average (Jensen's inequality).

  Args:
    model: the token model.
    tokens: tokens of each set, in the order of the data.
    key: random key of the samples.
    orders: int [O, N], the orders to search; None searches all orders.
    num_draws: number of sampled orders of each set.

  Returns:
    The log of the sum of p over the orders, and log p of the best order, both
    in nats; and the best order.
  """
  batch, count = tokens.shape
  if orders is not None or count <= MAX_ENUMERATED:
    log_p = log_p_of_orders(model, tokens, orders)
    best = _orders_or_all(orders, count)[log_p.argmax(1)]
    return jax.nn.logsumexp(log_p, 1), log_p.max(1), best
  repeated = jnp.repeat(tokens, num_draws, 0)
  drawn, log_weight = sample_orders(model, repeated, key, with_weights=True)
  log_p = -_order_loss(model, repeated, drawn).reshape(batch, num_draws)
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
  with_weights: bool = False,
) -> tuple[Int[Array, 'B N'], Float[Array, ' B']]:
  """Sample an order token by token, without replacement.

  Each token is sampled in proportion to its probability to the power of
  `sharpness`, which needs only the logits of the remaining tokens.

  Args:
    model: the token model.
    tokens: tokens of each set.
    key: random key.
    sharpness: see `loss`.
    with_weights: whether to compute the importance weights, which need a
      softmax over the vocabulary.

  Returns:
    The orders, and the log importance weights: log p of the order minus the log
    probability of sampling it. The weights assume a sharpness of 1, and are 0
    if `with_weights` is False.
  """
  batch, count = tokens.shape
  params = model.token_params(tokens)

  def step(carry, key):
    state, is_remaining = carry
    scores = model.scores(state[0], params)[:, 0]
    scores = jnp.where(is_remaining, scores, -jnp.inf)
    choice = jax.random.categorical(key, sharpness * scores)
    log_weight = jnp.zeros(batch)
    if with_weights:
      normalizer = model.log_normalizer(state[0][:, 0])
      log_weight = jax.nn.logsumexp(scores, 1) - normalizer
    gates = jnp.take_along_axis(params.gates, choice[:, None, None], 1)
    is_remaining &= jnp.arange(count)[None] != choice[:, None]
    carry = model.lstm.step_gates(gates, state), is_remaining
    return carry, (choice, log_weight)

  carry = model.start(batch), jnp.ones((batch, count), bool)
  keys = jax.random.split(key, count)
  _, (orders, log_weights) = jax.lax.scan(step, carry, keys)
  return orders.T, log_weights.sum(0)


@functools.cache
def all_orders(count: int) -> np.ndarray:
  """Return all orders of `count` tokens, int [O, N], in lexicographic order.

  Raises:
    ValueError: there are more than `MAX_ENUMERATED` tokens.
  """
  if count > MAX_ENUMERATED:
    raise ValueError(
      f'the orders of {count} tokens are too many to enumerate; use at most'
      f' {MAX_ENUMERATED} tokens, or give the orders to search'
    )
  return np.array(list(itertools.permutations(range(count))))


def _orders_or_all(orders: np.ndarray | None, count: int) -> jax.Array:
  return jnp.asarray(all_orders(count) if orders is None else orders)


def log_p_of_orders(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  orders: np.ndarray | None = None,
) -> Float[Array, 'B O']:
  """Compute log p of each set in each order, in nats.

  Args:
    model: the token model.
    tokens: tokens of each set, in the order of the data.
    orders: int [O, N]; None means `all_orders`.
  """
  if orders is None:
    return log_p_of_all_orders(model, tokens)
  log_p = [model.log_p(tokens[:, order]).sum(1) for order in np.asarray(orders)]
  return jnp.stack(log_p, 1)


def log_p_of_all_orders(
  model: TokenModel, tokens: Int[Array, 'B N']
) -> Float[Array, 'B O']:
  """Compute log p of each set in each order of `all_orders`, in nats.

  Orders share prefixes: five tokens need 206 states instead of 600. To save
  memory, the softmax over the vocabulary runs for one prefix at a time and is
  recomputed in the backward pass.
  """
  batch, count = tokens.shape
  orders = all_orders(count)
  params = model.token_params(tokens)
  normalize = jax.checkpoint(model.log_normalizer)
  state = model.start(batch)
  log_p = jnp.zeros((batch, 1))
  for depth in range(count):
    prefixes = orders[:: math.factorial(count - depth), :depth]  # [P, depth]
    normalizer = jax.lax.map(normalize, state[0].swapaxes(0, 1))  # [P, B]
    scores = model.scores(state[0], params) - normalizer.T[..., None]
    longer = orders[:: math.factorial(count - depth - 1), : depth + 1]
    parent = np.repeat(np.arange(len(prefixes)), count - depth)
    log_p = log_p[:, parent] + scores[:, parent, longer[:, -1]]
    if depth + 1 < count:
      hidden, cell = (x[:, parent] for x in state)
      gates = params.gates[:, longer[:, -1]]
      state = model.lstm.step_gates(gates, (hidden, cell))
  return log_p
