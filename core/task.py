"""The interface between an experiment and the training loop.

A task is one experiment of one paper: its data, model, loss, and metrics.
`<system>.<experiment>.task.make_task(config)` builds it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from core.errors import UserError
from core.metrics import Metric

Batch = dict[str, jax.Array]
Metrics = dict[str, Metric]


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """A finite set of examples and its measurement.

  Attributes:
    arrays: loads the columns, with examples on their first axis.
    measure: a pure function that maps the model and a batch to metrics. The
      batch has the columns, and 'weight' [B], which is 0 for padding.
    batch_size: number of examples per batch.
    every: number of updates between evaluations in training; an evaluation also
      follows the last update. 0: only `--mode=eval` evaluates.
  """

  arrays: Callable[[], Mapping[str, np.ndarray]]
  measure: Callable[[Any, Batch], Metrics]
  batch_size: int
  every: int


def split_evaluators(
  evals: Any,
  arrays: Callable[[str], Mapping[str, np.ndarray]],
  measure: Callable[[Any, Batch], Metrics],
) -> dict[str, Evaluator]:
  """Return the evaluators of the splits 'validation' and 'test'.

  Training evaluates only 'validation'; `--mode=eval` evaluates both.

  Args:
    evals: the section `evals` of the config, with `every` and `batch_size`.
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
  """The interface of an experiment; `model` is the result of `make_model`.

  A task may also define
  - `tensor_rules`: sharding rules in addition to those of `core.sharding`;
  - `figures(values, model)`: the figures of an evaluation by file name.
    `values` maps '<evaluator>/<metric>' to a number or (nested) list; the model
    may be None.

  The module of a task may also define
  - `sweep_figures(points)`: the figures of a sweep by file name. `points` maps
    the name of each run to its config and its values;
  - `training_figures(lines)`: the figures of a run by file name, from the lines
    of metrics.jsonl.
  """

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the model, with parameters and without mutable state."""
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
    """Draw or generate `size` examples; a pure function of key and step."""
    ...

  def loss(
    self, model: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean loss over the examples, and metrics to log.

    `key` is for dropout and other random draws. A task with a carry takes the
    carry as a fourth argument, and returns the next carry as a third result;
    see `CarryingTask`.
    """
    ...

  def evaluators(self) -> Mapping[str, Evaluator]:
    """Return the evaluators by name."""
    ...

  def predict(
    self, model: Any, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Yield one answer per input line, in order, or an error for a bad line.

    Call `logging.warning('line %d: ...', number, ...)` before yielding an
    answer that breaks the rules of the task.
    """
    ...


class CarryingTask(Task, Protocol):
  """A task whose examples stay in the batch for several updates.

  The carry is part of the training state: sharded like the batch, checkpointed,
  and restored bit for bit.
  """

  def init_carry(self, key: jax.Array, size: int) -> Any:
    """Return the first carry: a pytree of arrays [size, ...]."""
    ...

  def loss(  # pyrefly: ignore[bad-override]
    self, model: Any, batch: Batch, key: jax.Array, carry: Any
  ) -> tuple[jax.Array, Metrics, Any]:
    """Return the mean loss, metrics to log, and the next carry."""
    ...


def replace_examples(
  carry: Mapping[str, Any], new: Mapping[str, Any], is_done: jax.Array
) -> dict[str, Any]:
  """Replace the examples of a carry that are done.

  Args:
    carry: pytree of arrays [B, ...].
    new: pytree with the same structure, shapes, and types.
    is_done: bool [B]; True selects the example of `new`.
  """

  def select(new, old):
    return jnp.where(is_done.reshape(-1, *[1] * (old.ndim - 1)), new, old)

  return jax.tree.map(select, dict(new), dict(carry))
