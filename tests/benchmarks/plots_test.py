"""Figures of the benchmarks show what their result files say."""

import json

import numpy as np

from benchmarks import plots


def make_row(**metrics):
  entries = {key: {'value': value} for key, value in metrics.items()}
  return {'metrics': entries, 'seconds': []}


COUNTED = {
  'percent_of_peak': 40.0,
  'percent_of_bandwidth': 80.0,
  'flop_per_byte': 5.0,
}
ROWS = {
  'update, ours': make_row(speedup_at_peak=2.0, **COUNTED),
  'update, plain form': make_row(speedup_at_peak=4.0, **COUNTED),
  'update, PyTorch eager': make_row(speedup_at_peak=8.0, percent_of_peak=None),
  'update, ours, 1 layer': make_row(speedup_at_peak=1.0, **COUNTED),
}


def read(folder):
  for file in plots._LABELS:
    (folder / f'{file}.json').write_text(json.dumps({'rows': ROWS}))
  return list(plots.read_rows(folder))


def test_share_of_peak_is_the_inverse_of_the_speedup_at_the_peak(tmp_path):
  shares = plots.shares_of_peak(read(tmp_path))
  expected = {'ours': 50.0, 'plain form': 25.0, 'PyTorch eager': 12.5}
  assert shares['Task Hinting: update'] == expected
  axes = plots.share_of_peak(shares).axes[0]
  lines = {line.get_label(): line.get_xdata() for line in axes.lines}
  assert list(lines['PyTorch, eager']) == 4 * [12.5]
  assert 'PyTorch, compiled' not in lines


def test_roofline_meets_the_peak_where_the_bandwidth_suffices(tmp_path):
  systems = plots.counted_rows(read(tmp_path))
  assert set(systems['Sudoku']['update']) == {'ours', 'plain form'}
  figure = plots.roofline(systems)
  assert len(figure.axes) == 4
  lines = {line.get_label(): line.get_data() for line in figure.axes[0].lines}
  x, y = lines['roof']
  # 40 % of the peak with 5 operations per byte takes 80 % of the bandwidth, so
  # the whole bandwidth suffices for 50 %, and for 10 % per operation and byte.
  np.testing.assert_allclose(y, np.minimum(100, 10 * x))
  assert [float(value[0]) for value in lines['update, ours']] == [5, 40]
