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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice

MODES = (
  'given',
  'uniform',
  'max',
  'shared',
  'sample',
  'posterior',
  'marginal',
  'importance',
)
MOST_ENUMERATED = 6  # tokens whose orders can all be tried


class Known(NamedTuple):
  """What a model needs of the tokens of a set: looked up once, not per prefix.

  `output` [B, N, D] and `bias` [B, N] give their logits, `gates` [B, N, 4 D] is
  their share of the LSTM's.
  """

  output: jax.Array
  bias: jax.Array
  gates: jax.Array


class TokenModel(nnx.Module):
  """An LSTM over tokens: p(token | tokens before)."""

  def __init__(self, num_tokens: int, width: int, *, rngs: nnx.Rngs):
    init = layers.symmetric_uniform(0.08)
    self.embedding = nnx.Param(init(rngs.params(), (num_tokens, width)))
    self.first = nnx.Param(init(rngs.params(), (1, width)))
    self.lstm = layers.LSTM(width, rngs=rngs)
    self.output = nnx.Param(init(rngs.params(), (num_tokens, width)))
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
    return -layers.cross_entropy(self._logits(states), tokens)

  def _logits(self, states: Float[Array, '*B D']) -> Float[Array, '*B V']:
    bias = layers.expand_left(self.bias[...], states.ndim)
    return states @ self.output[...].T + bias

  def log_normaliser(self, states: Float[Array, '*B D']) -> Float[Array, '*B']:
    """log of the sum of exp of the logits of all tokens."""
    return jax.nn.logsumexp(self._logits(states), -1)

  def start(self, batch: int) -> layers.State:
    """The state before the first token, [B, P, D] with P = 1."""
    first = jnp.broadcast_to(self.first[...], (batch, self.first.shape[1]))
    state = self.lstm.step(first, self.lstm.zeros(batch))
    return state[0][:, None], state[1][:, None]

  def look_up(self, tokens: Int[Array, 'B N']) -> Known:
    """What the methods below need of tokens."""
    return Known(
      self.output[...][tokens],
      self.bias[...][tokens],
      self.lstm.gates(self.embedding[...][tokens]),
    )

  def scores(
    self, states: Float[Array, 'B P D'], known: Known
  ) -> Float[Array, 'B P N']:
    """Logits of the known tokens, without the work of a whole softmax."""
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
  """-log p of each set by a mode, in nats, and an order that it chose.

  An order [N] lists positions in `tokens`. Its choice has no gradient. Modes:

    given       as the data has them
    uniform     at random, each order as likely as any other
    max         the likeliest (the paper's eq. 9), found by trying all of them
    shared      one for all sets: the likeliest of a few together (ours)
    sample      drawn token by token, each in proportion to its probability
                among those that are left (the paper's)
    posterior   drawn in proportion to its probability (ours)
    marginal    all: -log of the sum of their probabilities (ours); the order
                returned is the likeliest
    importance  several draws as in 'sample', weighted towards 'posterior'
                (ours); the order returned is the first draw

  Args:
    model: of the tokens.
    tokens: of each set, in the data's order.
    key: to draw orders.
    mode: one of `MODES`.
    orders: int [O, N], those that are searched; None: all, as 'given' and
      'importance' always do. Of a few, 'sample' draws one in proportion to its
      probability.
    num_draws: K of 'importance'; of 'shared' the first so many sets choose.
    sharpness: power of the probabilities that 'sample' and 'posterior' draw by
      (ours); 1: the paper's. Above it likely orders are trained more often.
    is_uniform: a scalar, True: 'uniform' in place of the mode. The paper trains
      so for 1,000 updates before it searches, lest the first choices stay.
  """
  check_choice('mode', mode, MODES)
  if orders is not None and len(orders) == 1:
    chosen = jnp.broadcast_to(jnp.asarray(orders[0]), tokens.shape)
    return _loss_of(model, tokens, chosen), chosen
  uniform = functools.partial(uniform_orders, key, tokens.shape, orders)
  if mode in ('marginal', 'importance'):
    if mode == 'marginal':
      weigh = functools.partial(_marginal, model, tokens, orders)
    else:
      weigh = functools.partial(_importance, model, tokens, key, num_draws)
    if is_uniform is None:
      return weigh()

    def of_uniform():
      chosen = uniform()
      return _loss_of(model, tokens, chosen), chosen

    return jax.lax.cond(is_uniform, of_uniform, weigh)
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
  """One order of each set, by a mode that weighs none."""
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
  elif mode == 'max':
    index = try_orders(model, tokens, orders).argmax(1)
  else:
    log_p = try_orders(model, tokens, orders)
    index = jax.random.categorical(key, sharpness * log_p)
  return _all_or(orders, count)[index]


def _marginal(model, tokens, orders):
  log_p = try_orders(model, tokens, orders)
  likeliest = _all_or(orders, tokens.shape[1])[log_p.argmax(1)]
  return -jax.nn.logsumexp(log_p, 1), likeliest


def _importance(model, tokens, key, num_draws):
  repeated = jnp.repeat(tokens, num_draws, 0)
  chosen, log_weight = sample_orders(
    _frozen(model), repeated, key, has_weight=True
  )
  weight = jax.nn.softmax(log_weight.reshape(-1, num_draws))
  losses = _loss_of(model, repeated, chosen).reshape(-1, num_draws)
  return (weight * losses).sum(1), chosen[::num_draws]


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
  drawn, log_weight = sample_orders(model, repeated, key, has_weight=True)
  log_p = -_loss_of(model, repeated, drawn).reshape(batch, num_draws)
  total = jax.nn.logsumexp(log_weight.reshape(batch, num_draws), 1)
  drawn = drawn.reshape(batch, num_draws, count)
  likeliest = jnp.take_along_axis(drawn, log_p.argmax(1)[:, None, None], 1)
  return total - jnp.log(num_draws), log_p.max(1), likeliest[:, 0]


def uniform_orders(
  key: jax.Array, shape: tuple[int, ...], orders: np.ndarray | None = None
) -> Int[Array, 'B N']:
  """An order for each set of `shape` (B, N), each as likely as any other."""
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
  """Draws an order token by token, among those that are left.

  In proportion to their probabilities, to the power of `sharpness`.
  Only the logits of the set's own tokens are needed to draw. The log weight is
  that of p(order) over the draw's own probability: the sum of the log of the
  probability of all that was left, at each step, for a sharpness of 1. It needs
  whole softmaxes, and is 0 unless `has_weight`.
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
      left = jax.nn.logsumexp(scores, 1) - model.log_normaliser(state[0][:, 0])
    gates = jnp.take_along_axis(known.gates, choice[:, None, None], 1)
    is_left &= jnp.arange(count) != choice[:, None]
    return (model.lstm.step_gates(gates, state), is_left), (choice, left)

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

  Orders share their prefixes: of five tokens 206 states in place of 600. The
  softmax over all tokens is taken one prefix after the other, and again in the
  backward pass: of all at once it takes gigabytes.
  """
  batch, count = tokens.shape
  orders, known = all_orders(count), model.look_up(tokens)
  normalise = jax.checkpoint(model.log_normaliser)
  state, log_p = model.start(batch), jnp.zeros((batch, 1))
  for depth in range(count):
    prefixes = orders[:: math.factorial(count - depth), :depth]  # [P, depth]
    normaliser = jax.lax.map(normalise, state[0].swapaxes(0, 1))  # [P, B]
    scores = model.scores(state[0], known) - normaliser.T[..., None]
    longer = orders[:: math.factorial(count - depth - 1), : depth + 1]
    parent = np.repeat(np.arange(len(prefixes)), count - depth)
    log_p = log_p[:, parent] + scores[:, parent, longer[:, -1]]
    if depth + 1 < count:
      hidden, cell = (x[:, parent] for x in state)
      gates = known.gates[:, longer[:, -1]]
      state = model.lstm.step_gates(gates, (hidden, cell))
  return log_p
