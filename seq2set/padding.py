"""Padding of rows and sets of different lengths, in NumPy."""

from collections.abc import Sequence

import numpy as np


def padded_length(count: int) -> int:
  """Return the next power of two, at least `count`.

  Programs are then compiled for only a few different lengths.
  """
  return 1 << (count - 1).bit_length()


def stack(
  rows: Sequence[np.ndarray | Sequence[int]], value: int | float, dtype
) -> np.ndarray:
  """Stack rows [k, ...] of different lengths, padded with `value`."""
  shape = len(rows), max(map(len, rows)), *np.shape(rows[0])[1:]
  padded = np.full(shape, value, dtype)
  for row, values in zip(padded, rows, strict=True):
    row[: len(values)] = values
  return padded
