"""Where arrays live: one mesh, a sharded batch, parameters by rules on paths.

The only file that knows axes and devices. The batch is split over ('data',
'fsdp'); parameters, averages and optimiser states are replicated, or split over
'tensor' by the rules below and over 'fsdp' by size.
"""

import math
import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from core.errors import UserError

AXES = ('data', 'fsdp', 'tensor')

# First match wins. Layers of an MLP split their outputs and inputs by turns, so
# that only every second one communicates. Tables and biases stay whole.
TENSOR_RULES = (
  (r'layers/\d*[02468]/kernel$', (None, 'tensor')),
  (r'layers/\d*[13579]/kernel$', ('tensor', None)),
)
FSDP_MIN_SIZE = 4096  # elements; below, keeping is cheaper than gathering


def make_mesh(sizes: Mapping[str, int] | ConfigDict, devices=None) -> Mesh:
  """Builds the mesh from devices per axis; one axis may be -1, the rest.

  Raises:
    UserError: the sizes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  try:
    shape = np.reshape(devices, [sizes[axis] for axis in AXES]).shape
  except ValueError:
    raise UserError(
      f'mesh {dict(sizes)} does not fit {len(devices)} devices: set config.mesh'
      ' so that data x fsdp x tensor is that number (-1: all that is left)'
    ) from None
  types = (AxisType.Auto,) * len(AXES)
  return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)


def num_batch_shards(mesh: Mesh) -> int:
  """How many parts the batch is split into."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
  """Axis number `axis` holds the examples."""
  return NamedSharding(mesh, P(*[None] * axis, ('data', 'fsdp')))


def state_shardings(abstract_state, mesh: Mesh):
  """The sharding of each leaf of a training state, by its path and shape."""

  def sharding(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return NamedSharding(mesh, _spec(name, leaf.shape, mesh.shape))

  return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def _spec(name: str, shape: tuple[int, ...], axes: Mapping[str, int]) -> P:
  rules = (r for pattern, r in TENSOR_RULES if re.search(pattern, name))
  rule = next(rules, ())
  if len(rule) != len(shape):
    rule = (None,) * len(shape)
  spec = [
    split if split and size % axes[split] == 0 else None
    for size, split in zip(shape, rule, strict=True)
  ]
  if math.prod(shape) >= FSDP_MIN_SIZE and 'embedding' not in name:
    free = [
      axis
      for axis, size in enumerate(shape)
      if spec[axis] is None and size % axes['fsdp'] == 0
    ]
    if free:
      spec[max(free, key=lambda axis: shape[axis])] = 'fsdp'
  return P(*spec)


def put(tree, shardings):
  """Places arrays that every process holds whole, by one sharding or a tree."""
  return jax.tree.map(
    lambda x, s: jax.make_array_from_callback(x.shape, s, x.__getitem__),
    tree,
    jax.tree.broadcast(shardings, tree),
  )


def fetch(tree, mesh: Mesh):
  """The whole arrays on this host, wherever their parts live."""
  gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
  return jax.device_get(gathered)
