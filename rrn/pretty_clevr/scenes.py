"""Draw scenes and questions on the device, as pure functions of a key.

`rrn.pretty_clevr.data` defines scenes and answers.

Axes: N objects, C candidates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rrn.pretty_clevr import data

# Scene i of a split depends only on (seed, i). config.seed should differ from
# these seeds.
SEEDS = {'train': 711_028, 'validation': 711_029, 'test': 711_030}
_CANDIDATES = 16


def pool_key(split: str, index: Int[Array, '']) -> jax.Array:
  """Return the key of one scene of a split."""
  return jax.random.fold_in(jax.random.key(SEEDS[split]), index)


def draw(key: jax.Array) -> tuple[Float[Array, 'N 2'], Int[Array, ' N']]:
  """Draw a scene: positions in the unit square, and the color of each shape.

  Objects are placed one after another, uniformly where the distance to all
  earlier objects exceeds `MIN_DISTANCE`. An object takes the first of 16
  candidates that satisfies this, which is rejection sampling unless all 16
  fail; then it takes the first. The k objects before object k exclude at
  most k pi / 100 of the square, so all 16 fail in fewer than one in 3e10
  scenes.
  """
  position_key, color_key = jax.random.split(key)
  candidates = jax.random.uniform(
    position_key, (data.NUM_OBJECTS, _CANDIDATES, 2)
  )
  colors = jax.random.permutation(color_key, data.NUM_OBJECTS)
  return place(candidates), colors


def place(candidates: Float[Array, 'N C 2']) -> Float[Array, 'N 2']:
  """Return the first candidate of each object that no earlier object excludes.

  If all are excluded, the first candidate is returned.
  """
  count = len(candidates)

  def step(positions, k):
    gaps = candidates[k][:, None] - positions[None]
    is_far = (gaps**2).sum(-1) > data.MIN_DISTANCE**2
    is_earlier = jnp.arange(count)[None] < k
    first = (is_far | ~is_earlier).all(1).argmax()
    is_this = (jnp.arange(count) == k)[:, None]
    return jnp.where(is_this, candidates[k, first], positions), None

  return jax.lax.scan(step, candidates[:, 0], jnp.arange(count))[0]


def tour(
  positions: Float[Array, 'N 2'], start: Int[Array, '']
) -> Int[Array, ' N']:
  """Return the objects reached after 0, 1, ..., N - 1 jumps.

  Each jump leads to the nearest object that has not been visited yet.
  """
  objects = jnp.arange(len(positions))

  def jump(carry, _):
    here, is_new = carry
    is_new &= objects != here
    distances = ((positions - positions[here][None]) ** 2).sum(-1)
    nearest = jnp.where(is_new, distances, jnp.inf).argmin()
    return (nearest, is_new), here

  first = jnp.asarray(start, objects.dtype), jnp.ones(len(positions), bool)
  return jax.lax.scan(jump, first, length=len(positions))[1]


def answer(
  positions: Float[Array, 'N 2'],
  colors: Int[Array, ' N'],
  anchor: Int[Array, ''],
  jumps: Int[Array, ''],
) -> Int[Array, '']:
  """Return the symbol that answers a question."""
  count = data.NUM_OBJECTS
  is_color = anchor < count
  start = jnp.where(is_color, (colors == anchor).argmax(), anchor - count)
  reached = tour(positions, start)[jumps]
  return jnp.where(is_color, count + reached, colors[reached])


def all_questions() -> tuple[Int[Array, '128'], Int[Array, '128']]:
  """Return the anchors and the jumps of all questions about a scene."""
  jumps = jnp.arange(data.MAX_JUMPS + 1)
  anchors = jnp.repeat(jnp.arange(len(data.SYMBOLS)), len(jumps))
  return anchors, jnp.tile(jumps, len(data.SYMBOLS))


def augment(
  key: jax.Array, positions: Float[Array, 'N 2']
) -> Float[Array, 'N 2']:
  """Scale by 2^U(-1, 1) and rotate about the origin, which keeps answers."""
  scale_key, angle_key = jax.random.split(key)
  scale = 2 ** jax.random.uniform(scale_key, minval=-1, maxval=1)
  angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  rotation = jnp.stack([cosine, sine, -sine, cosine]).reshape(2, 2)
  # Not a matrix product, which accelerators may compute in lower precision.
  return scale * (positions[:, :, None] * rotation[None]).sum(1)
