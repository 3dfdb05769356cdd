"""Draw scenes like matplotlib's `scatter` with its defaults, on the device.

Each of the eight markers is the set of points within half a line width of a
polygon or a disc, given by its signed distance. The opacity of a pixel is its
clipped distance from the border, which anti-aliases the border. (At this size,
matplotlib moves markers to whole pixels; this module does not.)

Axes: B batch, N objects, H and W pixels. Lengths are in pixels, and y points
up.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SIZE = 128  # pixels per side
LOW, HIGH = -0.1, 1.1  # limits of both axes
_POINT = 100 / 72  # pixels, at matplotlib's 100 dots per inch
MARKER = 6 * _POINT  # height and width, without the border
_LINE = 1.0 * _POINT  # width of the border, which has the marker's color
_WINDOW = 16  # side in pixels of a square that holds any marker
# matplotlib's b g r c m y k gray.
RGB = np.array(
  [
    (0, 0, 1),
    (0, 0.5, 0),
    (1, 0, 0),
    (0, 0.75, 0.75),
    (0.75, 0, 0.75),
    (0.75, 0.75, 0),
    (0, 0, 0),
    (0.5, 0.5, 0.5),
  ],
  np.float32,
)


def render(
  positions: Float[Array, 'B N 2'], colors: Int[Array, 'B N']
) -> Float[Array, 'B H W 3']:
  """Return pictures of scenes on white, with channels from 0 to 1.

  Object k has shape k.
  """
  scale = SIZE / (HIGH - LOW)
  centers = (positions - LOW) * scale
  paint = jax.nn.one_hot(colors, len(RGB)) @ RGB

  def draw(centers, paint):
    image = jnp.ones((SIZE, SIZE, 3))  # the first row is the bottom
    for k, distance in enumerate(_MARKERS):
      # A marker changes only a small window of pixels.
      corner = jnp.clip(centers[k] - _WINDOW / 2, 0, SIZE - _WINDOW)
      column, row = corner.astype(jnp.int32)
      x, y = (
        (start + jnp.arange(_WINDOW)).astype(jnp.float32) + 0.5 - center
        for start, center in zip((column, row), centers[k], strict=True)
      )
      opacity = 0.5 + _LINE / 2 - distance(x[None, :], y[:, None])
      opacity = jnp.clip(opacity, 0, 1)[..., None]
      place = row, column, 0
      window = jax.lax.dynamic_slice(image, place, (_WINDOW, _WINDOW, 3))
      window = window * (1 - opacity) + paint[k][None, None] * opacity
      image = jax.lax.dynamic_update_slice(image, window, place)
    return image[::-1]

  return jax.vmap(draw)(centers, paint)


def _disc(x, y):
  return jnp.hypot(x, y) - MARKER / 2


def _box(x, y, width, height):
  x, y = jnp.abs(x) - width / 2, jnp.abs(y) - height / 2
  outside = jnp.hypot(jnp.maximum(x, 0), jnp.maximum(y, 0))
  return outside + jnp.minimum(jnp.maximum(x, y), 0)


def _plus(x, y):
  bar = MARKER / 3
  return jnp.minimum(_box(x, y, MARKER, bar), _box(x, y, bar, MARKER))


def _cross(x, y):
  # A plus rotated by 45 degrees and scaled by 3 / sqrt(8).
  scale, half = 3 / np.sqrt(8), np.sqrt(0.5)
  x, y = (x + y) * half / scale, (y - x) * half / scale
  return _plus(x, y) * scale


def _triangle(x, y, *, turns: int):
  """Return the distance to a triangle that is as high as it is wide.

  It points up, and is turned left by `turns` right angles.
  """
  for _ in range(turns):
    x, y = y, -x
  x, half = jnp.abs(x), MARKER / 2
  base = jnp.hypot(jnp.maximum(x - half, 0), y + half)
  # Distance to the side from (half, -half) to the tip (0, half).
  along = jnp.clip((half - x) + 2 * (y + half), 0, 5 * half) / 5
  side = jnp.hypot(x - half + along, y + half - 2 * along)
  is_inside = (y > -half) & (2 * x + y < half)
  distance = jnp.minimum(base, side)
  return jnp.where(is_inside, -distance, distance)


# Signed distances, in the order of `data.SHAPES`.
_MARKERS = (
  _disc,
  functools.partial(_triangle, turns=2),
  functools.partial(_triangle, turns=0),
  functools.partial(_triangle, turns=1),
  functools.partial(_triangle, turns=3),
  lambda x, y: _box(x, y, MARKER, MARKER),
  _plus,
  _cross,
)
