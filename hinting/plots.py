"""The figures of lists by length."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from core import plots


@plots.style()
def accuracy_by_length(
  curves: Mapping[str, tuple[Sequence[int], Sequence[float | None]]],
  trained_length: int,
) -> Figure:
  """Plots the share of right answers against the length of the list.

  Args:
    curves: name -> lengths and shares.
    trained_length: the longest in training, marked by a dashed line.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Right answers, by length')
  axes.set_xlabel('length')
  plots.show_percent(axes)
  axes.axvline(trained_length, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  plots.draw_lines(axes, curves, plots.colours(list(curves)))
  return figure
