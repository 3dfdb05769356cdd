"""A recurrent relational network on candidates, which groups constrain (ours).

A puzzle is a set of positions, each of which holds one of K symbols. A node of
the graph is a *candidate*: symbol k at position n. A group is a set of
candidates of which exactly one is right: all symbols of a position, or one
symbol at all positions of a unit, such as a row of a Sudoku. Candidates that
share a group exchange messages. Palm et al. 2018 (eqs. 1-3) join positions
instead, and their network has to learn what a symbol means.

A message depends on its sender and on the kind of the group alone. So what a
candidate receives is the sum over its group minus its own message: a step costs
O(nodes), where messages for pairs of nodes would cost O(edges). Nothing depends
on the name of a symbol or on a position: permuting them permutes the outputs,
and the same weights serve any number of positions, symbols, and groups.

Axes: B batch, N positions, K symbols, D width of the states, G groups.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from core import layers

States = Float[Array, 'B N K D']


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
  """The positions of each group: the constant graph.

  Attributes:
    kinds: for each kind, bool [G, N]. Groups of a kind share their weights, and
      may differ in size, from two positions on.
  """

  kinds: Sequence[np.ndarray]

  def __post_init__(self):
    if any((members.sum(1) < 2).any() for members in self.kinds):
      raise ValueError('a group has fewer than two positions')


class CandidateNetwork(nnx.Module):
  """Passes messages between the candidates that share a group.

  With h a candidate's state and x its input, a step computes

    u_k = relu(A_k h + a_k), the message of a candidate to groups of kind k
    m_k = sum over its groups of kind k of the mean u_k of the other members
    h'  = norm(h + W relu(V [h, x, m_0, m_1, ...] + v))

  where x says whether the candidate is given, and norm divides a vector by its
  root mean square. Kind 0 are the positions, whose groups hold all symbols of
  one position. These are eqs. 1-3 of Palm et al. 2018 with messages that depend
  on the sender alone, means in place of sums, and a residual update in place of
  the LSTM.

  Args:
    num_kinds: kinds of groups of positions, each with weights of its own.
    width: D of the states.
    message_width: M of the messages of each kind.
    hidden_width: of the hidden layer of the update.
  """

  def __init__(
    self,
    num_kinds: int,
    *,
    width: int,
    message_width: int,
    hidden_width: int,
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    def linear(inputs, outputs, **options):
      return layers.Linear(
        inputs,
        outputs,
        kernel_init=layers.glorot,
        dtype=dtype,
        rngs=rngs,
        **options,
      )

    messages_width = (num_kinds + 1) * message_width
    self.width = width
    self.send = linear(width, messages_width)
    self.hidden = linear(width + messages_width, hidden_width, use_bias=False)
    self.inputs = nnx.Param(  # of candidates that are not given, and given
      layers.glorot(rngs.params(), (2, hidden_width))
    )
    self.update = linear(hidden_width, width)

  def init_states(
    self, given: Bool[Array, 'B N K'], key: jax.Array | None = None
  ) -> States:
    """Return the states before the first step: zeros, or random with a key."""
    shape = *given.shape, self.width
    if key is None:
      return jnp.zeros(shape)
    return _normalize(jax.random.normal(key, shape))

  def __call__(
    self,
    states: States,
    given: Bool[Array, 'B N K'],
    groups: Groups,
  ) -> States:
    """Return the states after one more step.

    Args:
      states: after the step before.
      given: the candidates that are known to be right.
      groups: of `num_kinds` kinds.
    """
    sent = jax.nn.relu(self.send(states))
    of_position, *of_kinds = jnp.split(sent, len(groups.kinds) + 1, axis=-1)
    others = of_position.sum(2, keepdims=True) - of_position
    received = [others / (states.shape[2] - 1)]
    for messages, members in zip(of_kinds, groups.kinds, strict=True):
      weights = members / (members.sum(1, keepdims=True) - 1)
      means = _combine(members.T, _combine(weights, messages))
      own = weights.sum(0)[None, :, None, None].astype(means.dtype)
      received.append(means - own * messages)
    known = jnp.concatenate([states.astype(sent.dtype), *received], axis=-1)
    hidden = self.hidden(known)
    unknown, is_given = self.inputs[...][:, None, None, None]
    hidden += jnp.where(given[..., None], is_given, unknown)
    return _normalize(states + self.update(jax.nn.relu(hidden)))


def _combine(weights, x):
  """Return linear combinations, over N, of x 'B N K D': 'B G K D'."""
  batch, _, num_symbols, width = x.shape
  weights = jnp.broadcast_to(weights.astype(x.dtype), (batch, *weights.shape))
  combined = weights @ x.reshape(batch, -1, num_symbols * width)
  return combined.reshape(batch, -1, num_symbols, width)


def _normalize(x):
  """Divide vectors by their root mean square."""
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
