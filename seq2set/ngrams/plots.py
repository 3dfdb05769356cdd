"""The figure of 5-grams: the orders that a model finds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from core import plots

_SHOWN = 12


@plots.style()
def share_by_order(orders: np.ndarray, shares: Sequence[float]) -> Figure:
  """Plots the commonest orders as bars.

  Args:
    orders: int [O, 5], positions from 0.
    shares: [O], of the 5-grams that are likeliest in each.
  """
  ranked = np.argsort(shares)[::-1][:_SHOWN]
  names = [' '.join(str(1 + k) for k in orders[row]) for row in ranked]
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('5-grams, by the order in which they are likeliest')
  axes.grid(visible=False)
  axes.barh(
    names[::-1], np.asarray(shares)[ranked][::-1], color=plots.PALETTE[0]
  )
  axes.set_xlim(0, 1)
  return figure
