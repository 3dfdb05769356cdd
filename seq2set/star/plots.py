"""The figure of a sweep over star models: what the place of the head costs."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from core import plots


@plots.style()
def head_first_less_head_last(
  points: Iterable[tuple[ConfigDict, Mapping[str, Any]]],
) -> Figure | None:
  """Draws the nats that head first is ahead of head last, as a heat map.

  A panel for each number of variables, rows by the number of examples, columns
  by beta; a negative number: head first is better.

  Args:
    points: of each run its config and what was measured; cells whose two runs
      are not among them stay empty. Of 'test' and 'validation' the former.

  Returns:
    The figure; None if no cell has both runs.
  """
  excess = {}
  for config, values in points:
    value = values.get('test/excess_nats', values.get('validation/excess_nats'))
    if value is not None and config.num_seeds == 1:
      data = config.data
      cell = data.num_variables, data.num_examples, data.beta
      excess.setdefault(cell, {})[config.model.order] = value
  gaps = {
    cell: of_order['head_first'] - of_order['head_last']
    for cell, of_order in excess.items()
    if {'head_first', 'head_last'} <= of_order.keys()
  }
  if not gaps:
    return None
  sizes, counts, betas = (sorted(set(axis)) for axis in zip(*gaps, strict=True))
  limit = 1.5 * max(map(abs, gaps.values())) or 1.0  # no cell too dark to read
  figure = Figure(figsize=(1.2 + 2.6 * len(sizes), 1.4 + 0.5 * len(counts)))
  figure.suptitle('Excess nats, head first less head last')
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
  figure.axes[0].set_ylabel('examples')
  return figure
