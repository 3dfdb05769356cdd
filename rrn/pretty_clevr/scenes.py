"""Scenes and questions as pure functions of a key, on the device.

Axes: N objects, C candidates. See `rrn.pretty_clevr.data` for the rules.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rrn.pretty_clevr import data

# Of the pools of scenes: scene i of a split is a function of (seed, i) alone.
# No config.seed should be one of them.
SEEDS = {'train': 711_028, 'validation': 711_029, 'test': 711_030}
_CANDIDATES = 16


def pool_key(split: str, index: Int[Array, '']) -> jax.Array:
  """The key of a scene of a split's pool."""
  return jax.random.fold_in(jax.random.key(SEEDS[split]), index)


def draw(key: jax.Array) -> tuple[Float[Array, 'N 2'], Int[Array, ' N']]:
  """Draws a scene: positions in the unit square, and colours by shape.

  Objects are placed one after the other, each uniformly where it is farther
  than `MIN_DISTANCE` from those before: the first such one of 16 candidates. So
  the distribution is that of rejection sampling, unless all 16 are refused;
  then the first is taken. The objects before number k cover at most (k - 1)
  pi / 100 of the square, so this happens in less than one of 3e10 scenes.
  """
  position_key, colour_key = jax.random.split(key)
  candidates = jax.random.uniform(
    position_key, (data.NUM_OBJECTS, _CANDIDATES, 2)
  )
  colours = jax.random.permutation(colour_key, data.NUM_OBJECTS)
  return place(candidates), colours


def place(candidates: Float[Array, 'N C 2']) -> Float[Array, 'N 2']:
  """Takes each object's first candidate that no earlier object refuses."""
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
  """The objects reached after 0, 1, ..., N - 1 jumps to the nearest new one."""
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
  colours: Int[Array, ' N'],
  anchor: Int[Array, ''],
  jumps: Int[Array, ''],
) -> Int[Array, '']:
  """The symbol that answers a question."""
  count = data.NUM_OBJECTS
  is_colour = anchor < count
  start = jnp.where(is_colour, (colours == anchor).argmax(), anchor - count)
  reached = tour(positions, start)[jumps]
  return jnp.where(is_colour, count + reached, colours[reached])


def all_questions() -> tuple[Int[Array, '128'], Int[Array, '128']]:
  """The anchors and the jumps of all questions of a scene."""
  jumps = data.NUM_OBJECTS
  anchors = jnp.repeat(jnp.arange(len(data.SYMBOLS)), jumps)
  return anchors, jnp.tile(jnp.arange(jumps), len(data.SYMBOLS))


def augment(
  key: jax.Array, positions: Float[Array, 'N 2']
) -> Float[Array, 'N 2']:
  """Scales by 2^U(-1, 1) and turns about the origin: no answer changes."""
  scale_key, angle_key = jax.random.split(key)
  scale = 2 ** jax.random.uniform(scale_key, minval=-1, maxval=1)
  angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  rotation = jnp.stack([cosine, sine, -sine, cosine]).reshape(2, 2)
  # Not a matrix product, which accelerators may round to fewer bits.
  return scale * (positions[:, :, None] * rotation).sum(1)
