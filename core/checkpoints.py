"""Checkpoints of the training state; the only file that imports Orbax.

A checkpoint is a flat dict from the path of a leaf to its array. Any pytree
comes back exactly as it was, on any mesh, and errors can name the leaves that
differ. A checksum of all bits is saved with it, because chunked storage reads
some damaged files without an error.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from core import runtime, storage, weights
from core.errors import UserError, one_line

PyTree = Any
_CHECKSUM = 'checksum'


class Checkpointer(contextlib.AbstractContextManager):
  """The checkpoints of a run in training; a context manager.

  All processes of a run make every call, on a folder that all of them see.
  Opening it deletes the incomplete files of killed saves; leaving it waits for
  the last save.
  """

  def __init__(self, folder, *, keep_last: int, keep_every: int):
    """Open `folder`/checkpoints, which holds one folder per step.

    It keeps the newest `keep_last` steps and the multiples of `keep_every` (0:
    none).

    Raises:
      UserError: the folder cannot be written.
    """
    self._folder = _checkpoints(folder)
    policies = ocp.training.preservation_policies
    keep = [policies.LatestN(keep_last)]
    keep += [policies.EveryNSteps(keep_every)] if keep_every else []
    with _reported_writes(self._folder):
      # Orbax would create it at the first save, with a less clear error.
      self._folder.mkdir(parents=True, exist_ok=True)
      self._checkpointer = ocp.training.Checkpointer(
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
    """Save in the background; the arrays may be donated once this returns.

    An existing step is left as it is. No array may have size 0.

    Raises:
      UserError: this save or the one before could not be written.
    """
    if any(step == saved.step for saved in self._checkpointer.checkpoints):
      return
    self.wait()
    leaves = weights.flatten(state, '.')
    metadata = {'leaves': weights.describe(leaves)}
    leaves[_CHECKSUM] = _checksum(list(leaves.values()))
    with _reported_writes(self._folder):
      self._saving = self._checkpointer.save_async(
        step, leaves, force=True, custom_metadata=metadata
      )

  def wait(self):
    """Return once the last save is on the disk, or raise UserError."""
    saving, self._saving = self._saving, None
    with _reported_writes(self._folder):
      self._checkpointer.wait()
      if saving:
        saving.result()  # otherwise its thread and files stay open

  def restore(self, abstract_state: PyTree) -> PyTree | None:
    """Restore as the function `restore` does, and rename damaged checkpoints.

    They become `corrupt-<step>`, so that their steps can be saved again.
    """
    state, damaged = _restore(self._folder, abstract_state)
    for step in damaged if jax.process_index() == 0 else ():
      aside = self._folder / f'corrupt-{step}'
      shutil.rmtree(aside, ignore_errors=True)  # of an earlier fall-back
      (self._folder / str(step)).rename(aside)
    if damaged:
      multihost_utils.sync_global_devices('damaged checkpoints are aside')
      self._checkpointer.reload()
    return state


def restore(folder, abstract_state: PyTree) -> PyTree | None:
  """Restore the newest readable checkpoint of a run; None without checkpoints.

  Damaged checkpoints are reported. Nothing in the folder is changed.

  Args:
    folder: of the run.
    abstract_state: the state with the shardings to restore to. Floating types
      that differ from those of the checkpoint are cast.

  Raises:
    UserError: the checkpoint is of another model, or none can be read.
  """
  return _restore(_checkpoints(folder), abstract_state)[0]


def _checkpoints(folder) -> pathlib.Path:
  return pathlib.Path(folder).absolute() / 'checkpoints'


def _restore(folder, abstract_state) -> tuple[PyTree | None, dict[int, str]]:
  """Return the state, and why newer checkpoints cannot be read, by step."""
  steps = [int(path.name) for path in folder.glob('*') if path.name.isdecimal()]
  damaged = {}
  for step in sorted(steps, reverse=True):
    state, damage = _read(folder / str(step), abstract_state)
    if not damage:
      for bad, why in damaged.items():
        logging.warning(
          'checkpoint %d in %s is damaged (%s); using step %d instead',
          *(bad, folder, why, step),
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


def _read(path: pathlib.Path, abstract_state) -> tuple[PyTree | None, str]:
  """Return the state, or why it cannot be read; all processes agree."""
  wanted = weights.flatten(abstract_state, '.')
  try:
    with runtime.together():
      # Orbax can compare shapes too, but opens every array for it.
      metadata = json.loads((path / '_CHECKPOINT_METADATA').read_bytes())
      saved = metadata['custom_metadata']['leaves']
      like = {k: _with_saved_float(x, saved.get(k)) for k, x in wanted.items()}
      mismatch = weights.difference('checkpoint', saved, weights.describe(like))
      # The checksum is a host array: it has no sharding to ask for.
      like |= {_CHECKSUM: np.zeros((), np.uint32)}
      leaves: Any = {} if mismatch else ocp.load(str(path), like)
  except jax.errors.JaxRuntimeError:  # of a device or a process, not a file
    raise
  except Exception as error:  # whatever a damaged file makes a reader raise
    # With several processes, all fall back: the others cannot see the cause.
    if jax.process_count() == 1 and isinstance(error, MemoryError):
      raise
    if jax.process_count() == 1 and isinstance(error, PermissionError):
      raise UserError(
        f'{path} may not be read ({error.strerror}); change its permissions'
      ) from error
    return None, f'{type(error).__name__}: {one_line(error)}'
  if re.search(r'is float64\S* .*in the checkpoint', mismatch):
    raise UserError(
      f'checkpoint {path} was saved with JAX_ENABLE_X64=1, in float64, and this'
      ' version trains in float32; give another --workdir'
    )
  if mismatch:
    raise UserError(
      f'checkpoint {path} is of another model: {mismatch}; give the config that'
      ' it was trained with, or another --workdir'
    )
  checksum = leaves.pop(_CHECKSUM)
  arrays = [leaves[name] for name in wanted]
  if int(checksum) != int(_checksum(arrays)):
    return None, 'its checksum differs'
  arrays = [
    weights.cast_float(array, like)
    for array, like in zip(arrays, wanted.values(), strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract_state), arrays), ''


def _with_saved_float(leaf, saved: str | None):
  """Return the abstract leaf, with the floating type of the checkpoint.

  A process with JAX_ENABLE_X64 wants float64 where float32 was saved.
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
  """Return a uint32 of all bits and their order, whatever the sharding.

  Every element has an odd weight modulo 2**32, so that any change of a single
  element changes the sum. It starts from 1: zeroed files do not match.
  """
  total = jnp.uint32(1)
  for leaf in leaves:
    bits = leaf.view(f'uint{8 * leaf.dtype.itemsize}').astype(jnp.uint32)
    weight = 2 * jax.lax.iota(jnp.uint32, leaf.size).reshape(leaf.shape) + 1
    total = 31 * total + (bits * weight).sum(dtype=jnp.uint32)
  return total


@contextlib.contextmanager
def _reported_writes(folder: pathlib.Path):
  """Turn a full disk, which is a ValueError in Orbax, into a UserError."""
  with storage.reported_writes(folder):
    try:
      yield
    except ValueError as error:
      code = re.search(r"os_error_code='(\d+)'", str(error))
      if not code:
        raise
      raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
