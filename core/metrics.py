"""Metrics as (total, weight) pairs that add up and are divided at the end.

So padding, micro-batches, scan steps and devices cannot bias a mean.
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

SPREAD = 'min', 'max', 'by_seed'  # of a number over several seeds
_MAX_SIBLINGS = 4  # more metrics that differ only by a number are a breakdown


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Metric:
  """A weighted mean in the making; `total` and `weight` have the same shape.

  Samples that are not independent, such as the cells of a board, tell less than
  as many that are: their share has no interval. Nor has a mean of anything but
  0 and 1: it is declared so too.
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
    """Weighted mean of `values` over `axis`, or all axes.

    `weights` broadcast with `values`; 0 leaves one out.
    """
    values, weights = jnp.broadcast_arrays(
      jnp.asarray(values, jnp.float32), jnp.asarray(weights, jnp.float32)
    )
    total, weight = (values * weights).sum(axis), weights.sum(axis)
    return cls(total, weight, is_independent)

  def result(self) -> jax.Array:
    """The mean; NaN where the weight is 0."""
    return self.total / self.weight

  def interval(self) -> dict[str, float]:
    """Of a share of independent examples 'count' and 95 % bounds; else {}."""
    total, weight = np.asarray(self.total), np.asarray(self.weight)
    if not self.is_independent or total.ndim or not weight:
      return {}
    if not 0 <= total <= weight or total % 1:  # no share of whole examples
      return {}
    low, high = wilson_interval(float(total), float(weight))
    return {'count': int(weight), 'low': round(low, 6), 'high': round(high, 6)}


@jax.tree_util.register_dataclass
@typing.no_type_check  # JAX maps its fields to what it likes
@dataclasses.dataclass(frozen=True)
class Perplexity(Metric):
  """exp of a weighted mean of nats."""

  def result(self) -> jax.Array:
    """The perplexity; NaN where the weight is 0."""
    return jnp.exp(self.total / self.weight)

  def interval(self) -> dict[str, float]:
    """{}: it is no share."""
    return {}


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
  """The 95 % Wilson score interval of a share, as (low, high) in [0, 1]."""
  if count == 0:
    return 0.0, 1.0
  z = 1.959963984540054
  share, z2 = successes / count, z * z / count
  centre = (share + z2 / 2) / (1 + z2)
  half = z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / count / 4)
  return max(0.0, centre - half), min(1.0, centre + half)


def headline(names: Iterable[str]) -> list[str]:
  """The names without breakdowns: 'solved_17_givens', 'solved_18_givens', ...

  A breakdown is more than four names that differ only by a number in their last
  part. Nor is there what tells how far seeds are apart: 'solved_min', ...
  """
  names = dict.fromkeys(names)
  spread = {f'{name}_{end}' for name in names for end in SPREAD}
  names = [name for name in names if name not in spread]
  families = {name: re.sub(r'[0-9]+(?=[^/]*$)', '#', name) for name in names}
  sizes = collections.Counter(families.values())
  return [name for name in families if sizes[families[name]] <= _MAX_SIBLINGS]
