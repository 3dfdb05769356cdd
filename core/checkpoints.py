"""Checkpoints of the training state; the only file that imports Orbax.

A checkpoint is a flat dict from the path of a leaf to its array. Therefore any
pytree can be restored exactly, on any mesh, and errors can name the leaves that
differ. It includes a checksum of all bits, because Orbax reads some damaged
files without an error.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epy
from jax.experimental import multihost_utils

from core.errors import UserError, one_line
from core.io import atomic_files, weights
from core.run import distributed

with epy.lazy_imports():  # Orbax is imported at the first checkpoint
  from orbax import checkpoint as ocp

PyTree = Any
Rename = Callable[[str], str]  # from an old name of a leaf to its current name
_CHECKSUM = 'checksum'


class Checkpointer(contextlib.AbstractContextManager):
  """Saves and restores the checkpoints of a run; a context manager.

  All processes of a run make the same calls, on a folder that all of them see.
  Opening the folder deletes the files of incomplete saves, and leaving the
  context waits for the last save.
  """

  def __init__(self, folder, *, keep_last: int, keep_every: int):
    """Open `folder`/checkpoints, which holds one folder per step.

    Args:
      folder: run folder.
      keep_last: number of newest steps to keep.
      keep_every: also keep the steps that are multiples of this; 0: none.

    Raises:
      UserError: the folder cannot be written.
    """
    self._folder = _checkpoints(folder)
    policies = ocp.v1.training.preservation_policies
    keep = [policies.LatestN(keep_last)]
    keep += [policies.EveryNSteps(keep_every)] if keep_every else []
    with _reported_writes(self._folder):
      # Orbax would create the folder later, with a less clear error.
      self._folder.mkdir(parents=True, exist_ok=True)
      self._checkpointer = ocp.v1.training.Checkpointer(
        str(self._folder),
        preservation_policy=policies.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True,
      )
    self._saving = None

  def __exit__(self, *_):
    try:
      self.wait()
    finally:
      self._checkpointer.close()

  def save(self, step: int, state: PyTree):
    """Save in the background; arrays may be donated once this returns.

    An existing step is not replaced. No array may have size 0.

    Raises:
      UserError: this save or the previous one could not be written.
    """
    if any(step == saved.step for saved in self._checkpointer.checkpoints):
      return
    self.wait()
    leaves = _by_name(state)
    metadata = {'leaves': weights.describe(leaves)}
    leaves[_CHECKSUM] = _checksum(list(leaves.values()))
    with _reported_writes(self._folder):
      self._saving = self._checkpointer.save_async(
        step, leaves, force=True, custom_metadata=metadata
      )

  def wait(self):
    """Wait until the last save is on the disk, or raise UserError."""
    saving, self._saving = self._saving, None
    with _reported_writes(self._folder):
      self._checkpointer.wait()
      if saving:
        saving.result()  # otherwise, its thread and files stay open

  def restore(
    self, abstract_state: PyTree, rename: Rename = lambda name: name
  ) -> PyTree | None:
    """Restore like the function `restore`, and rename damaged checkpoints.

    Their new name is `corrupt-<step>`, so that their steps can be saved again.
    """
    state, damaged = _restore(self._folder, abstract_state, rename)
    if jax.process_index() == 0:
      for step in damaged:
        renamed = self._folder / f'corrupt-{step}'
        shutil.rmtree(renamed, ignore_errors=True)  # left by an earlier restore
        (self._folder / str(step)).rename(renamed)
    if damaged:
      multihost_utils.sync_global_devices('damaged checkpoints are renamed')
      self._checkpointer.reload()
    return state


def restore(
  folder, abstract_state: PyTree, rename: Rename = lambda name: name
) -> PyTree | None:
  """Restore the newest readable checkpoint of a run; None without checkpoints.

  This logs a warning for damaged checkpoints, and does not change the folder.

  Args:
    folder: run folder.
    abstract_state: the shapes, types, and shardings of the state. Arrays with
      a different floating-point type are cast.
    rename: function from the name of a leaf in the checkpoint to its current
      name; see `run_config.layer_renamer`.

  Raises:
    UserError: the checkpoint belongs to another model, or none can be read.
  """
  return _restore(_checkpoints(folder), abstract_state, rename)[0]


def _checkpoints(folder) -> pathlib.Path:
  return pathlib.Path(folder).absolute() / 'checkpoints'


def _by_name(state: PyTree) -> dict[str, Any]:
  """Map the name of each leaf in a checkpoint to the leaf.

  In checkpoints, `ema_params` keeps its earlier name, `average`.
  """
  leaves = weights.flatten(state, '.')
  return {
    re.sub(r'^ema_params\.', 'average.', name): leaf
    for name, leaf in leaves.items()
  }


def _restore(
  folder, abstract_state, rename
) -> tuple[PyTree | None, dict[int, str]]:
  """Return the state, and why each newer checkpoint (by step) is damaged."""
  steps = [int(path.name) for path in folder.glob('*') if path.name.isdecimal()]
  damaged = {}
  for step in sorted(steps, reverse=True):
    state, damage = _read(folder / str(step), abstract_state, rename)
    if not damage:
      for bad, why in damaged.items():
        logging.warning(
          'checkpoint %d in %s is damaged (%s); using step %d instead',
          bad,
          folder,
          why,
          step,
        )
      return state, damaged
    damaged[step] = damage
  if damaged:
    newest = max(damaged)
    raise UserError(
      f'no checkpoint in {folder} can be read (step {newest}:'
      f' {damaged[newest]}); restore the folder from a copy, or delete it to'
      ' train from the start'
    )
  return None, {}


def _read(
  path: pathlib.Path, abstract_state, rename
) -> tuple[PyTree | None, str]:
  """Return the state, or why it cannot be read; all processes agree."""
  wanted = _by_name(abstract_state)
  try:
    with distributed.fail_together():
      # Orbax would open every array to compare the shapes.
      metadata = json.loads((path / '_CHECKPOINT_METADATA').read_bytes())
      saved = metadata['custom_metadata']['leaves']
      old_names = {rename(name): name for name in saved}
      wanted = {old_names.get(k, k): leaf for k, leaf in wanted.items()}
      like = {k: _with_saved_float(x, saved.get(k)) for k, x in wanted.items()}
      mismatch = weights.difference('checkpoint', saved, weights.describe(like))
      # The checksum is a host array without a sharding.
      like |= {_CHECKSUM: np.zeros((), np.uint32)}
      leaves: Any = {} if mismatch else ocp.v1.load(str(path), like)
  except jax.errors.JaxRuntimeError:  # from a device or a process, not a file
    raise
  except Exception as error:  # a damaged file can raise any error
    # With several processes, always fall back: only one knows the cause.
    if jax.process_count() == 1 and isinstance(error, MemoryError):
      raise
    if jax.process_count() == 1 and isinstance(error, PermissionError):
      raise UserError(
        f'{path} cannot be read ({error.strerror}); change its permissions'
      ) from error
    return None, f'{type(error).__name__}: {one_line(error)}'
  if mismatch and any(x.startswith('float64') for x in saved.values()):
    raise UserError(
      f'checkpoint {path} was saved in float64, with JAX_ENABLE_X64=1, but this'
      ' version trains in float32; choose another --workdir'
    )
  if mismatch:
    raise UserError(
      f'checkpoint {path} belongs to another model: {mismatch}; use the config'
      ' that it was trained with, or another --workdir'
    )
  checksum = leaves.pop(_CHECKSUM)
  # `saved` has the order of the leaves when saved; new names may change it.
  if int(checksum) != int(_checksum([leaves[name] for name in saved])):
    return None, 'its checksum differs'
  arrays = [
    weights.cast_float(leaves[name], leaf) for name, leaf in wanted.items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract_state), arrays), ''


def _with_saved_float(leaf, saved: str | None):
  """Return the abstract leaf with the floating-point type of the checkpoint.

  For example, with JAX_ENABLE_X64, the leaf is float64, but float32 was saved.
  A saved float64 does not change the leaf, so that the difference is an error.
  """
  name = (saved or '').partition('[')[0]
  if name == 'float64' or not jnp.issubdtype(leaf.dtype, jnp.floating):
    return leaf
  if not name.startswith(('float', 'bfloat')):
    return leaf
  return jax.ShapeDtypeStruct(
    leaf.shape, jnp.dtype(name), sharding=getattr(leaf, 'sharding', None)
  )


@jax.jit
def _checksum(leaves: list[jax.Array]) -> jax.Array:
  """Return a uint32 checksum of the elements and their order, for any sharding.

  Every element has an odd weight modulo 2**32, so that any change of a single
  element changes the sum. The sum starts from 1, so that zeroed files do not
  match.
  """
  total = jnp.uint32(1)
  for leaf in leaves:
    bits = leaf.view(f'uint{8 * leaf.dtype.itemsize}').astype(jnp.uint32)
    weight = 2 * jax.lax.iota(jnp.uint32, leaf.size).reshape(leaf.shape) + 1
    total = 31 * total + (bits * weight).sum(dtype=jnp.uint32)
  return total


@contextlib.contextmanager
def _reported_writes(folder: pathlib.Path):
  """Convert write errors, which Orbax may raise as ValueError, to UserError."""
  with atomic_files.reported_writes(folder):
    try:
      yield
    except ValueError as error:
      code = re.search(r"os_error_code='(\d+)'", str(error))
      if not code:
        raise
      raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
