"""Plots the accuracy of age arithmetic by step and number of jumps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from core.report import plots


@plots.style()
def accuracy_by_step(
  curve: Sequence[Sequence[float | None]], trained_steps: int
) -> Figure:
  """Plot the accuracy against the step, with a line per number of jumps.

  Args:
    curve: accuracy after each step, [T, G]; None if no problem has that number
      of jumps.
    trained_steps: number of steps in training; a dashed line.
  """
  shares = np.asarray(curve, float)
  steps = np.arange(1, len(shares) + 1)
  figure = Figure(figsize=(6.4, 4.0))
  axes = figure.subplots()
  axes.set_title('Accuracy by number of jumps (dashed: steps in training)')
  axes.set_xlabel('message passing step')
  axes.set_ylabel('accuracy (%)')
  plots.show_percent(axes)
  axes.axvline(trained_steps, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  curves = {
    str(count): (steps, share)
    for count, share in enumerate(shares.T)
    if np.isfinite(share).all()
  }
  plots.draw_lines_with_legend(axes, curves, plots.colors(list(curves)))
  return figure
