"""The figures of sorting: what makes a set hard."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from core import plots


@plots.style()
def accuracy_by_gap(
  gaps: Sequence[float], accuracy: Sequence[float | None]
) -> Figure:
  """Plots the share of sorted sets against the smallest gap between numbers.

  Args:
    gaps: upper ends of the ranges, rising.
    accuracy: of each range, and of gaps above all; None or NaN: no such set.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Sets sorted, by smallest gap')
  axes.set_xlabel('smallest gap between two numbers')
  axes.set_xscale('log', base=2)
  plots.show_percent(axes)
  # A range of octaves, at its middle.
  middles = np.array([*gaps, 2 * gaps[-1]]) / np.sqrt(2)
  shares = np.asarray(accuracy, float)
  axes.plot(middles, shares, marker='o', color=plots.PALETTE[0])
  return figure


@plots.style()
def accuracy_by_size(
  sizes: Sequence[int],
  accuracy: Mapping[str, Sequence[float | None]],
  trained_size: int,
) -> Figure:
  """Plots the share of sorted sets against their size.

  Args:
    sizes: numbers of elements.
    accuracy: of each size, by suffix of the metric's name: '' as the paper
      decodes.
    trained_size: the one in training, marked by a dashed line.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Sets sorted, by size')
  axes.set_xlabel('elements')
  plots.show_percent(axes)
  axes.axvline(trained_size, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  curves = {
    name.strip('_') or 'as in the paper': (sizes, share)
    for name, share in accuracy.items()
  }
  plots.draw_lines(axes, curves, plots.colours(list(curves)))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  return figure
