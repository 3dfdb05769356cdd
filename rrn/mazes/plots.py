"""Plots the share of solved mazes by steps and size."""

from collections.abc import Mapping

from matplotlib import ticker
from matplotlib.figure import Figure

from core.report import plots


@plots.style()
def solved_by_steps(
  curves: Mapping[str, Mapping[int, float]], trained_size: int
) -> Figure:
  """Plot the share of solved mazes against the steps, with a line per size.

  Args:
    curves: size as text -> number of steps -> share.
    trained_size: rows of a training maze, for the title.
  """
  figure = Figure(figsize=(6.4, 4.0))
  axes = figure.subplots()
  axes.set_title(
    f'Mazes solved by size (trained on {trained_size} x {trained_size} cells)'
  )
  axes.set_xlabel('message passing steps')
  axes.set_ylabel('mazes solved (%)')
  axes.set_xscale('log', base=2)
  axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
  plots.show_percent(axes)
  lines = {
    name: (list(curve), list(curve.values())) for name, curve in curves.items()
  }
  plots.draw_lines_with_legend(axes, lines, plots.colors(list(lines)))
  return figure
