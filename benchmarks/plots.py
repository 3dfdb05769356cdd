"""Plot the time of our matrix products relative to each contender's time.

`uv run python -m benchmarks.plots` reads results/benchmarks, and writes
docs/figures/share_of_peak.png and .svg.
"""

import json
from collections.abc import Mapping
from pathlib import Path

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
# Contender -> its label and marker; the figure shows no others.
_SHOWN = {
  'ours': ('ours', 'o'),
  'plain form': ('plain form', 's'),
  'PyTorch eager': ('PyTorch, eager', '^'),
  'PyTorch compiled': ('PyTorch, compiled', 'v'),
}


@plots.style()
def share_of_peak(rows: Mapping[str, Mapping[str, float]]) -> Figure:
  """Plot the time of our products at the peak speed, relative to contenders.

  Args:
    rows: computation -> contender -> the time of our matrix products at the
      peak speed, relative to the time of the contender, in percent.
  """
  figure = Figure(figsize=(6.4, 0.4 * len(rows) + 1.4))
  axes = figure.subplots()
  axes.set_title('Time of our matrix products at the peak speed')
  axes.set_xlabel('share of the time of an update or a pass (%)')
  axes.set_xlim(0, 105)
  axes.grid(axis='x')
  axes.axvline(100, color=plots.INK, linestyle='--', label='peak speed')
  axes.set_yticks(range(len(rows)), rows)
  axes.invert_yaxis()
  for color, (name, (label, marker)) in zip(
    plots.PALETTE, _SHOWN.items(), strict=False
  ):
    points = [
      (row[name], y) for y, row in enumerate(rows.values()) if name in row
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


def read_shares(folder: Path) -> dict[str, dict[str, float]]:
  """Return the rows of `share_of_peak` from the result files of a folder."""
  shares = {}
  for file, label in _LABELS.items():
    text = (folder / f'{file}.json').read_text(encoding='utf-8')
    record = json.loads(text)
    for name, row in record['rows'].items():
      case, _, contender = name.partition(', ')
      bound = row['metrics'].get('speedup_at_peak', {}).get('value')
      if bound and contender in _SHOWN:
        shares.setdefault(f'{label}: {case}', {})[contender] = 100 / bound
  return shares


def main():
  """Draw the figure of the committed results."""
  rows = read_shares(_ROOT / 'results/benchmarks')
  plots.save({'share_of_peak': share_of_peak(rows)}, _ROOT / 'docs/figures')


if __name__ == '__main__':
  main()
