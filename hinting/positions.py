"""Ways to tell a transformer where a token stands.

The paper's model is not told, as it seems; a reviewer asked for the comparison.

  none        order is known from the causal mask alone (NoPE)
  learned     a table, indexed from a random start in training
  randomised  a table, indexed by sorted random positions (Ruoss et al. 2023)
  rotary      queries and keys turned by their positions (Su et al. 2021)
  alibi       logits fall with the distance (Press et al. 2022)
  t5          logits get a bias by bucket of distance (Raffel et al. 2020)
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

KINDS = 'none', 'learned', 'randomised', 'rotary', 'alibi', 't5'
TABLE_KINDS = 'learned', 'randomised'
_BUCKETS = 32  # of distances, in t5
_FAR = 128  # distance from which all share a bucket


def draw(
  key: jax.Array | None, positions: Int[Array, 'B L'], kind: str, size: int
) -> Int[Array, 'B L']:
  """Moves positions in their rows to where they are in a table.

  Args:
    key: of a draw of training; None: in evaluation, where only 'randomised'
      draws: always the same for a batch and a length of its rows.
    positions: of each token in its row, from 0; a row stands in one piece.
    kind: one of `KINDS`; only those with a table move.
    size: of the table.
  """
  batch, length = positions.shape
  if kind == 'learned' and key is not None:
    starts = jax.random.randint(key, (batch, 1), 0, size - length + 1)
    return positions + starts
  if kind == 'randomised':
    key = jax.random.key(0) if key is None else key
    order = jax.random.uniform(key, (batch, size))
    drawn = jax.lax.top_k(order, length)[1]
    # Sorted in each row: the rows of a packed one follow each other.
    row = jnp.cumsum(positions == 0, 1)
    return jnp.sort(row * size + drawn) % size
  return positions


def rotate(
  x: Float[Array, 'B L H D'], positions: Int[Array, '#B L']
) -> Float[Array, 'B L H D']:
  """Turns pairs of features by angles that grow with the position."""
  half = x.shape[-1] // 2
  rates = 10_000.0 ** (-jnp.arange(half) / half)
  angles = (positions[..., None] * rates)[..., None, :]
  a, b = jnp.split(x, 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Bias(nnx.Module):
  """What is added to a layer's attention logits.

  Args:
    kind: one of `KINDS`; only 'alibi' and 't5' add anything.
    num_heads: H.
  """

  def __init__(self, kind: str, num_heads: int):
    self.kind, self.num_heads = kind, num_heads
    if kind == 't5':
      self.table = nnx.Param(jnp.zeros((_BUCKETS, num_heads)))

  def __call__(
    self, queries: Int[Array, '#B A'], keys: Int[Array, '#B L']
  ) -> Float[Array, '#B H A L'] | float:
    """Returns the bias for queries and keys at these positions."""
    if self.kind not in ('alibi', 't5'):
      return 0.0
    distance = (queries[:, :, None] - keys[:, None, :]).clip(0)
    if self.kind == 'alibi':
      slopes = 2.0 ** (-8 * (1 + jnp.arange(self.num_heads)) / self.num_heads)
      return -slopes[:, None, None] * distance[:, None]
    exact = _BUCKETS // 2
    far = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(_FAR / exact)
    bucket = exact + (far * (_BUCKETS - exact)).astype(jnp.int32)
    bucket = jnp.where(distance < exact, distance, bucket)
    bias = self.table[...][bucket.clip(0, _BUCKETS - 1)]
    return jnp.moveaxis(bias, -1, 1)
