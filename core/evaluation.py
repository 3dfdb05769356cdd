"""Exact means over finite sets: whole batches, one jitted call a set."""

from collections.abc import Callable, Mapping
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
  shards = sharding.num_batch_shards(mesh)
  batch_size = -(-evaluator.batch_size // shards) * shards
  batches = sharding.put(
    _pad(evaluator.arrays(), batch_size), sharding.batch_sharding(mesh, axis=1)
  )

  @jax.jit
  def run(params, batches):
    model = merge(params)
    measured = jax.lax.map(lambda b: evaluator.measure(model, b), batches)
    summed = jax.tree.map(lambda x: x.sum(0), measured)
    return jax.lax.with_sharding_constraint(summed, sharding.replicated(mesh))

  return lambda params: jax.device_get(run(params, batches))


def _pad(
  arrays: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
  """Columns [n, ...] -> [n / B, B, ...] with 'weight' 0 on the padding."""
  count = len(next(iter(arrays.values())))
  padded = -(-count // batch_size) * batch_size
  weight = (np.arange(padded) < count).astype(np.float32)
  # Repeats examples: zeros may be no example at all.
  return {
    name: np.resize(x, (padded // batch_size, batch_size, *x.shape[1:]))
    for name, x in {**arrays, 'weight': weight}.items()
  }


def values(measured: Metrics, prefix: str = '') -> dict[str, float | list]:
  """The means as JSON has them, by prefix and name: curves are nested lists."""
  with np.errstate(invalid='ignore', divide='ignore'):
    means = {
      prefix + name: np.asarray(metric.result()).tolist()
      for name, metric in measured.items()
    }
  # Enough digits, and no noise.
  return jax.tree.map(lambda value: float(f'{value:.6g}'), means)
