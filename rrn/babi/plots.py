"""Plots the error of each bAbI task after each step."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from core.report import plots


@plots.style()
def error_by_task(
  errors: Sequence[Sequence[float]], tasks: Sequence[int], failed_above: float
) -> Figure:
  """Plot a group of bars for each task, with one bar per step.

  Args:
    errors: share of wrong answers, [T, tasks].
    tasks: numbers of the tasks.
    failed_above: error above which a task counts as failed; a dashed line.
  """
  width = 0.8 / len(errors)
  figure = Figure(figsize=(8.0, 3.2))
  axes = figure.subplots()
  for row, heights in enumerate(errors):
    axes.bar(
      np.array(tasks) + (row - (len(errors) - 1) / 2) * width,
      heights,
      width,
      color=plots.PALETTE[row % len(plots.PALETTE)],
      label=f'{row + 1} step{"s" if row else ""}',
    )
  axes.axhline(
    failed_above,
    color=plots.MUTED,
    lw=1,
    dashes=(4, 3),
    label=f'failed above {failed_above:.0%}',
  )
  axes.set_title('Error of each bAbI task')
  axes.set_xlabel('task')
  axes.set_ylabel('error (%)')
  axes.set_xticks(tasks)
  axes.set_ylim(bottom=0)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1))
  axes.legend(frameon=False)
  return figure
