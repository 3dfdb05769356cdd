"""The interface between an experiment and the training loop.

A task is one experiment of one paper: its data, model, loss and measures.
`<system>.<experiment>.task.make_task(config)` builds it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from core.errors import UserError
from core.metrics import Metric

Batch = dict[str, jax.Array]
Metrics = dict[str, Metric]


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """A finite set and what is measured on it.

  `arrays()` loads the columns, whose leading axis is the examples. `measure` is
  a pure function of model and batch: columns, and 'weight' [B], 0 for padding.
  """

  arrays: Callable[[], Mapping[str, np.ndarray]]
  measure: Callable[[Any, Batch], Metrics]
  batch_size: int  # examples at once
  every: int  # updates, and always the last one; 0: only by `--mode=eval`


def split_evaluators(
  evals: Any,
  arrays: Callable[[str], Mapping[str, np.ndarray]],
  measure: Callable[[Any, Batch], Metrics],
) -> dict[str, Evaluator]:
  """'validation', in training, and 'test', by eval: alike but for the split.

  `evals` is the config's section, with `every` and `batch_size`; `arrays` loads
  the columns of a split.
  """
  return {
    split: Evaluator(
      arrays=functools.partial(arrays, split),
      measure=measure,
      batch_size=evals.batch_size,
      every=period,
    )
    for split, period in (('validation', evals.every), ('test', 0))
  }


class Task(Protocol):
  """All that `core` ever asks of an experiment; `model` is what it made."""

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Builds the model: parameters only, no mutable state."""
    ...

  def arrays(self, split: str) -> Mapping[str, np.ndarray]:
    """The split's columns, {} where examples are generated on the device."""
    ...

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws or generates `size` examples: a pure function of key and step."""
    ...

  def loss(
    self, model: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean loss over the examples, and what to log.

    `key` is for dropout. A task with a carry takes it as a fourth argument and
    returns the next one as a third result; see `CarryingTask`.
    """
    ...

  def evaluators(self) -> Mapping[str, Evaluator]:
    """What is measured, by name."""
    ...

  def figures(
    self, values: Mapping[str, Any], model: Any = None
  ) -> Mapping[str, Figure]:
    """Pictures by file name without its ending; without `model`, fewer.

    `values` maps '<evaluator>/<metric>' to a number or (nested) list.
    """
    ...

  def predict(
    self, model: Any, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """One answer per input line, in order; a bad line's is what is wrong."""
    ...


class CarryingTask(Task, Protocol):
  """A task whose examples stay for several updates.

  The carry is part of the training state: sharded like the batch, checkpointed,
  and restored bit for bit.
  """

  def init_carry(self, key: jax.Array, size: int) -> Any:
    """Return the first carry: a pytree of arrays [size, ...]."""
    ...

  def loss(  # pyrefly: ignore[bad-override]
    self, model: Any, batch: Batch, key: jax.Array, carry: Any
  ) -> tuple[jax.Array, Metrics, Any]:
    """Return the mean loss, what to log, and the carry of the next update."""
    ...
