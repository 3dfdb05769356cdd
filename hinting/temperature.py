"""A length-dependent softmax, the "tempered softmax" of Awasthi & Gupta (2023).

In the paper, parameters of the softmax depend on the length. We do not know
their form; the forms below are ours. The logits of a query that attends to M
keys are multiplied by a scale s(M):

  none        1
  affine_log  a log M + b     a and b per head; s(32) = 1 at initialization
  log         log M / log 32
  per_query   1 + softplus(w . q) log(M) ** g     w and g per head, query q

Axes: B batch, L queries, H heads, D2 width of a head.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

KINDS = 'none', 'affine_log', 'log', 'per_query'
_LOG_32 = math.log(32)  # the scale is 1 for 32 keys


class Temperature(nnx.Module):
  """The scale of the attention logits of a layer.

  Args:
    kind: one of `KINDS`.
    num_heads: H.
    head_width: D2.
    rngs: random keys of the parameters.
  """

  def __init__(
    self, kind: str, num_heads: int, head_width: int, *, rngs: nnx.Rngs
  ):
    self.kind = kind
    heads = jnp.ones(num_heads)
    if kind == 'affine_log':
      self.slope = nnx.Param(heads / _LOG_32)
      self.offset = nnx.Param(jnp.zeros(num_heads))
    if kind == 'per_query':
      # A vector, because weight decay applies to all matrices.
      normal = jax.random.normal(rngs.params(), (num_heads * head_width,))
      self.direction = nnx.Param(0.02 * normal)
      self.power = nnx.Param(heads)

  def __call__(
    self, queries: Float[Array, 'B L H D2'], num_keys: Int[Array, '#B L']
  ) -> Float[Array, '#B L H'] | Float[Array, '#B L 1'] | float:
    """Compute the scale s of each query.

    Args:
      queries: the queries.
      num_keys: M, the number of keys that each query attends to.
    """
    if self.kind == 'none':
      return 1.0
    log_keys = jnp.log(num_keys.astype(jnp.float32))[..., None]
    if self.kind == 'affine_log':
      slope, offset = self.slope[...][None, None], self.offset[...][None, None]
      return slope * log_keys + offset
    if self.kind == 'log':
      return log_keys / _LOG_32
    direction = self.direction[...].reshape(queries.shape[2:])
    sharpness = jnp.einsum('blhd,hd->blh', queries, direction)
    # For M = 1, the derivative of log(M) ** g with respect to g is not finite.
    log_keys = jnp.maximum(log_keys, 1e-6)
    power = self.power[...][None, None]
    return 1 + jax.nn.softplus(sharpness) * log_keys**power
