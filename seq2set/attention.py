"""Attention over memories (Vinyals et al. 2016, equations 4 to 6).

Axes: B batch, N elements, D width, Q queries.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from core import layers
from core.errors import check_choice

Mask = Bool[Array | np.ndarray, 'B N']  # False for padding
ATTENTIONS = 'dot', 'additive'


class Attention(nnx.Module):
  """Scores memories by queries: f(m, q) in equation 4.

  Args:
    width: D.
    kind: 'dot' is m . q; 'additive' is v . tanh(W1 m + W2 q).
    rngs: random keys of the parameters.
  """

  def __init__(self, width: int, kind: str, *, rngs: nnx.Rngs):
    check_choice('attention', kind, ATTENTIONS)
    self.kind = kind
    if kind == 'additive':
      linear = functools.partial(
        nnx.Linear, kernel_init=layers.glorot, rngs=rngs
      )
      self.memory = linear(width, width)
      self.query = linear(width, width, use_bias=False)
      self.score = linear(width, 1, use_bias=False)

  def keys(self, memories: Float[Array, 'B N D']) -> Float[Array, 'B N D']:
    """Compute the keys; they do not depend on the queries."""
    return self.memory(memories) if self.kind == 'additive' else memories

  def __call__(
    self, keys: Float[Array, 'B N D'], queries: Float[Array, 'B Q D']
  ) -> Float[Array, 'B Q N']:
    """Compute the scores, before any mask or softmax."""
    if self.kind == 'additive':
      both = jnp.tanh(keys[:, None] + self.query(queries)[:, :, None])
      return self.score(both)[..., 0]
    return jnp.einsum('bnd,bqd->bqn', keys, queries)


def zero_masked(x: Float[Array, 'B N D'], mask: Mask | None) -> Array:
  """Replace masked elements with zeros, even if they are NaN."""
  return x if mask is None else jnp.where(mask[..., None], x, 0)


def attend(
  scores: Float[Array, 'B Q N'],
  memories: Float[Array, 'B N D'],
  mask: Mask | None,
) -> Float[Array, 'B Q D']:
  """Average the memories with the softmax of scores as weights (eqs. 5, 6).

  Args:
    scores: scores of `Attention`.
    memories: the memories.
    mask: False for elements without weight. The average over an empty set is 0.
  """
  if mask is None:
    weights = jax.nn.softmax(scores)
  else:
    weights = jax.nn.softmax(mask_scores(scores, mask))
    weights = jnp.where(mask[:, None], weights, 0)
  return jnp.einsum('bqn,bnd->bqd', weights, memories)


def mask_scores(
  scores: Float[Array, 'B Q N'], mask: Mask | None
) -> Float[Array, 'B Q N']:
  """Set the scores of masked elements to the lowest finite number."""
  lowest = jnp.finfo(scores.dtype).min
  return scores if mask is None else jnp.where(mask[:, None], scores, lowest)
