"""The interface between an experiment and the training loop.

A task is one experiment of one paper: its data, model, loss, and metrics.
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
  """A finite set of examples and what is measured on it.

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
  """Return 'validation', for training, and 'test', for `--mode=eval` only.

  Args:
    evals: the section of the config, with `every` and `batch_size`.
    arrays: loads the columns of a split.
    measure: see `Evaluator`.
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
  """The interface of an experiment; `model` is what `make_model` returned."""

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the model: parameters only, no mutable state."""
    ...

  def arrays(self, split: str) -> Mapping[str, np.ndarray]:
    """Return the columns of a split; {} if the device generates examples."""
    ...

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draw or generate `size` examples: a pure function of key and step."""
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
    """Return what is measured, by name."""
    ...

  def figures(
    self, values: Mapping[str, Any], model: Any = None
  ) -> Mapping[str, Figure]:
    """Return figures by file name without its suffix; fewer without a model.

    `values` maps '<evaluator>/<metric>' to a number or (nested) list.
    """
    ...

  def predict(
    self, model: Any, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Yield one answer per input line, in order; an error for a bad line.

    Call `logging.warning('line %d: ...', number, ...)` before an answer that
    breaks the rules of the task.
    """
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
