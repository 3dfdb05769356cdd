"""A recurrent relational network on candidates with constraint groups (ours).

A puzzle is a set of positions, and each position holds one of K symbols. The
nodes of the graph are *candidates*: symbol k at position n. A group is a set of
candidates of which at most one is correct: all symbols at one position, or one
symbol at the positions of a unit, such as a row in Sudoku. Candidates that
share a group exchange messages. In contrast, the nodes of Palm et al. 2018
(equations 1-3) are positions, and the network has to learn what symbols mean.

A message depends only on its sender and on the kind of the group. Therefore, a
step computes one message per candidate and kind rather than one per edge, and a
candidate receives the sum over its group minus its own message. Nothing
depends on the names of symbols or positions: permuting them permutes the
outputs, and the same weights apply to any number of positions, symbols, and
groups.

Axes: B batch, N positions, K symbols, D width of the states, G groups.
"""

import dataclasses
import math
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
  """The constant graph, as the positions of each group.

  Attributes:
    kinds: for each kind of group, except kind 0 of `CandidateNetwork`, bool
      [G, N]: whether a group contains a position. Groups of a kind share their
      weights. Each group has at least two positions.
  """

  kinds: Sequence[np.ndarray]

  def __post_init__(self):
    for kind, members in enumerate(self.kinds):
      for group, size in enumerate(members.sum(1)):
        if size < 2:
          raise ValueError(
            f'the group kinds[{kind}][{group}] has size {size}, expected at'
            ' least 2: sums over a group are divided by sqrt(size - 1)'
          )


class CandidateNetwork(nnx.Module):
  """Passes messages between the candidates that share a group.

  Let h be the state of a candidate and x its input. A step computes

    u_k = relu(A_k h + a_k), the message of a candidate to groups of kind k
    m_k = sum over its groups of kind k of (sum u_k of the others) / sqrt(n - 1)
    h'  = norm(h + W relu(V [h, x, m_0, m_1, ...] + v) + w)

  where n is the size of the group, x tells whether the candidate is given, and
  norm divides a vector by its root mean square. Kind 0 has one group for each
  position, which contains all symbols there. These equations differ from
  equations 1-3 of Palm et al. 2018 in three ways: messages depend only on the
  sender, sums are scaled so that groups of all sizes send messages of similar
  size, and a residual update replaces the LSTM.

  Args:
    num_kinds: number of kinds of groups, except kind 0. Each has its own
      weights.
    width: width D of the states.
    message_width: width of the messages of each kind.
    hidden_width: width of the hidden layer of the update.
    dtype: type of the products; parameters and states are float32.
    rngs: random keys of the parameters.
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
    # Row 0 is added for candidates that are not given, row 1 for given ones.
    self.inputs = nnx.Param(layers.glorot(rngs.params(), (2, hidden_width)))
    self.update = linear(hidden_width, width)

  def init_states(self, given: Bool[Array, 'B N K']) -> States:
    """Return the states before the first step: zeros."""
    return jnp.zeros((*given.shape, self.width))

  def __call__(
    self,
    states: States,
    given: Bool[Array, 'B N K'],
    groups: Groups,
  ) -> States:
    """Return the states after one more step.

    Args:
      states: states after the previous step.
      given: which candidates are known to be correct.
      groups: groups of `num_kinds` kinds.
    """
    sent = jax.nn.relu(self.send(states))
    at_position, *by_kind = jnp.split(sent, len(groups.kinds) + 1, axis=-1)
    others = at_position.sum(2, keepdims=True) - at_position
    received = [others / math.sqrt(states.shape[2] - 1)]
    for messages, members in zip(by_kind, groups.kinds, strict=True):
      weights = members / np.sqrt(members.sum(1, keepdims=True) - 1)
      sums = _combine(members.T, _combine(weights, messages))
      # The sum of each group includes the candidate's own message.
      own = weights.sum(0)[None, :, None, None].astype(sums.dtype)
      received.append(sums - own * messages)
    features = jnp.concatenate([states.astype(sent.dtype), *received], axis=-1)
    hidden = self.hidden(features)
    if_open, if_given = self.inputs[...][:, None, None, None]
    hidden += jnp.where(given[..., None], if_given, if_open)
    return _normalize(states + self.update(jax.nn.relu(hidden)))


def _combine(weights, x):
  """Combine x 'B N K D' over N with weights [G, N]: 'B G K D'."""
  batch, _, num_symbols, width = x.shape
  # A batched product keeps the sharded batch axis first, so that devices
  # exchange only gradients. The product of an einsum puts the groups first.
  weights = jnp.broadcast_to(weights.astype(x.dtype), (batch, *weights.shape))
  combined = weights @ x.reshape(batch, -1, num_symbols * width)
  return combined.reshape(batch, -1, num_symbols, width)


def _normalize(x):
  """Divide vectors by their root mean square."""
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
