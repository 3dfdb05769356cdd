"""Length-dependent parameters of the softmax: "tempered softmax".

The paper (Awasthi & Gupta 2023) has parameters tied to the length inside the
softmax; their form is not known to us, and these are ours. A query that sees M
keys has its logits multiplied by a scale s(M):

  T0  1
  T1  a log M + b         a, b of each head; s = 1 at M = 32 at first
  T2  log M / log 32
  T3  a log M             a of each head
  T4  1 + softplus(w . q) log(M) ** g     w, g of each head, from its query
  T5  a table             for M at most 42; beyond them the line
                          through the table, least squares in log M

Lists of training have at most 20 values, so M is at most 42 in rows of sorting;
longer rows, such as those of `fill`, train T5's line as well.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

KINDS = 'T0', 'T1', 'T2', 'T3', 'T4', 'T5'
_UNIT = math.log(32)  # log of the number of keys where s = 1 at first
_TABLE = 42  # keys seen at most in training: BOS, 20 values, SORT, 20 values


class Temperature(nnx.Module):
  """The scale of a layer's attention logits.

  Args:
    kind: one of `KINDS`.
    num_heads: H.
    head_width: of a query.
    rngs: of the parameters.
  """

  def __init__(
    self, kind: str, num_heads: int, head_width: int, *, rngs: nnx.Rngs
  ):
    self.kind = kind
    heads = jnp.ones(num_heads)
    if kind in ('T1', 'T3'):
      self.slope = nnx.Param(heads / _UNIT)
    if kind == 'T1':
      self.offset = nnx.Param(0 * heads)
    if kind == 'T4':
      # Flat, here and below, for matrices decay.
      normal = jax.random.normal(rngs.params(), (num_heads * head_width,))
      self.direction = nnx.Param(0.02 * normal)
      self.power = nnx.Param(heads)
    if kind == 'T5':
      self.table = nnx.Param(jnp.ones(num_heads * _TABLE))

  def __call__(
    self, queries: Float[Array, 'B L H D2'], num_keys: Int[Array, '#B L']
  ) -> Float[Array, 'B L H'] | Float[Array, 'B L 1'] | float:
    """Returns s for queries that see so many keys, themselves included."""
    if self.kind == 'T0':
      return 1.0
    log = jnp.log(num_keys.astype(jnp.float32))[..., None]
    if self.kind == 'T1':
      return self.slope[...] * log + self.offset[...]
    if self.kind == 'T2':
      return log / _UNIT
    if self.kind == 'T3':
      return self.slope[...] * log
    if self.kind == 'T4':
      direction = self.direction[...].reshape(queries.shape[2:])
      sharpness = jnp.einsum('blhd,hd->blh', queries, direction)
      # log 1 = 0 has no finite slope in the power.
      log = jnp.maximum(log, 1e-6)
      return 1 + jax.nn.softplus(sharpness) * log ** self.power[...]
    table = self.table[...].reshape(_TABLE, -1)
    known = table[jnp.minimum(num_keys, _TABLE) - 1]
    logs = jnp.log(jnp.arange(1, _TABLE + 1.0))
    centred = logs - logs.mean()
    slope = centred @ table / (centred @ centred)
    beyond = table.mean(0) + slope * (log - logs.mean())
    return jnp.where(num_keys[..., None] <= _TABLE, known, beyond)
