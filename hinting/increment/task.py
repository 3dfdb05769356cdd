"""The increment task: write the digits of a number plus one."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from core.errors import check_choice
from hinting import hinted_task
from hinting.increment import data, hints
from hinting.vocabulary import Token

sweep_figures = hinted_task.sweep_figures


def make_task(config: ml_collections.ConfigDict) -> 'IncrementTask':
  """Build the task from its config."""
  return IncrementTask(config)


class IncrementTask(hinted_task.HintedTask):
  """Increment (Awasthi & Gupta 2023, appendix). Implements `core.task.Task`."""

  tests = ('test', 'carries')

  def __init__(self, config: ml_collections.ConfigDict):
    check_choice('config.data.order', config.data.order, hints.ORDERS)
    super().__init__(
      config,
      hints.kinds(config.data.order),
      main='increment',
      delimiter=Token.INCREMENT,
      # Value 1 stands for 0: a digit, or the number of 9s in a row of 'span'.
      num_values=1 + max(9, config.data.max_train_length),
    )

  def draw_values(
    self, key: jax.Array, count: jax.Array, *, size: int, distribution: str
  ) -> jax.Array:
    """Draw a number: int32 [N]; see `hints.draw_values`."""
    return hints.draw_values(
      key, count, size=size, order=self.data.order, distribution=distribution
    )

  def parse(self, line: str) -> np.ndarray:
    """Read the digits of a line as values, in the order of the rows."""
    digits = data.parse(line, max_length=self.data.max_predict_length)
    return 1 + self._reorder(digits)

  def solve(self, values: list[int]) -> str:
    """Return the number plus one in digits."""
    return str(int(self._write(values)) + 1)

  def finish(
    self, answer: list[int | None], values: list[int]
  ) -> tuple[str, str]:
    """Format an answer in digits, with '?' for tokens that are not digits."""
    text = self._write(answer)
    is_right = text == self.solve(values)
    return text, '' if is_right else 'is not the number plus one'

  def _write(self, values: Sequence[int | None]) -> str:
    """Format values, which are in the order of the rows, as a number."""
    digits = ['?' if v is None or v > 10 else str(v - 1) for v in values]
    return ''.join(self._reorder(digits))

  def _reorder(self, digits):
    """Convert digits to the order of the rows, or back to standard order."""
    return digits[::-1] if self.data.order == 'reversed' else digits
