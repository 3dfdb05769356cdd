"""Figures in one house style, and the training curves of any run.

Figures are plain `Figure` objects: without pyplot there is no global state, and
no display is needed. Lines carry their names at their ends instead of a legend.
The colours can be told apart by colour-blind readers.
"""

import functools
import math
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core import metrics, runtime

INK, MUTED = '#222222', '#767676'
# Okabe and Ito's colours, yellow darkened so that it can be read as text.
PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#8A6D00', '#000000')
# How training goes on, not what it reaches: drawn last, never a share.
_SPEED = re.compile('(norm|rate|per_second)$')

# Use as `@style()`: artists take their looks when they are made.
style = functools.partial(
  matplotlib.rc_context,
  {
    'axes.axisbelow': True,
    'axes.edgecolor': '#BBBBBB',
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'axes.labelcolor': MUTED,
    'axes.labelsize': 9,
    'axes.spines.left': False,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlecolor': INK,
    'axes.titlelocation': 'left',
    'axes.titlesize': 10,
    'figure.constrained_layout.use': True,
    'figure.constrained_layout.hspace': 0.06,
    'figure.constrained_layout.wspace': 0.04,
    'figure.dpi': 100,
    'grid.color': '#E6E6E6',
    'grid.linewidth': 0.8,
    'lines.linewidth': 1.6,
    'lines.solid_capstyle': 'round',
    'text.color': INK,
    'xtick.color': MUTED,
    'xtick.labelsize': 8,
    'ytick.color': MUTED,
    'ytick.labelsize': 8,
    'ytick.major.size': 0,
    'ytick.minor.size': 0,
  },
)


def save(figures: Mapping[str, Figure], folder) -> list[pathlib.Path]:
  """Writes `<folder>/<name>.png` for each figure; returns the paths.

  Raises:
    UserError: the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  paths = []
  with runtime.reported_writes(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
      paths.append(folder / f'{name}.png')
      figure.savefig(paths[-1], dpi=150)
  return paths


@style()
def training_curves(lines: Sequence[Mapping]) -> Figure:
  """Plots a panel a quantity, with a line wherever it was measured.

  So 'train/solved' and 'eval/validation/steps_64/solved' share a panel. Lists,
  and breakdowns as `headline` knows them, are left out.

  Args:
    lines: of metrics.jsonl; at least one holds a number.
  """
  panels = _panels(lines)
  places = dict.fromkeys(name for curves in panels.values() for name in curves)
  palette = colours(list(places))
  columns = min(4, math.ceil(len(panels) / (2 if len(panels) > 3 else 1)))
  rows = math.ceil(len(panels) / columns)
  figure = Figure(figsize=(3.6 * columns, 2.5 * rows))
  grid = figure.subplots(rows, columns, squeeze=False)
  for axes in grid.flat[len(panels) :]:
    axes.set_axis_off()
  for axes, (quantity, curves) in zip(grid.flat, panels.items(), strict=False):
    axes.set_title(quantity.replace('_', ' '))
    _scale(axes, quantity, np.concatenate([y for _, y in curves.values()]))
    draw_lines(axes, curves, palette)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  for axes in grid[-1]:
    axes.set_xlabel('updates')
  return figure


def colours(names: Sequence[str]) -> dict[str, Any]:
  """Gives each name a colour: distinct ones, or if there are many, a ramp."""
  if len(names) <= len(PALETTE):
    return dict(zip(names, PALETTE, strict=False))
  # Not to the end of viridis: yellow is hard to see on white.
  ramp = matplotlib.colormaps['viridis'](np.linspace(0, 0.85, len(names)))
  return dict(zip(names, ramp, strict=True))


def draw_lines(axes: Axes, curves: Mapping[str, tuple], palette: Mapping):
  """Draws lines, with their names at the ends if there are several.

  Args:
    axes: whose y scale is set.
    curves: name -> (x [n], y [n]); n may differ.
    palette: name -> colour.
  """
  for name, (x, y) in curves.items():
    marker = 'o' if len(x) == 1 else ''
    axes.plot(x, y, color=palette[name], marker=marker, markersize=4)
  axes.margins(x=0.02)
  if len(curves) == 1:
    return  # the title says it
  to_fraction = axes.transScale + axes.transLimits
  ends = [to_fraction.transform((x[-1], y[-1]))[1] for x, y in curves.values()]
  height = axes.get_window_extent().height / axes.figure.dpi
  places = _spread(ends, gap=10 / 72 / height)
  for name, end, place in zip(curves, ends, places, strict=True):
    axes.annotate(
      name.replace('_', ' '),
      xy=(1, end),
      xytext=(1.05, place),
      xycoords='axes fraction',
      textcoords='axes fraction',
      va='center',
      fontsize=8,
      color=palette[name],
      arrowprops={
        'arrowstyle': '-',
        'color': palette[name],
        'lw': 0.6,
        'relpos': (0, 0.5),
        'shrinkA': 0,
        'shrinkB': 0,
      },
    )


def show_percent(axes: Axes):
  """Makes y a share, from 0 to 1, in percent."""
  axes.set_ylim(-0.02, 1.02)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))


def shortest_names(names: Iterable[str]) -> dict[str, str]:
  """Maps each name to its shortest tail of parts that no other name ends in."""
  names = list(names)

  def shorten(name):
    parts = name.split('/')
    tails = ['/'.join(parts[start:]) for start in reversed(range(len(parts)))]
    for tail in tails:
      if sum(f'/{other}'.endswith(f'/{tail}') for other in names) == 1:
        return tail
    return name

  return {name: shorten(name) for name in names}


def _panels(lines: Sequence[Mapping]) -> dict[str, dict[str, tuple]]:
  """Quantity -> where measured -> (steps, values), in the order to draw."""
  points = {}
  for line in lines:
    for tag, value in line.items():
      if '/' in tag and isinstance(value, int | float):
        points.setdefault(tag, []).append((line['step'], value))
  panels = {}
  for tag in metrics.headline(points):
    place, _, quantity = tag.rpartition('/')
    place = 'train' if place == 'perf' else place.removeprefix('eval/')
    panels.setdefault(quantity, {})[place] = tuple(np.array(points[tag]).T)
  places = dict.fromkeys(place for panel in panels.values() for place in panel)
  short = shortest_names(places)

  def rank(quantity):
    is_speed = bool(_SPEED.search(quantity))
    return quantity != 'loss', 'loss' not in quantity, is_speed

  return {
    quantity: {short[place]: xy for place, xy in panels[quantity].items()}
    for quantity in sorted(panels, key=rank)
  }


def _scale(axes: Axes, quantity: str, values: np.ndarray):
  """Shares from 0 to 100 %, wide ranges on a logarithm, the others from 0."""
  low, high = values.min(), values.max()
  may_be_share = 'loss' not in quantity and not _SPEED.search(quantity)
  if may_be_share and 0 <= low and high <= 1:
    show_percent(axes)
  elif low > 0 and high > 20 * low:
    axes.set_yscale('log')
    axes.set_ylim(low / 1.3, high * 1.3)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
  else:
    margin = 0.05 * (high - min(low, 0) or 1)
    axes.set_ylim(low - margin if low < 0 else 0, high + margin)


def _spread(heights: Sequence[float], gap: float) -> np.ndarray:
  """Moves heights to be `gap` apart, in their order and none above 1."""
  order = np.argsort(heights, kind='stable')
  offsets = gap * np.arange(len(heights))
  placed = np.maximum.accumulate(np.asarray(heights)[order] - offsets)
  # What stands above the top pushes down what is below.
  placed = np.minimum(placed, 1 - offsets[-1]) + offsets
  result = np.empty(len(heights))
  result[order] = placed
  return result
