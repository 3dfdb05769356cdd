"""Positional encodings.

The model of the paper seems to use none. A reviewer of the paper asked for a
comparison.

  none        the causal mask alone reveals the order (NoPE)
  learned     a table, indexed from a random start in training
  randomized  a table, indexed by sorted random positions (Ruoss et al. 2023)
  rotary      queries and keys rotated by their positions (Su et al. 2021)
  alibi       a logit bias proportional to the distance (Press et al. 2022)
  t5          a logit bias per bucket of distances (Raffel et al. 2020)

Axes: B batch, L tokens, A queries, H heads, D width of a head.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

KINDS = 'none', 'learned', 'randomized', 'rotary', 'alibi', 't5'
TABLE_KINDS = 'learned', 'randomized'
_BUCKETS = 32  # number of distance buckets of t5
_MAX_DISTANCE = 128  # larger distances share the last bucket


def draw(
  key: jax.Array | None, positions: Int[Array, 'B L'], kind: str, size: int
) -> Int[Array, 'B L']:
  """Map positions of tokens in their rows to indices of the position table.

  Args:
    key: random key in training, None in evaluation. In evaluation, only
      'randomized' draws positions, which are the same for all batches of the
      same shape.
    positions: position of each token in its row, from 0. The tokens of a row
      are adjacent.
    kind: one of `KINDS`. Kinds without a table return `positions`.
    size: number of entries of the table.
  """
  batch, length = positions.shape
  if kind == 'learned' and key is not None:
    starts = jax.random.randint(key, (batch, 1), 0, size - length + 1)
    return positions + starts
  if kind == 'randomized':
    key = jax.random.key(0) if key is None else key
    order = jax.random.uniform(key, (batch, size))
    drawn = jax.lax.top_k(order, length)[1]
    # Sort the positions of each row of a packed row separately.
    row = jnp.cumsum(positions == 0, 1)
    return jnp.sort(row * size + drawn) % size
  return positions


def rotate(
  x: Float[Array, 'B L H D'], positions: Int[Array, '#B L']
) -> Float[Array, 'B L H D']:
  """Rotate pairs of features by angles proportional to the position.

  Feature i of the first half is paired with feature i of the second half.
  """
  half = x.shape[-1] // 2
  rates = 10_000.0 ** (-jnp.arange(half) / half)
  positions = positions[..., None].astype(jnp.float32)
  angles = (positions * rates[None, None])[:, :, None]
  a, b = jnp.split(x, 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Bias(nnx.Module):
  """The bias of the attention logits of a layer.

  Args:
    kind: one of `KINDS`; only 'alibi' and 't5' have a bias.
    num_heads: H.
  """

  def __init__(self, kind: str, num_heads: int):
    self.kind, self.num_heads = kind, num_heads
    if kind == 't5':
      self.table = nnx.Param(jnp.zeros((_BUCKETS, num_heads)))

  def __call__(
    self, queries: Int[Array, '#B A'], keys: Int[Array, '#B L']
  ) -> Float[Array, '#B H A L'] | float:
    """Compute the bias.

    Args:
      queries: positions of the queries.
      keys: positions of the keys.

    Returns:
      The bias; 0.0 for kinds without a bias.
    """
    if self.kind not in ('alibi', 't5'):
      return 0.0
    distance = (queries[:, :, None] - keys[:, None, :]).clip(0)
    if self.kind == 'alibi':
      slopes = 2.0 ** (-8 * (1 + jnp.arange(self.num_heads)) / self.num_heads)
      distance = distance[:, None].astype(jnp.float32)
      return -slopes[None, :, None, None] * distance
    # Half of the buckets have one distance each. The widths of the others grow
    # exponentially.
    exact = _BUCKETS // 2
    far = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(
      _MAX_DISTANCE / exact
    )
    bucket = exact + (far * (_BUCKETS - exact)).astype(jnp.int32)
    bucket = jnp.where(distance < exact, distance, bucket)
    bias = self.table[...][bucket.clip(0, _BUCKETS - 1)]
    return jnp.moveaxis(bias, -1, 1)
