"""Metrics as pairs (total, weight), which are summed and divided at the end.

Therefore padding, micro-batches, scan steps, and devices cannot bias a mean.
"""

import collections
import dataclasses
import math
import re
import typing
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

# Suffixes of the metrics of the spread across seeds.
SPREAD = 'min', 'max', 'by_seed'
# A larger group of names that differ only by a number is a breakdown.
_MAX_SIBLINGS = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Metric:
  """A weighted mean before its division.

  A mean has a confidence interval only if it is a share of independent samples.
  Only metrics of evaluators get intervals. For these, declare
  `is_independent=False` for dependent samples, such as the cells of a board,
  and for means of values other than 0 and 1.

  Attributes:
    total: sum of weighted values.
    weight: sum of weights, with the shape of `total`.
    is_independent: whether the samples are independent.
  """

  total: jax.Array
  weight: jax.Array
  is_independent: bool = dataclasses.field(
    default=True, metadata={'static': True}
  )

  @classmethod
  def mean(
    cls, values, weights=1.0, *, axis=None, is_independent: bool = True
  ) -> typing.Self:
    """Return the weighted mean of `values` over `axis`, or over all axes.

    `weights` broadcast with `values`. A weight of 0 excludes a value.
    """
    values, weights = jnp.broadcast_arrays(
      jnp.asarray(values, jnp.float32), jnp.asarray(weights, jnp.float32)
    )
    total, weight = (values * weights).sum(axis), weights.sum(axis)
    return cls(total, weight, is_independent)

  def __getitem__(self, index) -> typing.Self:
    """Return the part of the metric at `index` of `total` and `weight`."""
    return dataclasses.replace(
      self, total=self.total[index], weight=self.weight[index]
    )

  def result(self) -> jax.Array:
    """Return the mean; NaN where the weight is 0."""
    return self.total / self.weight

  def interval(self) -> dict[str, float]:
    """Return 'count' and the 95 % bounds of a share; {} for other means."""
    total, weight = np.asarray(self.total), np.asarray(self.weight)
    if not self.is_independent or total.ndim or not weight:
      return {}
    if not 0 <= total <= weight or total % 1:  # not a share of whole examples
      return {}
    low, high = wilson_interval(float(total), float(weight))
    return {'count': int(weight), 'low': round(low, 6), 'high': round(high, 6)}


@jax.tree_util.register_dataclass
@typing.no_type_check  # JAX replaces the fields with values of other types
@dataclasses.dataclass(frozen=True)
class Perplexity(Metric):
  """The exponential of a weighted mean in nats."""

  def result(self) -> jax.Array:
    """Return the perplexity; NaN where the weight is 0."""
    mean = self.total / self.weight
    # On the host, jnp.exp would wait for the device, which runs the next call.
    return jnp.exp(mean) if isinstance(mean, jax.Array) else np.exp(mean)

  def interval(self) -> dict[str, float]:
    """Return {}, because a perplexity is not a share."""
    return {}


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
  """Return the 95 % Wilson score interval of a share, (low, high) in [0, 1]."""
  if count == 0:
    return 0.0, 1.0
  z = 1.959963984540054
  share, z2 = successes / count, z * z / count
  center = (share + z2 / 2) / (1 + z2)
  half = z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / count / 4)
  return max(0.0, center - half), min(1.0, center + half)


def headline(names: Iterable[str]) -> list[str]:
  """Return the names, except those of breakdowns such as 'accuracy_17'.

  A breakdown is more than four names that differ only by a number in their last
  part. Metrics of the spread across seeds, such as 'solved_min', are also
  omitted.
  """
  names = dict.fromkeys(names)
  spread = {f'{name}_{end}' for name in names for end in SPREAD}
  names = [name for name in names if name not in spread]
  families = {name: re.sub(r'[0-9]+(?=[^/]*$)', '#', name) for name in names}
  sizes = collections.Counter(families.values())
  return [name for name in families if sizes[families[name]] <= _MAX_SIBLINGS]


def shortest_names(names: Iterable[str]) -> dict[str, str]:
  """Map each name to its shortest suffix that no other name has."""
  names = list(names)

  def shorten(name):
    for start in reversed(range(1 + name.count('/'))):
      tail = '/'.join(name.split('/')[start:])
      if sum(f'/{other}'.endswith(f'/{tail}') for other in names) == 1:
        return tail
    return name

  return {name: shorten(name) for name in names}


def natural_sort_key(name: str) -> list[str | float]:
  """Return a sort key: 'n=5' comes before 'n=10', and '0.25' before '0.5'."""
  parts = re.split(r'(\d+(?:\.\d+)?)', name)
  return [float(x) if index % 2 else x for index, x in enumerate(parts)]
