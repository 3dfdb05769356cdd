"""Draws scenes as matplotlib's `scatter` does with its defaults, on the device.

Each of the eight markers is the set of points within half a line's width of a
polygon or a disc, given by its signed distance, so that its border can be
anti-aliased: a pixel's share is its distance from the border, clipped. (At this
size matplotlib itself moves markers to whole pixels; we do not.)

Axes: B batch, N objects, H and W pixels. Lengths are in pixels, y upward.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SIZE = 128  # pixels a side
LOW, HIGH = -0.1, 1.1  # of both axes of the picture
_POINT = 100 / 72  # pixels, at matplotlib's 100 dots an inch
MARKER = 6 * _POINT
_LINE = 1.0 * _POINT  # the border's width, in the color of the face
_WINDOW = 16  # pixels a side that hold a marker, wherever it lies
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
  """Pictures of scenes on white, channels from 0 to 1; object k has shape k."""
  scale = SIZE / (HIGH - LOW)
  centers = (positions - LOW) * scale
  paint = jax.nn.one_hot(colors, len(RGB)) @ RGB

  def draw(centers, paint):
    image = jnp.ones((SIZE, SIZE, 3))  # its first row is the lowest
    for k, distance in enumerate(_MARKERS):
      # Only the window of pixels about a marker is touched.
      corner = jnp.clip(centers[k] - _WINDOW / 2, 0, SIZE - _WINDOW)
      column, row = corner.astype(jnp.int32)
      x, y = (
        start + 0.5 + jnp.arange(_WINDOW) - center
        for start, center in zip((column, row), centers[k], strict=True)
      )
      share = 0.5 + _LINE / 2 - distance(x[None, :], y[:, None])
      share = jnp.clip(share, 0, 1)[..., None]
      place = row, column, 0
      window = jax.lax.dynamic_slice(image, place, (_WINDOW, _WINDOW, 3))
      window = window * (1 - share) + paint[k] * share
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
  # A plus turned by 45 degrees, whose bars are 3 / sqrt(8) as long and thick.
  scale, half = 3 / np.sqrt(8), np.sqrt(0.5)
  x, y = (x + y) * half / scale, (y - x) * half / scale
  return _plus(x, y) * scale


def _triangle(x, y, *, turns: int):
  """As high as wide; the tip is up, and turned left by quarter turns."""
  for _ in range(turns):
    x, y = y, -x
  x, half = jnp.abs(x), MARKER / 2
  base = jnp.hypot(jnp.maximum(x - half, 0), y + half)
  # The side from (half, -half) to the tip (0, half), by where its foot falls.
  along = jnp.clip((half - x) + 2 * (y + half), 0, 5 * half) / 5
  side = jnp.hypot(x - half + along, y + half - 2 * along)
  is_inside = (y > -half) & (2 * x + y < half)
  distance = jnp.minimum(base, side)
  return jnp.where(is_inside, -distance, distance)


# In the order of `data.SHAPES`.
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
