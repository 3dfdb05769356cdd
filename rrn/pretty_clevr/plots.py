"""Plots the accuracy of Pretty-CLEVR by number of jumps and step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from core.report import plots


@plots.style()
def accuracy_by_jumps(
  curve: Sequence[Sequence[float]], paper: Sequence[Sequence[float]]
) -> Figure:
  """Plot the paper's Figure 2b: a line for each step of one network.

  Args:
    curve: accuracy after each step for 0, 1, ... jumps, [T, G].
    paper: the paper's accuracies, [T, G], drawn as dashed lines; may be empty.
  """
  shares = np.asarray(curve, float)
  jumps = np.arange(shares.shape[1])
  names = [f'{t} step{"s" if t > 1 else ""}' for t in range(1, len(shares) + 1)]
  palette = plots.colors(names)
  figure = Figure(figsize=(6.4, 4.0))
  axes = figure.subplots()
  title = 'Accuracy after each step'
  axes.set_title(f'{title} (dashed: paper)' if len(paper) else title)
  axes.set_xlabel('number of jumps')
  axes.set_ylabel('accuracy (%)')
  plots.show_percent(axes)
  for name, share in zip(names, paper, strict=False):
    axes.plot(jumps, share, color=palette[name], lw=1, dashes=(4, 3), alpha=0.6)
  axes.axhline(1 / shares.shape[1], color=plots.MUTED, lw=0.8, zorder=1)
  axes.annotate(
    'chance',
    xy=(0, 1 / shares.shape[1]),
    xytext=(0, 3),
    textcoords='offset points',
    fontsize=8,
    color=plots.MUTED,
  )
  curves = {
    name: (jumps, share) for name, share in zip(names, shares, strict=True)
  }
  plots.draw_lines_with_legend(axes, curves, palette)
  return figure
