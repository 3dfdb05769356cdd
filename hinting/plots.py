"""Figures of accuracy by list length."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from matplotlib.figure import Figure

from core.report import plots

Curve = tuple[Sequence[int], np.ndarray]


def sweep_figures(
  points: Mapping[str, tuple[ml_collections.ConfigDict, Mapping[str, Any]]],
) -> dict[str, Figure]:
  """Plot the test accuracy of each run of a sweep by list length.

  Args:
    points: the config and the metrics of each run, by name.

  Returns:
    The figure by its file name; {} if no accuracy is known.
  """
  curves = {
    name: curve(values, 'test', config.evals.test_lengths)
    for name, (config, values) in points.items()
  }
  longest = max(config.data.max_train_length for config, _ in points.values())
  return accuracy_figures(curves, longest)


def curve(
  values: Mapping[str, Any], evaluator: str, lengths: Sequence[int]
) -> Curve | None:
  """Return the accuracy of an evaluator by length.

  Args:
    values: metrics by name.
    evaluator: name of the evaluator.
    lengths: N list lengths.

  Returns:
    The lengths, and the lowest, median, and highest accuracy over the seeds,
    [3, N]. None if no accuracy is known.
  """
  names = [f'{evaluator}/accuracy_length_{n}' for n in lengths]
  median = [values.get(name) for name in names]
  low, high = (
    [values.get(name + end, values.get(name)) for name in names]
    for end in ('_min', '_max')
  )
  accuracies = np.array([low, median, high], float)
  return None if np.isnan(accuracies).all() else (lengths, accuracies)


def accuracy_figures(
  curves: Mapping[str, Curve | None], trained_length: int
) -> dict[str, Figure]:
  """Plot the known curves.

  Args:
    curves: the results of `curve` by name; None is skipped.
    trained_length: length of the longest list in training.

  Returns:
    The figure by its file name; {} if no curve is known.
  """
  known = {name: curve for name, curve in curves.items() if curve}
  if not known:
    return {}
  figure = accuracy_by_length(known, trained_length)
  return {'test_accuracy_by_length': figure}


@plots.style()
def accuracy_by_length(
  curves: Mapping[str, Curve], trained_length: int
) -> Figure:
  """Plot accuracy against list length.

  Args:
    curves: N lengths and accuracies [3, N] by name: the lowest, median, and
      highest over the seeds. NaN marks missing measurements.
    trained_length: length of the longest list in training, marked by a
      dashed line.
  """
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('Accuracy by list length (dashed: longest list in training)')
  axes.set_xlabel('list length')
  axes.set_ylabel('accuracy (%)')
  plots.show_percent(axes)
  axes.axvline(trained_length, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  palette = plots.colors(list(curves))
  medians = {name: (x, shares[1]) for name, (x, shares) in curves.items()}
  plots.draw_lines_with_legend(axes, medians, palette)
  for name, (lengths, (low, _, high)) in curves.items():
    axes.fill_between(lengths, low, high, color=palette[name], alpha=0.2, lw=0)
  return figure
