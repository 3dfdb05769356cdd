"""Weights: exact round trip; every mismatch is named."""

import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.io import weights

PARAMS = {
  'layers': {'0': {'kernel': jnp.arange(6.0).reshape(2, 3).T}},
  'half': jnp.arange(3, dtype=jnp.bfloat16),
  'scale': jnp.float32(2),
}


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'model').mkdir()
  weights.save_weights(tmp_path / 'model', PARAMS, step=7)
  return tmp_path / 'model'


def test_round_trip(folder):
  shapes = jax.eval_shape(lambda: PARAMS)
  loaded = weights.load_weights(folder, shapes)
  assert jax.tree.structure(loaded) == jax.tree.structure(PARAMS)
  for left, right in zip(
    jax.tree.leaves(loaded), jax.tree.leaves(PARAMS), strict=True
  ):
    assert left.dtype == right.dtype
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
  'like, message',
  [
    (
      PARAMS | {'layers': {'0': {'kernel': jnp.zeros((3, 4))}}},
      r'layers/0/kernel is float32\[3, 2\] in the file and float32\[3, 4\]',
    ),
    (PARAMS | {'scale': jnp.int32(2)}, r'scale is float32\[\] in the file'),
    (PARAMS | {'bias': jnp.zeros(3)}, 'bias is missing in the file'),
    ({'scale': PARAMS['scale']}, 'half is .* and missing in this config'),
  ],
)
def test_another_model(folder, like, message):
  with pytest.raises(UserError, match=message):
    weights.load_weights(folder, like)


def test_floating_types_are_cast(folder):
  like = jax.eval_shape(lambda: PARAMS | {'scale': jnp.float16(2)})
  loaded = weights.load_weights(folder, like)
  assert loaded['scale'].dtype == jnp.float16 and loaded['scale'] == 2
  like['scale'] = np.float64(2)  # as under JAX_ENABLE_X64
  assert weights.load_weights(folder, like)['scale'].dtype == np.float64


def test_old_names_of_layers(folder):
  """The new name changes the order of the layers."""
  like = {'a_layer' if k == 'scale' else k: v for k, v in PARAMS.items()}
  loaded = weights.load_weights(
    folder, like, rename=lambda name: name.replace('scale', 'a_layer')
  )
  assert loaded.keys() == like.keys()
  jax.tree.map(np.testing.assert_array_equal, loaded, like)


@pytest.mark.parametrize('size', [0, 4, 100, -1])
def test_truncated_file(folder, size):
  path = folder / 'weights.safetensors'
  os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
  with pytest.raises(UserError, match='weights.safetensors is damaged'):
    weights.load_weights(folder, PARAMS)


def test_a_type_that_numpy_lacks(folder):
  entry = {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}
  header = json.dumps({'scale': entry}).encode()
  path = folder / weights.NAME
  path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(2))
  with pytest.raises(UserError, match='NumPy lacks .*float8.* to float32'):
    weights.load_weights(folder, PARAMS)


def test_unreadable_file(folder):
  path = folder / weights.NAME
  path.unlink()
  path.mkdir()
  with pytest.raises(UserError, match='cannot be read .Is a directory.'):
    weights.load_weights(folder, PARAMS)


def test_number_of_updates(folder):
  assert weights.read_step(folder) == 7
  assert weights.read_step_or_none(folder) == 7
  weights.save_weights(folder, PARAMS, step=10**18)  # has 19 digits
  assert weights.read_step(folder) is None
  os.truncate(folder / weights.NAME, 4)
  assert weights.read_step_or_none(folder) is None


def test_outputs(folder):
  results = folder / 'results.json'
  assert not weights.has_results(folder)
  results.touch()
  assert weights.has_results(folder)
  assert weights.existing_outputs(folder) == [folder / weights.NAME, results]
  weights.remove_outputs(folder)
  assert not weights.existing_outputs(folder)


def test_weights_that_are_not_finite(folder):
  params = PARAMS | {'scale': jnp.float32(jnp.nan)}
  weights.save_weights(folder, params, step=7)
  with pytest.raises(UserError, match='damaged: scale is not finite'):
    weights.load_weights(folder, PARAMS)


def test_missing_folder_lists_its_neighbors(folder):
  with pytest.raises(UserError, match='has weights in: model$'):
    weights.load_weights(folder.parent / 'modle', PARAMS)
  with pytest.raises(UserError, match='no weights in'):  # a file, not a folder
    weights.load_weights(folder / weights.NAME, PARAMS)


def test_unwritable_folder(folder):
  with pytest.raises(UserError, match='cannot write to'):
    weights.save_weights(folder / weights.NAME, PARAMS, step=7)
