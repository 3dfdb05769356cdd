"""The figure of age arithmetic: farther persons need more steps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from core import plots


@plots.style()
def accuracy_by_step(
  curve: Sequence[Sequence[float | None]], trained_steps: int
) -> Figure:
  """Plots a line for each number of jumps.

  Args:
    curve: [T, G], accuracy after each step; None where no problem has so many
      jumps.
    trained_steps: the steps in training, marked by a dashed line.
  """
  shares = np.asarray(curve, float)
  steps = np.arange(1, len(shares) + 1)
  figure = Figure(figsize=(6.4, 4.0))
  axes = figure.subplots()
  axes.set_title('Accuracy, by number of jumps')
  axes.set_xlabel('message passing steps')
  plots.show_percent(axes)
  axes.axvline(trained_steps, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  curves = {
    str(count): (steps, share)
    for count, share in enumerate(shares.T)
    if np.isfinite(share).all()
  }
  plots.draw_lines(axes, curves, plots.colours(list(curves)))
  return figure
