"""The heat map shows the difference of the two runs of each cell."""

import numpy as np

from configs.seq2set import star
from seq2set.star import task


def points(gaps):
  """Runs of both orders, whose excess differs by `gaps[examples, beta]`."""
  for (examples, beta), gap in gaps.items():
    for order, excess in (('head_first', 1 + gap), ('head_last', 1.0)):
      config = star.get_config(
        f'num_examples={examples},beta={beta},order={order}'
      )
      values = {'test/excess_nats': excess, 'validation/excess_nats': 9.0}
      yield f'{examples}_{beta}_{order}', (config, values)


def test_the_grid_has_the_differences():
  gaps = {(200, 1.0): -0.5, (200, 2.0): 0.25, (2000, 1.0): 0.0}
  figure = task.sweep_figures(dict(points(gaps)))['head_first_less_head_last']
  (axes,) = figure.axes
  assert axes.get_title(loc='left') == '30 variables'
  shown = axes.images[0].get_array().filled(np.nan)
  np.testing.assert_allclose(shown, [[-0.5, 0.25], [0.0, np.nan]])
  assert [text.get_text() for text in axes.texts] == ['-0.50', '+0.25', '+0.00']


def test_no_figure_without_a_complete_cell():
  first, *_ = points({(200, 1.0): -0.5})
  assert task.sweep_figures(dict([first])) == {}
