"""Figures of the 5-gram task: the share of each order, and its history."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from core.report import plots

_NUM_BARS = 12
_NUM_COLORS = 5


@plots.style()
def share_by_order(orders: np.ndarray, shares: Sequence[float]) -> Figure:
  """Plot the most frequent orders as bars.

  Args:
    orders: int [O, 5], positions from 0.
    shares: [O], the share of 5-grams for which each order is the best one.
  """
  ranked = np.argsort(shares)[::-1][:_NUM_BARS]
  names = [_name(orders[row]) for row in ranked]
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('5-grams by the order with the highest probability')
  axes.grid(visible=False)
  axes.barh(
    names[::-1], np.asarray(shares)[ranked][::-1], color=plots.PALETTE[0]
  )
  axes.set_xlim(0, 1)
  axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
  axes.set_xlabel('share of 5-grams (%)')
  axes.set_ylabel('order of the words')
  return figure


@plots.style()
def share_by_update(
  orders: np.ndarray, updates: Sequence[int], shares: np.ndarray
) -> Figure:
  """Plot the share of each order over training, stacked.

  Args:
    orders: int [O, 5], positions from 0.
    updates: [T], the updates at which the shares were measured.
    shares: [T, O]. The orders that are most frequent at the end have a color
      each, and all others share one.
  """
  others, ranked = np.split(np.argsort(shares[-1]), [-_NUM_COLORS])
  ranked = ranked[::-1]
  names = [*(_name(orders[row]) for row in ranked), 'all others']
  figure = Figure(figsize=(6.4, 3.6))
  axes = figure.subplots()
  axes.set_title('5-grams by the order with the highest probability')
  axes.stackplot(
    updates,
    *shares[:, ranked].T,
    shares[:, others].sum(1),
    labels=names,
    colors=[*plots.PALETTE[:_NUM_COLORS], '#DDDDDD'],
  )
  axes.set_xlim(updates[0], updates[-1])
  plots.show_percent(axes)
  axes.set_ylim(0, 1)
  axes.set_xlabel('updates')
  axes.set_ylabel('share of 5-grams (%)')
  figure.legend(loc='outside right upper', labelcolor=plots.INK)
  return figure


def _name(order: np.ndarray) -> str:
  """Format positions from 1, as in the paper's table."""
  return ' '.join(str(1 + k) for k in order)
