"""The figure of a sweep over star models: the effect of the head position."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from core.report import plots


@plots.style()
def head_first_less_head_last(
  points: Iterable[tuple[ConfigDict, Mapping[str, Any]]],
) -> Figure | None:
  """Plot the excess nats of head first minus those of head last.

  Each panel shows one number of variables. Rows are numbers of examples, and
  columns are values of beta. Negative values mean that head first is better. A
  cell is empty if one of its two runs is missing.

  Args:
    points: the config and the metrics of each run; 'test' takes precedence over
      'validation'.

  Returns:
    The figure; None if no cell has both runs.
  """
  gaps = _gaps(points)
  if not gaps:
    return None
  sizes, counts, betas = (sorted(set(axis)) for axis in zip(*gaps, strict=True))
  # The factor keeps the cells light enough for text.
  limit = 1.5 * max(map(abs, gaps.values())) or 1.0
  figure = Figure(figsize=(1.2 + 2.6 * len(sizes), 1.4 + 0.5 * len(counts)))
  figure.suptitle('Excess nats, head first minus head last')
  for axes, size in zip(
    figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True
  ):
    grid = [
      [gaps.get((size, count, beta), np.nan) for beta in betas]
      for count in counts
    ]
    axes.imshow(grid, cmap='RdBu', vmin=-limit, vmax=limit, aspect='auto')
    axes.set_title(f'{size} variables')
    axes.set_xticks(range(len(betas)), [f'{beta:g}' for beta in betas])
    axes.set_yticks(range(len(counts)), [f'{count:,}' for count in counts])
    axes.set_xlabel('beta')
    axes.grid(visible=False)
    for row, column in np.ndindex(len(counts), len(betas)):
      if np.isfinite(gap := grid[row][column]):
        axes.text(column, row, f'{gap:+.2f}', ha='center', va='center')
    axes.label_outer()
  figure.axes[0].set_ylabel('training examples')
  return figure


def _gaps(points) -> dict[tuple[int, int, float], float]:
  """Return the excess nats of head first minus those of head last.

  The keys are the numbers of variables and examples, and beta.
  """
  excess = {}
  for config, values in points:
    value = values.get('test/excess_nats', values.get('validation/excess_nats'))
    if value is not None and config.num_seeds == 1:
      data = config.data
      cell = data.num_variables, data.num_examples, data.beta
      excess.setdefault(cell, {})[config.model.order] = value
  return {
    cell: by_order['head_first'] - by_order['head_last']
    for cell, by_order in excess.items()
    if {'head_first', 'head_last'} <= by_order.keys()
  }
