"""Compute exact means over finite sets, in jitted calls of many batches."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from flax import nnx
from jax.sharding import Mesh

from core import metrics, sharding
from core.errors import UserError
from core.task import Batch, Evaluator, Metrics

# With several CPU devices, XLA keeps the buffers of all batches of a call, so
# the number of batches bounds the memory.
_BATCHES_PER_CALL = 64


def make_evaluation(
  evaluator: Evaluator,
  merge: Callable[[Any], nnx.Module],
  mesh: Mesh,
  num_seeds: int = 1,
  *,
  shows_progress: bool = False,
) -> Callable[[Any], Metrics]:
  """Place the set on the mesh, and return a function params -> metrics.

  The metrics are on the host.

  Args:
    evaluator: the set and its measurement.
    merge: parameters -> model.
    mesh: the mesh.
    num_seeds: with several seeds, the first axis of parameters and metrics is
      the seed.
    shows_progress: whether to draw a progress bar if standard error is a
      terminal.

  Raises:
    UserError: the set has no examples.
  """
  place = sharding.batch_sharding(mesh, axis=1, num_seeds=num_seeds)
  parts = [
    sharding.put(part, place)
    for part in split(make_batches(evaluator, mesh, num_seeds))
  ]
  call = make_call(evaluator, merge, mesh, num_seeds)

  def evaluate(params):
    bar = tqdm.tqdm(
      parts, leave=False, unit='part', disable=None if shows_progress else True
    )
    # Wait for each call, so that memory holds the buffers of one call only.
    measured = [jax.device_get(call(params, part)) for part in bar]
    return jax.tree.map(lambda *sums: sum(sums), *measured)

  return evaluate


def make_call(
  evaluator: Evaluator,
  merge: Callable[[Any], nnx.Module],
  mesh: Mesh,
  num_seeds: int = 1,
) -> Callable[[Any, Batch], Metrics]:
  """Return the jitted function (params, batches) -> metrics."""

  def measure(params, batches):
    model = merge(params)
    measured = jax.lax.map(lambda b: evaluator.measure(model, b), batches)
    return jax.tree.map(lambda x: x.sum(0), measured)

  @jax.jit
  def call(params, batches):
    if num_seeds == 1:
      summed = measure(params, batches)
    else:
      params = jax.lax.with_sharding_constraint(
        params, sharding.seed_sharding(mesh, num_seeds)
      )
      summed = jax.vmap(measure, in_axes=(0, None))(params, batches)
    return jax.lax.with_sharding_constraint(summed, sharding.replicated(mesh))

  return call


def make_batches(
  evaluator: Evaluator, mesh: Mesh, num_seeds: int = 1
) -> dict[str, np.ndarray]:
  """Load the set as N batches of the same size B, [N, B, ...].

  B is divisible by the number of batch shards. Padding has 'weight' 0.

  Raises:
    UserError: the set has no examples.
  """
  shards = sharding.num_batch_shards(mesh, num_seeds)
  batch_size = -(-evaluator.batch_size // shards) * shards
  arrays = evaluator.arrays()
  if not len(next(iter(arrays.values()))):
    raise UserError(
      'an evaluation set has no examples; use data with at least one example'
      ' in each evaluation set'
    )
  return _pad(arrays, batch_size)


def _pad(
  arrays: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
  """Return columns [n, ...] as [n / B, B, ...], with 'weight' 0 on padding."""
  count = len(next(iter(arrays.values())))
  padded = -(-count // batch_size) * batch_size
  weight = (np.arange(padded) < count).astype(np.float32)
  # Padding repeats examples, because zeros may not be a valid example.
  return {
    name: np.resize(x, (padded // batch_size, batch_size, *x.shape[1:]))
    for name, x in {**arrays, 'weight': weight}.items()
  }


def split(batches: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
  """Split batches [N, ...] into equal parts of at most 64 batches each.

  Batches that fill the last part have 'weight' 0.
  """
  count = len(batches['weight'])
  num_parts = -(-count // _BATCHES_PER_CALL)
  size = -(-count // num_parts)
  padded = {
    name: np.resize(x, (num_parts * size, *x.shape[1:]))
    for name, x in batches.items()
  }
  padded['weight'][count:] = 0
  return [
    {name: x[start : start + size] for name, x in padded.items()}
    for start in range(0, num_parts * size, size)
  ]


def values(
  measured: Metrics, prefix: str = '', num_seeds: int = 1
) -> dict[str, float | list]:
  """Return the means as JSON values, by prefix and name; curves are lists.

  With several seeds on a first axis, return the median. A number then also has
  '<name>_min', '<name>_max', and the list '<name>_by_seed'.
  """
  with np.errstate(invalid='ignore', divide='ignore'):
    means = {
      prefix + name: np.asarray(metric.result())
      for name, metric in measured.items()
    }
    if num_seeds > 1:
      means = _over_seeds(means)
  # Six digits are more precise than any confidence interval here.
  return jax.tree.map(
    lambda value: float(f'{value:.6g}'),
    {name: mean.tolist() for name, mean in means.items()},
  )


def _over_seeds(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  summary = {}
  for name, by_seed in means.items():
    summary[name] = np.median(by_seed, axis=0)
    if by_seed.ndim == 1:
      spread = by_seed.min(), by_seed.max(), by_seed
      for suffix, value in zip(metrics.SPREAD, spread, strict=True):
        summary[f'{name}_{suffix}'] = value
  return summary
