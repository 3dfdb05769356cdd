"""Trained parameters as a safetensors file, in a folder with their config."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from core import files, storage
from core.errors import UserError

NAME = 'weights.safetensors'
_OUTCOME = NAME, 'results.json'


def save_weights(folder, params: dict[str, Any], *, step: int):
  """Write weights.safetensors; only process 0 does.

  Args:
    folder: where to write it.
    params: nested dict of arrays, each wholly on this host.
    step: the number of updates that made them.

  Raises:
    UserError: the folder cannot be written.
  """
  if jax.process_index() == 0:
    # safetensors writes the buffer and ignores the strides.
    tensors = jax.tree.map(lambda x: np.array(x, order='C'), flatten(params))
    path = pathlib.Path(folder) / NAME
    with storage.reported_writes(folder):
      storage.replace_file(
        path, safetensors.numpy.save(tensors, {'step': str(step)})
      )


def remove(folder):
  """Remove the weights of a folder, if any, and their results."""
  if jax.process_index() == 0:
    with storage.reported_writes(folder):
      for path in outcome(folder):
        path.unlink()


def outcome(folder) -> list[pathlib.Path]:
  """Return the paths of weights.safetensors and results.json that exist."""
  paths = (pathlib.Path(folder) / name for name in _OUTCOME)
  return [path for path in paths if path.exists()]


def load_weights(
  folder, like_params: dict[str, Any], *, new: str = ''
) -> dict[str, Any]:
  """Load the weights of a folder as a nested dict of NumPy arrays.

  Args:
    folder: `~` and environment variables are expanded.
    like_params: a nested dict with the expected shapes and types. Floating
      types may differ, as under JAX_ENABLE_X64; the arrays are cast.
    new: regular expression. Parameters that the file lacks are None if their
      paths match it.

  Raises:
    UserError: no such folder, a damaged file, or another model's weights.
  """
  path = pathlib.Path(files.expand(folder)) / NAME
  try:
    tensors = safetensors.numpy.load_file(path)
  except OSError:
    parent = path.parent.parent
    near = sorted(p.parent.name for p in parent.glob(f'*/{NAME}'))
    raise UserError(
      f'no weights in {folder}: {NAME} cannot be read; in {parent} there are:'
      f' {", ".join(near) or "none"}'
    ) from None
  # AttributeError: NumPy lacks the type, such as float8.
  except (safetensors.SafetensorError, AttributeError) as error:
    raise UserError(
      f'{path} is damaged ({error}); copy it again from where it came'
    ) from error
  wanted = flatten(like_params)
  absent = {k for k in wanted if k not in tensors and re.fullmatch(new, k)}
  expected = {k: leaf for k, leaf in wanted.items() if k not in absent}
  tensors = {
    name: cast_float(tensor, expected[name]) if name in expected else tensor
    for name, tensor in tensors.items()
  }
  mismatch = difference('file', describe(tensors), describe(expected))
  if mismatch:
    raise UserError(
      f'{path} is of another model: {mismatch}; use {path.parent}/config.json'
    )
  for name, tensor in tensors.items():
    if not np.isfinite(tensor).all():
      raise UserError(
        f'{path} is damaged: {name} is not finite; copy it again from where it'
        ' came'
      )
  leaves = [tensors.get(name) for name in wanted]
  return jax.tree.unflatten(jax.tree.structure(like_params), leaves)


def cast_float(array: Any, like: Any) -> Any:
  """Cast an array to the type of `like` if both are floating."""
  is_float = [jnp.issubdtype(x.dtype, jnp.floating) for x in (array, like)]
  if array.dtype == like.dtype or not all(is_float):
    return array
  return array.astype(like.dtype)


def load_step(folder) -> int | None:
  """Return the number of updates that made the weights, if they record it."""
  path = pathlib.Path(files.expand(folder)) / NAME
  with safetensors.safe_open(path, 'numpy') as file:
    step = (file.metadata() or {}).get('step', '')
  return int(step) if step.isdecimal() and len(step) < 19 else None


def flatten(tree, separator: str = '/') -> dict[str, Any]:
  """Map the path of each leaf, such as 'layers/0/kernel', to the leaf."""
  return {
    jax.tree_util.keystr(path, simple=True, separator=separator): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def describe(leaves: dict[str, Any]) -> dict[str, str]:
  """Map names of arrays to their types and shapes: 'float32[3, 2]'."""
  return {k: f'{leaf.dtype}{list(leaf.shape)}' for k, leaf in leaves.items()}


def difference(
  place: str, saved: dict[str, str], wanted: dict[str, str]
) -> str:
  """Return the first leaf whose descriptions differ, in words; '' if none."""
  for name in [*wanted, *sorted(saved)]:
    there, here = saved.get(name, 'missing'), wanted.get(name, 'missing')
    if there != here:
      return f'{name} is {there} in the {place} and {here} in this config'
  return ''
