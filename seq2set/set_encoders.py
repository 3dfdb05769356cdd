"""Set encoders from later papers, in place of Process.

Deep Sets and the Set Transformer summarize the memories of a set for Write. The
summary does not depend on their order.

Axes: B batch, N elements, Q queries, D width.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from core import layers
from core.errors import UserError
from seq2set.attention import Mask, zero_masked


class DeepSets(nnx.Module):
  """An MLP of the sum of the memories (Zaheer et al. 2017, theorem 2).

  Args:
    width: D.
    rngs: random keys of the parameters.
  """

  def __init__(self, width: int, *, rngs: nnx.Rngs):
    self.mlp = layers.MLP([width, width, width], rngs=rngs)

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    mask: Mask | None = None,
  ) -> tuple[Float[Array, 'B N D'], Float[Array, 'B D']]:
    """Return the unchanged memories, and the summary of the set."""
    return memories, self.mlp(zero_masked(memories, mask).sum(1))


class SetTransformer(nnx.Module):
  """Two self-attention blocks, then pooling by a learned query: SAB, SAB, PMA.

  Lee et al. 2019, section 3. All empty sets have the same summary.

  Args:
    width: D.
    num_heads: number of attention heads, a divisor of D.
    rngs: random keys of the parameters.

  Raises:
    UserError: `num_heads` does not divide `width`.
  """

  def __init__(self, width: int, *, num_heads: int = 4, rngs: nnx.Rngs):
    if width % num_heads:
      raise UserError(
        f'config.model.width={width} is not divisible by {num_heads} heads; use'
        f' a multiple of {num_heads}'
      )
    self.blocks = nnx.List(Block(width, num_heads, rngs=rngs) for _ in range(2))
    self.before_pool = layers.MLP([width, width, width], rngs=rngs)
    self.pool = Block(width, num_heads, rngs=rngs)
    self.query = nnx.Param(layers.glorot(rngs.params(), (1, width)))

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    mask: Mask | None = None,
  ) -> tuple[Float[Array, 'B N D'], Float[Array, 'B D']]:
    """Return the memories after self-attention, and a summary of the set."""
    memories = zero_masked(memories, mask)
    for block in self.blocks:
      memories = block(memories, memories, mask)
    query = jnp.broadcast_to(
      self.query[...], (len(memories), 1, memories.shape[-1])
    )
    summary = self.pool(query, self.before_pool(memories), mask)
    return memories, summary[:, 0]


class Block(nnx.Module):
  """Attention of queries to elements, then an MLP: MAB (equations 6 and 7)."""

  def __init__(self, width: int, num_heads: int, *, rngs: nnx.Rngs):
    self.attention = nnx.MultiHeadAttention(
      num_heads, width, decode=False, rngs=rngs
    )
    self.mlp = layers.MLP([width, width, width], rngs=rngs)
    self.norm_1 = nnx.LayerNorm(width, rngs=rngs)
    self.norm_2 = nnx.LayerNorm(width, rngs=rngs)

  def __call__(
    self,
    queries: Float[Array, 'B Q D'],
    elements: Float[Array, 'B N D'],
    mask: Mask | None,
  ) -> Float[Array, 'B Q D']:
    """Return the updated queries."""
    key_mask = None if mask is None else mask[:, None, None]
    x = self.norm_1(queries + self.attention(queries, elements, mask=key_mask))
    return self.norm_2(x + self.mlp(x))
