"""The figures of lists by length."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from core import plots


@plots.style()
def accuracy_by_length(
  curves: Mapping[str, tuple[Sequence[int], np.ndarray]],
  trained_length: int,
) -> Figure:
  """Plots the share of right answers against the length of the list.

  Args:
    curves: name -> N lengths, and shares [3, N]: the lowest of several seeds,
      their median and the highest; NaN: not measured.
    trained_length: the longest in training, marked by a dashed line.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Right answers, by length')
  axes.set_xlabel('length')
  plots.show_percent(axes)
  axes.axvline(trained_length, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  palette = plots.colours(list(curves))
  medians = {name: (x, shares[1]) for name, (x, shares) in curves.items()}
  plots.draw_lines(axes, medians, palette)
  for name, (lengths, (low, _, high)) in curves.items():
    axes.fill_between(lengths, low, high, color=palette[name], alpha=0.2, lw=0)
  return figure
