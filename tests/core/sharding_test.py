"""Meshes, and the rules that split arrays over them."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from core import sharding
from core.errors import UserError
from hinting import transformer


def make_mesh(data, fsdp, tensor):
  return sharding.make_mesh({'data': data, 'fsdp': fsdp, 'tensor': tensor})


def spec(name, shape, mesh):
  """Return the partition of one parameter, by its path 'a/b/c'."""
  tree = jax.ShapeDtypeStruct(shape, np.float32)
  for part in reversed(name.split('/')):
    tree = {part: tree}
  rules = *sharding.MLP_RULES, *transformer.TENSOR_RULES
  placed = sharding.state_shardings(tree, mesh, rules=rules)
  return jax.tree.leaves(placed)[0].spec


@pytest.mark.parametrize(
  'sizes, shape',
  [
    ((-1, 1, 1), (8, 1, 1)),
    ((2, -1, 2), (2, 2, 2)),
    ((2, 4, 1), (2, 4, 1)),
    ((1, 1, -1), (1, 1, 8)),
  ],
)
def test_mesh_fills_the_devices(sizes, shape):
  mesh = make_mesh(*sizes)
  assert tuple(mesh.shape.values()) == shape
  assert sharding.num_batch_shards(mesh) == shape[0] * shape[1]


@pytest.mark.parametrize(
  'sizes',
  [
    *[(3, 1, 1), (4, 1, 1), (-1, 3, 1), (-1, -1, 1), (-1, 0, 1), (-1, 16, 1)],
    (-5, 1, 1),
  ],
)
def test_mesh_that_does_not_fit(sizes):
  with pytest.raises(UserError, match='does not fit 8 devices.*config.mesh'):
    make_mesh(*sizes)


@pytest.mark.parametrize(
  'name, shape, expected',
  [
    ('input_mlp/layers/0/kernel', (32, 32), (None, 'tensor')),
    ('input_mlp/layers/1/kernel', (32, 32), ('tensor', None)),
    ('input_mlp/layers/12/kernel', (32, 32), (None, 'tensor')),
    ('opt_state/0/mu/input_mlp/layers/0/kernel', (32, 32), (None, 'tensor')),
    ('input_mlp/layers/0/kernel', (64, 128), ('fsdp', 'tensor')),
    ('input_mlp/layers/0/kernel', (32, 33), (None, None)),  # not divisible
    ('blocks/0/query/kernel', (64, 128), ('fsdp', 'tensor')),
    ('blocks/11/down/kernel', (32, 32), ('tensor', None)),
    ('input_mlp/layers/0/bias', (32,), (None,)),
    ('lstm/kernel', (64, 128), (None, 'fsdp')),  # its largest axis
    ('lstm/kernel', (128, 127), ('fsdp', None)),  # its largest divisible axis
    ('lstm/kernel', (32, 64), (None, None)),  # too small
    ('digit_embedding', (512, 512), (None, None)),
    ('step', (), ()),
  ],
)
def test_rules(name, shape, expected):
  assert spec(name, shape, make_mesh(2, 2, 2)) == P(*expected)


def test_axes_of_one_device_split_nothing():
  mesh = make_mesh(8, 1, 1)
  placed = jax.device_put(
    np.zeros((64, 128)), jax.NamedSharding(mesh, spec('a', (64, 128), mesh))
  )
  assert placed.sharding.is_fully_replicated


def test_batch_is_split_over_data_and_fsdp():
  mesh = make_mesh(2, 2, 2)
  values = np.arange(24.0).reshape(3, 8)
  array = sharding.put(values, sharding.batch_sharding(mesh, axis=1))
  assert {shard.data.shape for shard in array.addressable_shards} == {(3, 2)}
  parts = {shard.index[1].start for shard in array.addressable_shards}
  assert parts == {0, 2, 4, 6}
  np.testing.assert_array_equal(array, values)


def test_fetch_gathers_what_is_split():
  mesh = make_mesh(2, 4, 1)
  values = np.arange(64.0).reshape(8, 8)
  array = sharding.put(values, sharding.batch_sharding(mesh))
  (fetched,) = sharding.fetch([array], mesh)
  assert isinstance(fetched, np.ndarray)
  np.testing.assert_array_equal(fetched, values)
