"""Exact means over finite sets: whole batches, one jitted call a set."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from core import sharding
from core.task import Evaluator, Metrics


def make_evaluation(
  evaluator: Evaluator, merge: Callable[[Any], nnx.Module], mesh: Mesh
) -> Callable[[Any], Metrics]:
  """Puts the set on the mesh and returns params -> metrics, on the host."""
  batch_size = _round_up(evaluator.batch_size, sharding.num_batch_shards(mesh))
  batches = {
    name: sharding.put(column, sharding.batch_sharding(mesh, axis=1))
    for name, column in _pad(evaluator.arrays(), batch_size).items()
  }

  @jax.jit
  def run(params, batches):
    model = merge(params)

    def one(_, batch):
      return None, evaluator.measure(model, batch)

    measured = jax.lax.scan(one, None, batches)[1]
    summed = jax.tree.map(lambda x: x.sum(0), measured)
    return jax.lax.with_sharding_constraint(summed, sharding.replicated(mesh))

  return lambda params: jax.device_get(run(params, batches))


def values(measured: Metrics) -> dict[str, float | list]:
  """The means as JSON has them: curves are (nested) lists."""
  with np.errstate(invalid='ignore', divide='ignore'):
    means = {name: np.asarray(m.result()) for name, m in measured.items()}
  return {name: _plain(mean.tolist()) for name, mean in means.items()}


def _plain(value):
  if isinstance(value, list):
    return [_plain(item) for item in value]
  return float(f'{value:.6g}')  # enough digits, and no noise


def _round_up(size: int, multiple: int) -> int:
  return -(-size // multiple) * multiple


def _pad(arrays, batch_size: int) -> dict[str, np.ndarray]:
  """Columns [n, ...] -> [n / B, B, ...] with 'weight' 0 on the padding."""
  count = len(next(iter(arrays.values())))
  padding = _round_up(count, batch_size) - count
  columns = dict(arrays) | {'weight': np.ones(count, np.float32)}

  def pad(column):
    # Repeats an example, weight 0: zeros may be no example at all.
    fill = np.repeat(column[:1], padding, axis=0)
    return np.concatenate([column, fill])

  columns = {name: pad(column) for name, column in columns.items()}
  columns['weight'][count:] = 0
  return {
    name: column.reshape(-1, batch_size, *column.shape[1:])
    for name, column in columns.items()
  }
