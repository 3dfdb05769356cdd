"""The loss that searches over orders (Vinyals et al. 2016, section 5.2).

A set of tokens is modelled as a sequence, in whatever order the model finds
best: the loss is -log p of one order of each set, and the modes differ in how
that is chosen. A token says by itself which part of the whole it is: so any
order can be undone.

Axes: B batch, N tokens of a set, D width, V vocabulary, O = N! orders,
P prefixes, K draws.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice

# given       as the data has them
# uniform     at random, each order as likely as any other
# max         the likeliest (the paper's eq. 9), found by trying all of them
# sample      drawn token by token, each in proportion to its probability among
#             those that are left (the paper's)
# posterior   drawn in proportion to its probability (ours)
# marginal    all: -log of the sum of their probabilities (ours)
# importance  several draws as in 'sample', weighted towards 'posterior' (ours)
MODES = (
  'given',
  'uniform',
  'max',
  'sample',
  'posterior',
  'marginal',
  'importance',
)
MOST_ENUMERATED = 6  # tokens whose orders can all be tried


class TokenModel(nnx.Module):
  """An LSTM over tokens: p(token | tokens before)."""

  def __init__(self, num_tokens: int, width: int, *, rngs: nnx.Rngs):
    init = nnx.initializers.uniform(2 * 0.08)
    self.embedding = nnx.Param(init(rngs.params(), (num_tokens, width)) - 0.08)
    self.first = nnx.Param(init(rngs.params(), (1, width)) - 0.08)
    self.lstm = layers.LSTM(width, rngs=rngs)
    self.output = nnx.Param(init(rngs.params(), (num_tokens, width)) - 0.08)
    self.bias = nnx.Param(jnp.zeros(num_tokens))

  def log_p(self, tokens: Int[Array, 'B N']) -> Float[Array, 'B N']:
    """log p of each token given those before it."""
    shape = (len(tokens), 1, self.first.shape[1])
    inputs = jnp.concatenate(
      [
        jnp.broadcast_to(self.first[...], shape),
        self.embedding[...][tokens[:, :-1]],
      ],
      1,
    )
    states, _ = self.lstm.scan(inputs, self.lstm.zeros(len(tokens)))
    return self._chosen(states, tokens) - self.log_normaliser(states)

  def _chosen(self, states, tokens) -> Float[Array, 'B N']:
    rows = self.output[...][tokens]
    return (states * rows).sum(-1) + self.bias[...][tokens]

  def start(self, batch: int) -> layers.State:
    """The state before the first token."""
    first = jnp.broadcast_to(self.first[...], (batch, self.first.shape[1]))
    return self.lstm.step(first, self.lstm.zeros(batch))

  def step(self, tokens: Int[Array, ' B'], state: layers.State) -> layers.State:
    """Takes in one token of each set."""
    return self.lstm.step(self.embedding[...][tokens], state)

  def scores(
    self, states: Float[Array, 'B D'], tokens: Int[Array, 'B N']
  ) -> Float[Array, 'B N']:
    """Logits of a few tokens, without the work of a whole softmax."""
    rows = self.output[...][tokens]
    return jnp.einsum('bd,bnd->bn', states, rows) + self.bias[...][tokens]

  def log_normaliser(self, states: Float[Array, '*B D']) -> Float[Array, '*B']:
    """log of the sum of exp of the logits of all tokens."""
    return jax.nn.logsumexp(states @ self.output[...].T + self.bias[...], -1)


def loss(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  key: jax.Array,
  *,
  mode: str,
  orders: np.ndarray | None = None,
  num_draws: int = 8,
  is_uniform: jax.Array | None = None,
) -> tuple[Float[Array, ' B'], Int[Array, 'B N']]:
  """-log p of each set by a mode, in nats, and an order that it chose.

  An order [N] lists positions in `tokens`. The choice has no gradient; for
  'marginal' the order is the likeliest, for 'importance' the first draw.

  Args:
    model: of the tokens.
    tokens: of each set, in the data's order.
    key: to draw orders.
    mode: one of `MODES`.
    orders: int [O, N], those that are searched; None: all. Of a few, 'sample'
      draws one in proportion to its probability.
    num_draws: K of 'importance', which searches all orders.
    is_uniform: a scalar, True: 'uniform' in place of the mode. The paper trains
      so for 1,000 updates before it searches, lest the first choices stay.
  """
  if is_uniform is not None:
    choose = functools.partial(
      loss, model, tokens, key, orders=orders, num_draws=num_draws
    )
    return jax.lax.cond(
      is_uniform, lambda: choose(mode='uniform'), lambda: choose(mode=mode)
    )
  check_choice('mode', mode, MODES)
  batch, count = tokens.shape
  if mode == 'marginal':
    log_p = try_orders(model, tokens, orders)
    likeliest = _all_or(orders, count)[log_p.argmax(1)]
    return -jax.nn.logsumexp(log_p, 1), likeliest
  if mode == 'given':
    chosen = jnp.broadcast_to(jnp.arange(count), tokens.shape)
  elif mode == 'uniform':
    chosen = uniform_orders(key, tokens.shape, orders)
  elif mode == 'sample' and orders is None:
    chosen, _ = sample_orders(_frozen(model), tokens, key)
  elif mode == 'importance':
    repeated = jnp.repeat(tokens, num_draws, 0)
    chosen, log_weight = sample_orders(_frozen(model), repeated, key)
    weight = jax.nn.softmax(log_weight.reshape(batch, num_draws))
    losses = _loss_of(model, repeated, chosen).reshape(batch, num_draws)
    return (weight * losses).sum(1), chosen[::num_draws]
  else:
    log_p = try_orders(_frozen(model), tokens, orders)
    if mode == 'max':
      index = log_p.argmax(1)
    else:
      index = jax.random.categorical(key, log_p)
    chosen = _all_or(orders, count)[index]
  return _loss_of(model, tokens, chosen), chosen


def _frozen(model):
  """The model, with parameters to which no gradient flows."""
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
  """log p of each set in any order, in its likeliest one, and that order.

  All orders, or all of `orders`, are tried where there are few tokens. Of more
  the likeliest of `num_draws` is taken, and the sum over orders is estimated
  from them: without bias before the logarithm, so a little low after it.
  """
  batch, count = tokens.shape
  if orders is not None or count <= MOST_ENUMERATED:
    log_p = try_orders(model, tokens, orders)
    likeliest = _all_or(orders, count)[log_p.argmax(1)]
    return jax.nn.logsumexp(log_p, 1), log_p.max(1), likeliest
  repeated = jnp.repeat(tokens, num_draws, 0)
  drawn, log_weight = sample_orders(model, repeated, key)
  log_p = -_loss_of(model, repeated, drawn).reshape(batch, num_draws)
  total = jax.nn.logsumexp(log_weight.reshape(batch, num_draws), 1)
  drawn = drawn.reshape(batch, num_draws, count)
  likeliest = jnp.take_along_axis(drawn, log_p.argmax(1)[:, None, None], 1)
  return total - jnp.log(num_draws), log_p.max(1), likeliest[:, 0]


def uniform_orders(
  key: jax.Array, shape: tuple[int, int], orders: np.ndarray | None = None
) -> Int[Array, 'B N']:
  """An order for each set of `shape` (B, N), each as likely as any other."""
  if orders is None:
    return jnp.argsort(jax.random.uniform(key, shape), 1)
  return jnp.asarray(orders)[jax.random.randint(key, shape[:1], 0, len(orders))]


def sample_orders(
  model: TokenModel, tokens: Int[Array, 'B N'], key: jax.Array
) -> tuple[Int[Array, 'B N'], Float[Array, ' B']]:
  """Draws an order token by token, among those that are left.

  Only the logits of the set's own tokens are needed to draw. The log weight is
  that of p(order) over the draw's own probability: the sum of the log of the
  probability of all that was left, at each step.
  """
  batch, count = tokens.shape

  def step(carry, key):
    state, is_left = carry
    scores = jnp.where(is_left, model.scores(state[0], tokens), -jnp.inf)
    choice = jax.random.categorical(key, scores)
    left = jax.nn.logsumexp(scores, 1) - model.log_normaliser(state[0])
    chosen = jnp.take_along_axis(tokens, choice[:, None], 1)[:, 0]
    is_left &= jnp.arange(count) != choice[:, None]
    return (model.step(chosen, state), is_left), (choice, left)

  carry = model.start(batch), jnp.ones((batch, count), bool)
  _, (orders, left) = jax.lax.scan(step, carry, jax.random.split(key, count))
  return orders.T, left.sum(0)


@functools.cache
def all_orders(count: int) -> np.ndarray:
  """All orders of `count` tokens, int [O, N], sorted."""
  assert count <= MOST_ENUMERATED
  return np.array(list(itertools.permutations(range(count))))


def _all_or(orders: np.ndarray | None, count: int) -> jax.Array:
  return jnp.asarray(all_orders(count) if orders is None else orders)


def try_orders(
  model: TokenModel,
  tokens: Int[Array, 'B N'],
  orders: np.ndarray | None = None,
) -> Float[Array, 'B O']:
  """log p of each of `orders`, or of all of them as `all_orders` has them."""
  if orders is None:
    return enumerate_orders(model, tokens)
  each = [model.log_p(tokens[:, order]).sum(1) for order in np.asarray(orders)]
  return jnp.stack(each, 1)


def enumerate_orders(
  model: TokenModel, tokens: Int[Array, 'B N']
) -> Float[Array, 'B O']:
  """log p of every order, as `all_orders` has them.

  Orders share their prefixes: of five tokens 206 states in place of 600.
  """
  batch, count = tokens.shape
  orders = all_orders(count)
  state, log_p = model.start(batch), jnp.zeros((batch, 1))
  for depth in range(count):
    prefixes = orders[:: math.factorial(count - depth), :depth]  # [P, depth]
    hidden = state[0].reshape(batch, len(prefixes), -1)
    rows = jnp.repeat(tokens, len(prefixes), 0)
    scores = model.scores(state[0], rows).reshape(batch, len(prefixes), count)
    scores -= model.log_normaliser(hidden)[..., None]
    longer = orders[:: math.factorial(count - depth - 1), : depth + 1]
    parent = np.repeat(np.arange(len(prefixes)), count - depth)
    log_p = log_p[:, parent] + scores[:, parent, longer[:, -1]]
    if depth + 1 < count:
      chosen = tokens[:, longer[:, -1]].ravel()
      state = tuple(
        x.reshape(*hidden.shape)[:, parent].reshape(-1, x.shape[-1])
        for x in state
      )
      state = model.step(chosen, state)
  return log_p
