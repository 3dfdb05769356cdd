"""The sorting task: write a list of integers in ascending order."""

import jax
import ml_collections
import numpy as np

from core.errors import UserError, check_choice
from hinting import hinted_task
from hinting.sorting import data, hints
from hinting.vocabulary import Token

# Values of config.data.lists in the config.json of older runs and weights.
_OLD_LISTS = {'plain': 'uniform'}
# Main task -> kinds of rows that cannot be its hints: they have the same prompt
# but another answer.
EXCLUDED_KINDS = {'sort': ('scratchpad',), 'scratchpad': ('sort', 'more_sort')}

sweep_figures = hinted_task.sweep_figures


def make_task(config: ml_collections.ConfigDict) -> 'SortingTask':
  """Build the task from its config."""
  return SortingTask(config)


class SortingTask(hinted_task.HintedTask):
  """Sorting (Awasthi & Gupta 2023). Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    lists = _OLD_LISTS.get(config.data.lists, config.data.lists)
    check_choice('config.data.lists', lists, hints.LISTS)
    check_choice('config.data.main', config.data.main, EXCLUDED_KINDS)
    self.lists = lists
    main = config.data.main
    kinds = hints.kinds(config.data.num_values)
    for name in EXCLUDED_KINDS[main]:
      del kinds[name]
    super().__init__(
      config,
      kinds,
      main=main,
      delimiter=Token.SORT,
      num_values=config.data.num_values,
    )
    longest = max((*self.evals.lengths, *self.evals.test_lengths))
    if self.lists == 'distinct' and longest > self.data.num_values:
      raise UserError(
        f'config.data.num_values={self.data.num_values} is too small for lists'
        f' of {longest} distinct values; use at least {longest}'
      )

  def draw_values(
    self, key: jax.Array, count: jax.Array, *, size: int, distribution: str
  ) -> jax.Array:
    """Draw a list: int32 [N].

    Test lists are uniform, or distinct if the training lists are.
    """
    lists = self.lists
    if distribution == 'test' and lists != 'distinct':
      lists = 'uniform'
    return hints.draw_values(
      key, count, size=size, num_values=self.data.num_values, lists=lists
    )

  def parse(self, line: str) -> np.ndarray:
    """Read the integers of a line."""
    return data.parse(
      line,
      num_values=self.data.num_values,
      max_length=self.data.max_predict_length,
    )

  def solve(self, values: list[int]) -> str:
    """Return the sorted list as text."""
    return ' '.join(map(str, sorted(values)))

  def finish(
    self, answer: list[int | None], values: list[int]
  ) -> tuple[str, str]:
    """Format an answer, with '?' for tokens that are not values."""
    if self.main == 'scratchpad':
      answer = answer[::2]  # the other values count the copies left
    text = ' '.join(str(value or '?') for value in answer)
    return text, data.find_failure(answer, values)
