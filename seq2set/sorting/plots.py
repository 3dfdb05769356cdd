"""Figures of the sorting task: accuracy by smallest gap and by set size."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from core.report import plots


@plots.style()
def accuracy_by_gap(
  gaps: Sequence[float], accuracy: Sequence[float | None]
) -> Figure:
  """Plot the share of sorted sets against the smallest gap between numbers.

  Args:
    gaps: upper bounds [K] of the bins, in increasing order.
    accuracy: shares [K + 1]; the last bin has no upper bound. None or NaN marks
      an empty bin.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Sorted sets by smallest gap')
  axes.set_xlabel('smallest gap between two numbers (numbers in 0 to 1)')
  axes.set_ylabel('sorted sets (%)')
  axes.set_xscale('log', base=2)
  plots.show_percent(axes)
  # Each bin spans a factor of two; its point is at the geometric mean.
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
  """Plot the share of sorted sets against the set size.

  Args:
    sizes: numbers of elements.
    accuracy: the share for each size, by the suffix of the metric's name; '' is
      the decoding of the paper.
    trained_size: the size in training, marked by a dashed line.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Sorted sets by size')
  axes.set_xlabel('elements in a set')
  axes.set_ylabel('sorted sets (%)')
  plots.show_percent(axes)
  axes.axvline(trained_size, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  curves = {
    name.strip('_') or 'as in the paper': (sizes, share)
    for name, share in accuracy.items()
  }
  plots.draw_lines_with_legend(axes, curves, plots.colors(list(curves)))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  return figure
