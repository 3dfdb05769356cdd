"""Figures in one style, and the training curves of any run.

Figures are plain `Figure` objects. Without pyplot, there is no global state,
and no display is needed. Color-blind readers can distinguish the six colors of
`PALETTE`. More lines get colors of a ramp, which are harder to distinguish.
"""

import functools
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import style as style_sheets
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core import metrics
from core.io import atomic_files

# The points of a line: x [n] and y [n].
Curve = tuple[Sequence | np.ndarray, Sequence | np.ndarray]
INK, MUTED = '#222222', '#767676'
# The colors of Okabe and Ito, with a darker yellow that is legible as text.
PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#8A6D00', '#000000')
# Metrics of the optimizer and the speed: drawn last, and never in percent.
_DIAGNOSTICS = '(norm|rate|per_second)$'
_NAMES_PER_COLUMN = 11  # of a legend, beside each row of panels
_MAX_RUNS = 33  # more lines are hard to distinguish

# Use as `@style()`, because artists get their style when they are created.
style = functools.partial(
  style_sheets.context,
  [
    'seaborn-v0_8-whitegrid',
    {
      'axes.grid.axis': 'y',
      'axes.labelcolor': MUTED,
      'axes.spines.left': False,
      'axes.spines.right': False,
      'axes.spines.top': False,
      'axes.titlelocation': 'left',
      'figure.constrained_layout.use': True,
      'font.size': 9,
      'legend.labelcolor': 'linecolor',
      'xtick.color': MUTED,
      'ytick.color': MUTED,
    },
  ],
)


def save(figures: Mapping[str, Figure], folder):
  """Write `<folder>/<name>.png` and a vector copy, `.svg`, for each figure.

  Raises:
    UserError: the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  # With this salt, equal figures give equal files.
  same_ids = matplotlib.rc_context({'svg.hashsalt': 'figure'})
  with atomic_files.reported_writes(folder), same_ids:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
      figure.savefig(folder / f'{name}.png', dpi=150)
      figure.savefig(folder / f'{name}.svg', metadata={'Date': None})


def training_curves(lines: Sequence[Mapping]) -> Figure:
  """Plot one panel per quantity: a line for training and for each evaluation.

  For example, 'train/solved' and 'eval/validation/steps_64/solved' share a
  panel. Lists and breakdowns are omitted, see `metrics.headline`. `lines` are
  those of metrics.jsonl, with at least one number.
  """
  return _draw_panels(_panels(lines))


def sweep_curves(runs: Mapping[str, Sequence[Mapping]]) -> Figure | None:
  """Plot evaluations during training: a panel per metric, a line per run.

  Args:
    runs: name -> lines of metrics.jsonl.

  Returns:
    The figure; None if no run was evaluated in training, or there are too many
    runs.
  """
  panels = {}
  if len(runs) > _MAX_RUNS:
    return None
  for name, lines in runs.items():
    for tag, curve in _curves(lines).items():
      place, _, measure = tag.partition('/')
      if place == 'eval':
        panels.setdefault(measure, {})[name] = curve
  short = metrics.shortest_names(panels)
  names = sorted(panels, key=metrics.natural_sort_key)
  panels = {short[name]: panels[name] for name in names}
  return _draw_panels(panels) if panels else None


@style()
def _draw_panels(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
  """Draw quantity -> name -> (steps, values) in rows of four panels."""
  names = dict.fromkeys(name for curves in panels.values() for name in curves)
  palette = colors(list(names))
  columns = min(4, len(panels))
  rows = math.ceil(len(panels) / columns)
  legend_columns = (
    math.ceil(len(names) / (_NAMES_PER_COLUMN * rows)) if len(names) > 1 else 0
  )
  legend_width = legend_columns * (0.5 + 0.07 * max(map(len, names)))  # inches
  figure = Figure(figsize=(3.6 * columns + legend_width, 2.5 * rows))
  grid = figure.subplots(rows, columns, squeeze=False)
  for axes in grid.flat[len(panels) :]:
    axes.set_axis_off()
  for axes, (quantity, curves) in zip(grid.flat, panels.items(), strict=False):
    axes.set_title(quantity.replace('_', ' '))
    _draw_lines(axes, curves, palette)
    _scale(axes, quantity, np.concatenate([y for _, y in curves.values()]))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
    axes.set_xlabel('updates')
  if legend_columns:
    drawn = {line.get_label(): line for ax in figure.axes for line in ax.lines}
    figure.legend(
      handles=list(drawn.values()),
      loc='outside right upper',
      handlelength=1,
      ncols=legend_columns,
    )
  return figure


def colors(names: Sequence[str]) -> dict[str, Any]:
  """Assign a color to each name: distinct colors, or a ramp for many names."""
  if len(names) <= len(PALETTE):
    return dict(zip(names, PALETTE, strict=False))
  # The end of viridis, yellow, is hard to see on white.
  ramp = matplotlib.colormaps['viridis'](np.linspace(0, 0.85, len(names)))
  return dict(zip(names, ramp, strict=True))


def draw_lines_with_legend(
  axes: Axes, curves: Mapping[str, Curve], palette: Mapping[str, Any]
):
  """Draw lines, with a legend beside the axes if there are several.

  Args:
    axes: the axes to draw on.
    curves: name of each line -> its points.
    palette: name of each line -> its color.
  """
  _draw_lines(axes, curves, palette)
  if len(curves) > 1:
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), handlelength=1)


def show_percent(axes: Axes):
  """Show the y axis, a share from 0 to 1, in percent."""
  axes.set_ylim(-0.02, 1.02)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))


def _draw_lines(axes, curves, palette):
  for name, (x, y) in curves.items():
    marker, label = 'o' if len(x) == 1 else None, name.replace('_', ' ')
    axes.plot(x, y, marker=marker, color=palette[name], label=label)


def _curves(lines: Sequence[Mapping]) -> dict[str, Curve]:
  """Return tag -> (steps, values) of the metrics in `metrics.headline`."""
  points = {}
  for line in lines:
    for tag, value in line.items():
      if '/' in tag and isinstance(value, int | float):
        points.setdefault(tag, []).append((line['step'], value))
  curves = {}
  for tag in metrics.headline(points):
    steps, values = np.array(points[tag]).T
    curves[tag] = steps, values
  return curves


def _panels(lines: Sequence[Mapping]) -> dict[str, dict[str, Curve]]:
  """Return quantity -> place -> (steps, values), in the order to draw."""
  panels = {}
  for tag, curve in _curves(lines).items():
    place, _, quantity = tag.rpartition('/')
    place = 'train' if place == 'perf' else place.removeprefix('eval/')
    panels.setdefault(quantity, {})[place] = curve
  short = metrics.shortest_names(
    {place for panel in panels.values() for place in panel}
  )

  def rank(quantity):
    is_diagnostic = re.search(_DIAGNOSTICS, quantity) is not None
    return (
      quantity != 'loss',
      'loss' not in quantity,
      is_diagnostic,
      metrics.natural_sort_key(quantity),
    )

  return {
    quantity: {short[place]: xy for place, xy in panels[quantity].items()}
    for quantity in sorted(panels, key=rank)
  }


def _scale(axes: Axes, quantity: str, values: np.ndarray):
  """Show shares from 0 to 100 %, wide ranges on a log scale, others from 0."""
  low, high = values.min(), values.max()
  is_share = 0 <= low and high <= 1
  if is_share and not re.search(f'loss|{_DIAGNOSTICS}', quantity):
    show_percent(axes)
  elif 0 < low < high / 20:
    axes.set_yscale('log')
  else:
    axes.set_ylim(bottom=min(low, 0))
