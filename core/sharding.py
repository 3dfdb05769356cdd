"""Place arrays on the mesh: the batch by its axis, parameters by their paths.

Models contain no sharding annotations; a task may add path rules
(`tensor_rules`). The batch is split over ('data', 'fsdp'). Parameters,
averages, and optimizer states are replicated, or split over 'tensor' by path
rules and over 'fsdp' by size. If 'data' x 'fsdp' divides the number of seeds,
the seeds are split instead of the batch.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from core.errors import UserError

AXES = ('data', 'fsdp', 'tensor')
_BATCH_AXES = ('data', 'fsdp')  # they split either the batch or the seeds

Rules = Sequence[tuple[str, tuple[str | None, ...]]]  # path regex -> axes
# The layers of an MLP alternately split their outputs and their inputs, so that
# only every second layer communicates.
MLP_RULES: Rules = (
  (r'layers/\d*[02468]/kernel$', (None, 'tensor')),
  (r'layers/\d*[13579]/kernel$', ('tensor', None)),
)
FSDP_MIN_SIZE = 4096  # elements; smaller arrays and embeddings stay whole


def make_mesh(sizes: Mapping[str, int] | ConfigDict, devices=None) -> Mesh:
  """Build the mesh.

  Args:
    sizes: number of devices per axis. One axis may be -1 and gets all remaining
      devices.
    devices: devices of the mesh. None selects all devices.

  Raises:
    UserError: the product of the sizes is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  try:
    if any(size < -1 for size in sizes.values()):
      raise ValueError
    # `reshape` replaces the -1, and raises ValueError if the sizes do not fit.
    shape = np.reshape(devices, [sizes[axis] for axis in AXES]).shape
  except ValueError:
    raise UserError(
      f'mesh {dict(sizes)} does not fit {len(devices)} devices; set config.mesh'
      ' so that data x fsdp x tensor is that number (-1: all remaining devices)'
    ) from None
  types = (AxisType.Auto,) * len(AXES)
  return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)


def seed_axes(mesh: Mesh, num_seeds: int) -> tuple[str, ...]:
  """Return the axes that split the seeds; () if no axis does."""
  shards = math.prod(mesh.shape[axis] for axis in _BATCH_AXES)
  return _BATCH_AXES if num_seeds > 1 and num_seeds % shards == 0 else ()


def batch_axes(mesh: Mesh, num_seeds: int = 1) -> tuple[str, ...]:
  """Return the axes that split the batch; () if they split the seeds."""
  return () if seed_axes(mesh, num_seeds) else _BATCH_AXES


def num_batch_shards(mesh: Mesh, num_seeds: int = 1) -> int:
  """Return the number of parts into which the batch is split."""
  return math.prod(mesh.shape[axis] for axis in batch_axes(mesh, num_seeds))


def replicated(mesh: Mesh) -> NamedSharding:
  """Return the sharding that puts the whole array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(
  mesh: Mesh, *, axis: int = 0, num_seeds: int = 1
) -> NamedSharding:
  """Return the sharding of an array with examples on axis number `axis`."""
  return NamedSharding(
    mesh, P(*[None] * axis, batch_axes(mesh, num_seeds) or None)
  )


def seed_sharding(mesh: Mesh, num_seeds: int) -> NamedSharding:
  """Return the sharding of an array with seeds on the first axis."""
  return NamedSharding(mesh, P(seed_axes(mesh, num_seeds) or None))


def sum_over_shards(fn: Callable, mesh: Mesh, num_seeds: int = 1) -> Callable:
  """Return a function that runs `fn` on each shard of the batch separately.

  Args:
    fn: (arrays, parts) -> (sums, new parts). Only the parts are split, on their
      first axis. The sums are added over all shards.
    mesh: the mesh.
    num_seeds: number of seeds.
  """
  axes = tuple(x for x in batch_axes(mesh, num_seeds) if mesh.shape[x] > 1)
  if not axes:
    return fn

  def run(arrays, parts):
    sums, parts = fn(arrays, parts)
    return jax.lax.psum(sums, axes), parts

  return jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(P(), P(axes)),
    out_specs=(P(), P(axes)),
    axis_names=set(axes),
    # With this check, JAX would sum every gradient of `arrays` over the shards.
    check_vma=False,
  )


def state_shardings(
  abstract_state, mesh: Mesh, num_seeds: int = 1, rules: Rules = MLP_RULES
):
  """Return the sharding of each leaf of a training state, by path and shape.

  Args:
    abstract_state: the shapes of the state. With several seeds, each leaf
      except 'step' has the seeds on its first axis. The carry of the task is
      split like the batch.
    mesh: the mesh.
    num_seeds: number of seeds.
    rules: path regex -> one mesh axis, or None, per axis of the array. Only the
      first matching rule applies. It splits nothing if the array has another
      number of axes. It does not split an axis whose size is not divisible by
      the size of the mesh axis. 'fsdp' may split axes that no rule splits.
  """
  split = seed_axes(mesh, num_seeds)
  free = {axis: size for axis, size in mesh.shape.items() if axis not in split}

  def sharding(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    has_seeds = num_seeds > 1 and name != 'step'
    if name.partition('/')[0] == 'carry':
      spec = P(batch_axes(mesh, num_seeds) or None)
    else:
      spec = _spec(name, leaf.shape[int(has_seeds) :], free, rules)
    if has_seeds:
      spec = P(split or None, *spec)
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def _spec(
  name: str, shape: tuple[int, ...], axes: Mapping[str, int], rules: Rules
) -> P:
  matches = (split for regex, split in rules if re.search(regex, name))
  rule = next(matches, ())
  if len(rule) != len(shape):
    rule = (None,) * len(shape)
  spec = [
    split if split and size % axes[split] == 0 else None
    for size, split in zip(shape, rule, strict=True)
  ]
  is_large = math.prod(shape) >= FSDP_MIN_SIZE
  if 'fsdp' in axes and is_large and 'embedding' not in name:
    free = [
      axis
      for axis, size in enumerate(shape)
      if spec[axis] is None and size % axes['fsdp'] == 0
    ]
    if free:
      spec[max(free, key=lambda axis: shape[axis])] = 'fsdp'
  return P(*spec)


def put(tree, shardings):
  """Place arrays that every process holds whole, by a tree of shardings."""
  return jax.tree.map(
    lambda x, s: jax.make_array_from_callback(x.shape, s, x.__getitem__),
    tree,
    jax.tree.broadcast(shardings, tree),
  )


def fetch(tree, mesh: Mesh):
  """Return the whole arrays on this host, regardless of their sharding."""
  gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
  return jax.device_get(gathered)
