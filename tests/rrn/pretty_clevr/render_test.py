"""Tests that pictures equal those of matplotlib."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rrn.pretty_clevr import data, render, scenes

draw = jax.jit(render.render)
MARKERS = 'ov^<>sPX'
COLORS = ('b', 'g', 'r', 'c', 'm', 'y', 'k', 'gray')


def by_matplotlib(positions, colors):
  """Draw the picture with `scatter`; return float [H, W, 3].

  The picture is drawn at eight times the size and averaged, because matplotlib
  moves markers, which are eight pixels wide, to whole pixels.
  """
  figure = Figure(figsize=(1.28, 1.28), dpi=800)
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
  for (x, y), color, marker in zip(positions, colors, MARKERS, strict=True):
    axes.scatter(x, y, c=COLORS[color], marker=marker)
  canvas.draw()
  large = np.asarray(canvas.buffer_rgba())[..., :3] / 255
  return large.reshape(128, 8, 128, 8, 3).mean((1, 3))


def ink(image):
  return image.min(-1) < 0.5


def test_each_marker_overlaps_matplotlibs():
  positions = (np.stack(np.divmod(np.arange(8), 3), -1) + 0.5) / 3
  colors = np.full(8, 6)  # black: ink covers at least half of a pixel
  ours = draw(positions[None].astype(np.float32), colors[None])[0]
  ours, theirs = np.asarray(ours), by_matplotlib(positions, colors)
  assert ours.shape == theirs.shape == (128, 128, 3)
  for x, y in positions:
    column, row = int((x + 0.1) / 1.2 * 128), int((1.1 - y) / 1.2 * 128)
    patch = slice(row - 10, row + 10), slice(column - 10, column + 10)
    a, b = ink(ours[patch]), ink(theirs[patch])
    assert (a & b).sum() / (a | b).sum() > 0.8
  assert np.abs(ours - theirs).mean() < 0.003


def test_scenes_look_like_matplotlibs():
  keys = jax.random.split(jax.random.key(3), 4)
  positions, colors = jax.jit(jax.vmap(scenes.draw))(keys)
  ours = np.asarray(draw(positions, colors))
  assert ours.min() >= 0 and ours.max() <= 1
  for index in range(4):
    theirs = by_matplotlib(positions[index], colors[index])
    assert np.abs(ours[index] - theirs).mean() < 0.005
    a, b = ink(ours[index]), ink(theirs)
    assert (a & b).sum() / (a | b).sum() > 0.8


def test_colors_are_matplotlibs():
  assert len(COLORS) == len(data.COLORS)
  expected = [colors.to_rgb(color) for color in COLORS]
  np.testing.assert_allclose(render.RGB, expected, atol=0.003)
  middle = jnp.full((1, 8, 2), 0.5)  # the last shape lies on top
  image = draw(middle, jnp.arange(8)[None])
  np.testing.assert_allclose(image[0, 64, 64], expected[7], atol=0.003)
