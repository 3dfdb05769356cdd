"""Sorting as a task: lists in, the same lists in ascending order out."""

import jax
import ml_collections
import numpy as np

from core.errors import UserError, check_choice
from hinting import hints, mixture
from hinting.sorting import data
from hinting.vocabulary import Token

# The main task, and kinds of rows that answer its prompt in another way.
MAIN_KINDS = {'sort': ('scratchpad',), 'scratchpad': ('sort', 'more_sort')}

sweep_figures = mixture.sweep_figures


def make_task(config: ml_collections.ConfigDict) -> 'SortingTask':
  """Builds the task from its config."""
  return SortingTask(config)


class SortingTask(mixture.MixtureTask):
  """Awasthi & Gupta 2023. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_choice('config.data.lists', config.data.lists, hints.LISTS)
    check_choice('config.data.main', config.data.main, MAIN_KINDS)
    main = config.data.main
    kinds = hints.kinds(config.data.num_values)
    super().__init__(
      config,
      {name: k for name, k in kinds.items() if name not in MAIN_KINDS[main]},
      main=main,
      delimiter=Token.SORT,
      num_values=config.data.num_values,
    )
    longest = max((*self.evals.lengths, *self.evals.test_lengths))
    if self.data.lists == 'distinct' and longest > self.data.num_values:
      raise UserError(
        f'config.data.num_values={self.data.num_values}: lists of {longest}'
        ' distinct values need as many'
      )

  def draw_values(
    self, key: jax.Array, count: jax.Array, *, size: int, law: str
  ) -> jax.Array:
    """Draws a list: int32 [N].

    Those of 'test' are plain, or distinct where those of training are.
    """
    lists = self.data.lists
    if law == 'test' and lists != 'distinct':
      lists = 'plain'
    return hints.draw_values(
      key, count, size=size, num_values=self.data.num_values, lists=lists
    )

  def parse(self, line: str) -> np.ndarray:
    """The integers of a line."""
    return data.parse(
      line,
      num_values=self.data.num_values,
      max_length=self.data.longest_list,
    )

  def solve(self, values: list[int]) -> str:
    """Return the sorted list as text."""
    return ' '.join(map(str, sorted(values)))

  def finish(
    self, answer: list[int | None], values: list[int]
  ) -> tuple[str, str]:
    """Return the answer as text, '?' for a token that is no value."""
    if self.main == 'scratchpad':
      answer = answer[::2]  # The other values are the numbers of copies left.
    text = ' '.join(str(value or '?') for value in answer)
    return text, data.find_failure(answer, values)
