"""Computations that show what a machine can do: its speed and its bandwidth."""

import jax
import jax.numpy as jnp

from benchmarks import harness
from core import sharding

_SQUARE = 2048  # side of the large product
_STREAM = 2**26  # length of the large array


def limits(*shapes: tuple[int, int, int]) -> dict[str, harness.Contender]:
  """Build computations that show the peak speed and the memory bandwidth.

  They are a large square product, a pass over a large array, and products of
  the given shapes. The rows are split over all devices; numbers are float32.

  Args:
    *shapes: rows, columns, and repetitions, for products with a square matrix.
  """
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  split = sharding.batch_sharding(mesh)
  made = {'stream': _make_stream(split)}
  for rows, columns, repeats in ((_SQUARE, _SQUARE, 1), *shapes):
    rows -= rows % mesh.size
    left = jax.random.normal(jax.random.key(0), (rows, columns))
    left = jax.device_put(left, split)
    right = jax.random.normal(jax.random.key(1), (columns, columns))
    # The scale keeps repeated products from growing.
    right = jax.device_put(right / columns**0.5, sharding.replicated(mesh))

    @jax.jit
    def multiply(left, right, repeats=repeats):
      return jax.lax.fori_loop(0, repeats, lambda _, x: x @ right, left)

    def call(multiply=multiply, left=left, right=right):
      jax.block_until_ready(multiply(left, right))

    gflop = 2 * rows * columns**2 * repeats / 1e9
    name = f'{rows} x {columns} x {columns}'
    made[name] = harness.Contender(call, gflop=gflop)
  return made


def _make_stream(split) -> harness.Contender:
  """Build a pass that reads and writes a large array once, in place."""
  x = jax.device_put(jnp.zeros(_STREAM, jnp.float32), split)
  add_one = jax.jit(lambda x: x + 1, donate_argnums=0)

  def call():
    nonlocal x
    x = jax.block_until_ready(add_one(x))

  return harness.Contender(call, gbyte=2 * x.nbytes / 1e9)
