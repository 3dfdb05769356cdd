"""Checkpoints: exact, on any mesh, and never silently wrong."""

import gc
import json
import os
import resource
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from core import checkpoints, step
from core.errors import UserError
from core.io import weights


def make_state(step, width=6):
  params = {
    'layer': {
      'kernel': jax.random.normal(jax.random.key(step), (8, width)),
      'mask': jnp.array([True, False]),
    },
    'odd': jnp.array([jnp.nan, -0.0, 1e-40, jnp.inf]),
    'half': jnp.arange(4, dtype=jnp.bfloat16),
  }
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
  return {
    'params': params,
    'average': None,
    'opt_state': optimizer.init(params),
    'step': jnp.int32(step),
  }


def abstract(state, sharding=None):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding or x.sharding
    ),
    state,
  )


def is_same(left, right):
  return jax.tree.structure(left) == jax.tree.structure(right) and all(
    a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  )


def open_at(folder, keep_last=3, keep_every=0):
  return checkpoints.Checkpointer(
    folder, keep_last=keep_last, keep_every=keep_every
  )


def steps(folder):
  return sorted(path.name for path in (folder / 'checkpoints').iterdir())


def test_floating_types_are_cast(two_steps):
  like = abstract(make_state(2))
  like['params']['layer']['kernel'] = jax.ShapeDtypeStruct(
    (8, 6), jnp.float16, sharding=like['step'].sharding
  )
  state = checkpoints.restore(two_steps, like)
  kernel = state['params']['layer']['kernel']
  assert kernel.dtype == jnp.float16
  saved = make_state(2)['params']['layer']['kernel']
  np.testing.assert_array_equal(kernel, saved.astype(jnp.float16))


@pytest.mark.slow
def test_checkpoints_of_earlier_versions_are_restored(tmp_path):
  """Earlier versions named the moving average `average`."""
  params = {'kernel': jnp.arange(3.0)}
  state = step.TrainState(params, {'kernel': jnp.ones(3)}, (), jnp.int32(1))
  old = {'params': params, 'average': state.ema_params, 'step': state.step}
  with open_at(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  metadata = tmp_path / 'checkpoints' / '1' / '_CHECKPOINT_METADATA'
  saved = json.loads(metadata.read_bytes())['custom_metadata']['leaves']
  assert saved.keys() == weights.flatten(old, '.').keys()
  assert is_same(checkpoints.restore(tmp_path, abstract(state)), state)


def test_old_names_of_layers(two_steps):
  """The new name changes the order of the layers."""

  def with_new_name(tree):
    return {'a' if k == 'layer' else k: v for k, v in tree.items()}

  state = jax.tree.map(
    lambda x: with_new_name(x) if isinstance(x, dict) else x,
    make_state(2),
    is_leaf=lambda x: isinstance(x, dict) and 'layer' in x,
  )
  with pytest.raises(UserError, match=r'\.a\.kernel is missing'):
    checkpoints.restore(two_steps, abstract(state))
  restored = checkpoints.restore(
    two_steps, abstract(state), lambda name: name.replace('layer', 'a')
  )
  assert is_same(restored, state)


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
  """Make a run folder with checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp('run')
  with open_at(folder) as checkpointer:
    for step in (1, 2):
      checkpointer.save(step, make_state(step))
  return folder


# Orbax leaves coroutines behind when a file cannot be read.
pytestmark = [
  pytest.mark.filterwarnings('ignore:coroutine'),
  pytest.mark.filterwarnings('ignore:Exception ignored'),
]


@pytest.fixture(autouse=True)
def collect_garbage():
  """Trigger warnings about leaked objects here, where they are expected."""
  yield
  gc.collect()


@pytest.mark.slow
def test_nothing_to_restore(tmp_path):
  state = abstract(make_state(0))
  assert checkpoints.restore(tmp_path / 'none', state) is None
  with open_at(tmp_path) as checkpointer:
    assert checkpointer.restore(state) is None


def test_round_trip_is_exact(two_steps):
  state = make_state(2)
  restored = checkpoints.restore(two_steps, abstract(state))
  assert is_same(restored, state)


def test_restores_onto_another_mesh(tmp_path):
  devices = np.array(jax.devices())
  one_axis = jax.sharding.Mesh(devices, ('data',))
  two_axes = jax.sharding.Mesh(devices.reshape(4, 2), ('data', 'fsdp'))
  values = {'w': jnp.arange(64.0).reshape(8, 8)}
  sharded = jax.device_put(values, NamedSharding(one_axis, P('data')))
  with open_at(tmp_path) as checkpointer:
    checkpointer.save(1, sharded)
  wanted = NamedSharding(two_axes, P('fsdp', 'data'))
  restored = checkpoints.restore(tmp_path, abstract(values, wanted))
  assert restored['w'].sharding == wanted
  assert is_same(restored, values)


@pytest.mark.slow
def test_saved_arrays_may_be_donated(tmp_path):
  state = {'w': jnp.arange(1e6)}
  expected = np.asarray(state['w']).copy()
  update = jax.jit(lambda x: jax.tree.map(jnp.zeros_like, x), donate_argnums=0)
  with open_at(tmp_path) as checkpointer:
    checkpointer.save(1, state)
    updated = jax.block_until_ready(update(state))
  restored = checkpoints.restore(tmp_path, abstract(updated))
  np.testing.assert_array_equal(restored['w'], expected)


def test_keeps_the_last_and_every_mth(tmp_path):
  with open_at(tmp_path, keep_last=2, keep_every=4) as checkpointer:
    for step in range(1, 8):
      checkpointer.save(step, {'step': jnp.int32(step)})
    checkpointer.save(7, {'step': jnp.int32(7)})  # no error, nothing to do
  assert steps(tmp_path) == ['4', '6', '7']


@pytest.mark.slow
def test_a_save_leaves_no_thread_behind(tmp_path):
  counts = []
  with open_at(tmp_path) as checkpointer:
    for step in range(8):
      checkpointer.save(step, {'step': jnp.int32(step)})
      checkpointer.wait()
      counts.append(threading.active_count())
  assert counts[-1] <= counts[2]


def test_half_written_saves_are_removed(two_steps, tmp_path):
  run = shutil.copytree(two_steps, tmp_path / 'run')
  shutil.copytree(
    run / 'checkpoints' / '2', run / 'checkpoints' / '3.orbax-checkpoint-tmp'
  )
  state = make_state(2)
  with open_at(run) as checkpointer:
    assert is_same(checkpointer.restore(abstract(state)), state)
  deadline = time.monotonic() + 60
  while steps(run) != ['1', '2']:  # it is removed in the background
    assert time.monotonic() < deadline
    time.sleep(0.05)


def truncate(path):
  os.truncate(path, path.stat().st_size // 2)


def zero(path):
  path.write_bytes(bytes(path.stat().st_size))


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


@pytest.mark.parametrize(
  'damage',
  [
    *(
      pytest.param(x, marks=pytest.mark.slow)
      for x in (truncate, zero, os.unlink)
    ),
    flip,
  ],
)
def test_damage_is_never_restored(two_steps, tmp_path, damage):
  good = {step: make_state(step) for step in (1, 2)}
  newest = two_steps / 'checkpoints' / '2'
  files = [path for path in newest.rglob('*') if path.is_file()]
  fallbacks = 0
  for path in files:
    if damage is flip and path.name == '_CHECKPOINT_METADATA':
      continue  # a changed leaf name looks like another model, an error
    run = shutil.copytree(two_steps, tmp_path / 'run')
    damage(run / path.relative_to(two_steps))
    with open_at(run) as checkpointer:
      restored = checkpointer.restore(abstract(good[2]))
      assert is_same(restored, good[int(restored['step'])])
      if restored['step'] == 1:
        fallbacks += 1
        assert steps(run) == ['1', 'corrupt-2']
        checkpointer.save(2, good[2])
    assert is_same(checkpoints.restore(run, abstract(good[2])), good[2])
    shutil.rmtree(run)
  assert fallbacks >= 3  # the other files do not affect the values


@pytest.mark.slow
def test_missing_permission_is_not_damage(two_steps, monkeypatch):
  def fail(path, like):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(checkpoints.ocp.v1, 'load', fail)
  with pytest.raises(UserError, match='2 cannot be read .Permission denied'):
    checkpoints.restore(two_steps, abstract(make_state(2)))
  assert steps(two_steps) == ['1', '2']


@pytest.mark.slow
def test_emptied_checkpoint(two_steps, tmp_path):
  run = shutil.copytree(two_steps, tmp_path / 'run')
  shutil.rmtree(run / 'checkpoints' / '2')
  (run / 'checkpoints' / '2').mkdir()
  with open_at(run) as checkpointer:
    restored = checkpointer.restore(abstract(make_state(2)))
  assert is_same(restored, make_state(1))
  assert steps(run) == ['1', 'corrupt-2']


def test_a_wrong_value_is_found_by_the_checksum(two_steps, tmp_path, caplog):
  run = shutil.copytree(two_steps, tmp_path / 'run')
  # A readable checkpoint with another step's checksum and one wrong value.
  path, state = run / 'checkpoints' / '2', make_state(2)
  leaves = weights.flatten(state, '.')
  wrong = leaves | {'params.odd': leaves['params.odd'].at[1].set(0.0)}
  wrong['checksum'] = checkpoints._checksum(list(leaves.values()))
  shapes = weights.describe(leaves)
  checkpoints.ocp.v1.save(
    path, wrong, overwrite=True, custom_metadata={'leaves': shapes}
  )
  restored = checkpoints.restore(run, abstract(state))
  assert restored['step'] == 1
  assert 'its checksum differs); using step 1 instead' in caplog.text
  assert steps(run) == ['1', '2']  # reading moves nothing


def test_all_damaged_is_an_error(two_steps, tmp_path):
  run = shutil.copytree(two_steps, tmp_path / 'run')
  for path in run.rglob('manifest.ocdbt'):
    zero(path)
  with open_at(run) as checkpointer:
    with pytest.raises(UserError, match='no checkpoint in .* can be read'):
      checkpointer.restore(abstract(make_state(2)))
  assert steps(run) == ['1', '2']


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda s: make_state(2, width=5),
      r'opt_state\.1\.0\.mu\.layer\.kernel is float32\[8, 6\] in the checkpoint'
      r' and float32\[8, 5\] in this config',
    ),
    (lambda s: s | {'more': s['step']}, 'more is missing in the checkpoint'),
    pytest.param(
      lambda s: {'step': s['step']},
      'and missing in this config',
      marks=pytest.mark.slow,
    ),
    pytest.param(
      lambda s: s | {'step': jnp.float32(2)},
      r'step is int32\[\] in the',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_another_model_is_an_error(two_steps, change, message):
  with pytest.raises(UserError, match=message):
    checkpoints.restore(two_steps, abstract(change(make_state(2))))


@pytest.mark.slow
def test_full_disk(tmp_path):
  state = {'w': jax.random.normal(jax.random.key(0), (300, 300))}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  with open_at(tmp_path) as checkpointer:
    try:
      resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
      with pytest.raises(UserError, match='cannot write to .*File too large'):
        checkpointer.save(1, state)
        checkpointer.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert checkpoints.restore(tmp_path, abstract(state)) is None


@pytest.mark.slow
def test_unwritable_folder(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='choose another --workdir'):
    open_at(tmp_path / 'file')
