"""Plot how close the benchmarks come to the limits of the machine.

`uv run python -m benchmarks.plots` reads results/benchmarks and its folder
avx2, and writes docs/figures/share_of_peak and docs/figures/roofline, each as
.png and .svg.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from core.report import plots

_ROOT = Path(__file__).parents[1]
# Result file -> the label of its computations.
_LABELS = {
  'rrn_sudoku': 'Sudoku',
  'rrn_graphs': 'graphs',
  'seq2set': 'Order Matters',
  'hinting': 'Task Hinting',
}
# Contender -> its label and marker; the figures show no others.
_SHOWN = {
  'ours': ('ours', 'o'),
  'plain form': ('plain form', 's'),
  'PyTorch eager': ('PyTorch, eager', '^'),
  'PyTorch compiled': ('PyTorch, compiled', 'v'),
}


class Row(NamedTuple):
  """A contender of a case: the medians of its metrics, if it has them."""

  system: str
  case: str
  contender: str
  metrics: Mapping[str, float]


def read_rows(folder: Path) -> Iterator[Row]:
  """Return the rows of the result files of a folder that the figures show."""
  for file, system in _LABELS.items():
    text = (folder / f'{file}.json').read_text(encoding='utf-8')
    for name, row in json.loads(text)['rows'].items():
      case, _, contender = name.partition(', ')
      if contender in _SHOWN:
        medians = {k: v['value'] for k, v in row['metrics'].items()}
        metrics = {k: v for k, v in medians.items() if v is not None}
        yield Row(system, case, contender, metrics)


@plots.style()
def share_of_peak(shares: Mapping[str, Mapping[str, float]]) -> Figure:
  """Plot the time of our products at the peak speed, relative to contenders.

  Args:
    shares: computation -> contender -> the time of our matrix products at the
      peak speed, relative to the time of the contender, in percent.
  """
  figure = Figure(figsize=(6.4, 0.4 * len(shares) + 1.4))
  axes = figure.subplots()
  axes.set_title('Time of our matrix products at the peak speed')
  axes.set_xlabel('share of the time of an update or a pass (%)')
  axes.set_xlim(0, 105)
  axes.grid(axis='x')
  axes.axvline(100, color=plots.INK, linestyle='--', label='peak speed')
  axes.set_yticks(range(len(shares)), shares)
  axes.invert_yaxis()
  for color, (name, (label, marker)) in zip(
    plots.PALETTE, _SHOWN.items(), strict=False
  ):
    points = [
      (row[name], y) for y, row in enumerate(shares.values()) if name in row
    ]
    if not points:  # an optional package was missing
      continue
    axes.plot(
      *zip(*points, strict=True),
      marker=marker,
      color=color,
      label=label,
      linestyle='none',
    )
  figure.legend(loc='outside lower center', ncols=3)
  return figure


def shares_of_peak(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
  """Return the argument of `share_of_peak`."""
  shares = {}
  for row in rows:
    if bound := row.metrics.get('speedup_at_peak'):
      computation = shares.setdefault(f'{row.system}: {row.case}', {})
      computation[row.contender] = 100 / bound
  return shares


@plots.style()
def roofline(systems: Mapping[str, Mapping[str, Mapping[str, Row]]]) -> Figure:
  """Plot speed against operations per byte, one panel for each system.

  The roof is the peak speed, and, for few operations per byte, the bandwidth of
  the main memory. Above it, a program reads most of its bytes from caches.

  Args:
    systems: system -> case -> contender -> its row, with 'percent_of_peak',
      'percent_of_bandwidth', and 'flop_per_byte'.
  """
  figure = Figure(figsize=(6.4, 5.6))
  panels = figure.subplots(2, 2, sharex=True, sharey=True, squeeze=False)
  for axes, (system, cases) in zip(panels.flat, systems.items(), strict=True):
    axes.set_title(system)
    rows = [row for case in cases.values() for row in case.values()]
    _draw_roof(axes, rows)
    for color, (case, contenders) in zip(
      plots.PALETTE, cases.items(), strict=False
    ):
      for name, row in contenders.items():
        label, marker = _SHOWN[name]
        axes.plot(
          row.metrics['flop_per_byte'],
          row.metrics['percent_of_peak'],
          marker=marker,
          color=color,
          label=f'{case}, {label}',
          linestyle='none',
        )
    axes.legend(loc='lower right', fontsize='x-small')
  for axes in panels[-1]:
    axes.set_xlabel('operations per byte read or written')
  for axes in panels[:, 0]:
    axes.set_ylabel('speed of the products (% of peak)')
  return figure


def _draw_roof(axes, rows):
  """Draw the roof, from the ratio of bandwidth to peak speed in the rows."""
  slope = statistics.median(
    row.metrics['percent_of_peak']
    / (row.metrics['percent_of_bandwidth'] * row.metrics['flop_per_byte'])
    for row in rows
  )
  x = np.geomspace(1, 100, 100)
  axes.plot(x, np.minimum(100, 100 * slope * x), color=plots.INK, label='roof')
  axes.set(xscale='log', yscale='log', xlim=(1, 100), ylim=(5, 150))
  axes.set_xticks((1, 10, 100), (1, 10, 100))
  axes.set_yticks((10, 100), (10, 100))


def counted_rows(
  rows: Iterable[Row],
) -> dict[str, dict[str, dict[str, Row]]]:
  """Return the argument of `roofline`: the rows with all of its metrics."""
  needed = {'percent_of_peak', 'percent_of_bandwidth', 'flop_per_byte'}
  systems = {}
  for row in rows:
    if needed <= row.metrics.keys():
      cases = systems.setdefault(row.system, {})
      cases.setdefault(row.case, {})[row.contender] = row
  return systems


def main():
  """Draw the figures of the committed results.

  The roofline is that of the machine with AVX2: the results of the other one
  have no counts of bytes.
  """
  folder = _ROOT / 'results/benchmarks'
  figures = {
    'share_of_peak': share_of_peak(shares_of_peak(read_rows(folder))),
    'roofline': roofline(counted_rows(read_rows(folder / 'avx2'))),
  }
  plots.save(figures, _ROOT / 'docs/figures')


if __name__ == '__main__':
  main()
