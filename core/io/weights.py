"""Save and load trained parameters as a safetensors file."""

import contextlib
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from core.errors import UserError, one_line
from core.io import atomic_files, data_files

NAME = 'weights.safetensors'
# Training writes the first, evaluation the second.
_OUTPUTS = NAME, 'results.json'
_MAX_DIGITS = 18  # a number with this many digits fits into an int64


def save_weights(folder, params: dict[str, Any], *, step: int):
  """Write weights.safetensors, on process 0 only.

  Args:
    folder: folder of the file.
    params: nested dict of arrays; this host holds the whole arrays.
    step: number of updates.

  Raises:
    UserError: the folder cannot be written.
  """
  if jax.process_index() == 0:
    # safetensors writes the buffer and ignores the strides.
    tensors = jax.tree.map(lambda x: np.array(x, order='C'), flatten(params))
    path = pathlib.Path(folder) / NAME
    with atomic_files.reported_writes(folder):
      atomic_files.replace_file(
        path, safetensors.numpy.save(tensors, {'step': str(step)})
      )


def remove_outputs(folder):
  """Remove the weights of a folder, if any, and their results."""
  if jax.process_index() == 0:
    with atomic_files.reported_writes(folder):
      for path in existing_outputs(folder):
        path.unlink()


def existing_outputs(folder) -> list[pathlib.Path]:
  """Return the paths of weights.safetensors and results.json that exist."""
  paths = (pathlib.Path(folder) / name for name in _OUTPUTS)
  return [path for path in paths if path.exists()]


def has_results(folder) -> bool:
  """Return whether a folder holds weights and the results of evaluating them.

  The weights are written after training, the results after evaluation.
  """
  return len(existing_outputs(folder)) == len(_OUTPUTS)


def load_weights(
  folder,
  like_params: dict[str, Any],
  *,
  missing_regex: str = '',
  rename: Callable[[str], str] = lambda name: name,
) -> dict[str, Any]:
  """Load the weights of a folder as a nested dict of NumPy arrays.

  Args:
    folder: folder of the file; see `data_files.expand`.
    like_params: nested dict with the expected shapes and types. Arrays with a
      different floating-point type are cast.
    missing_regex: if the file lacks parameters whose paths match this regular
      expression, they are None.
    rename: function from the path of a parameter in the file to its current
      path; see `run_config.layer_renamer`.

  Raises:
    UserError: there is no such file, it cannot be read, it is damaged, it has a
      type that NumPy lacks, or it belongs to another model.
  """
  path = pathlib.Path(data_files.expand(folder)) / NAME
  tensors = {rename(k): tensor for k, tensor in _read(path).items()}
  wanted = flatten(like_params)
  absent = {
    k for k in wanted if k not in tensors and re.fullmatch(missing_regex, k)
  }
  expected = {k: leaf for k, leaf in wanted.items() if k not in absent}
  tensors = {
    name: cast_float(tensor, expected[name]) if name in expected else tensor
    for name, tensor in tensors.items()
  }
  mismatch = difference('file', describe(tensors), describe(expected))
  if mismatch:
    raise UserError(
      f'{path} belongs to another model: {mismatch}; use the settings in'
      f' {path.parent}/config.json'
    )
  for name, tensor in tensors.items():
    if not np.isfinite(tensor).all():
      raise UserError(
        f'{path} is damaged: {name} is not finite; copy it again from its'
        ' source'
      )
  leaves = [tensors.get(name) for name in wanted]
  return jax.tree.unflatten(jax.tree.structure(like_params), leaves)


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return the arrays of a file; see `load_weights` for the errors."""
  try:
    # safetensors reports any file that it cannot open as missing.
    path.open('rb').close()
    return safetensors.numpy.load_file(path)
  except (FileNotFoundError, NotADirectoryError):
    parent = path.parent.parent
    near = sorted(p.parent.name for p in parent.glob(f'*/{NAME}'))
    raise UserError(
      f'no weights in {path.parent}: there is no {NAME}; {parent} has weights'
      f' in: {", ".join(near) or "no folder"}'
    ) from None
  except OSError as error:
    raise UserError(
      f'{path} cannot be read ({error.strerror or one_line(error)}); change its'
      ' permissions, or name another folder'
    ) from error
  except AttributeError as error:  # such as float8
    raise UserError(
      f'{path} has a type that NumPy lacks ({error}); convert the weights to'
      ' float32'
    ) from error
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} is damaged ({error}); copy it again from its source'
    ) from error


def cast_float(array: Any, like: Any) -> Any:
  """Cast an array to the type of `like` if both types are floating-point."""
  is_float = [jnp.issubdtype(x.dtype, jnp.floating) for x in (array, like)]
  if array.dtype == like.dtype or not all(is_float):
    return array
  return array.astype(like.dtype)


def read_step(folder) -> int | None:
  """Return the number of updates, or None if the file does not record it.

  Raises:
    OSError: the file cannot be read.
    safetensors.SafetensorError: the file is damaged.
  """
  path = pathlib.Path(data_files.expand(folder)) / NAME
  with safetensors.safe_open(path, 'numpy') as file:
    step = (file.metadata() or {}).get('step', '')
  return int(step) if step.isdecimal() and len(step) <= _MAX_DIGITS else None


def read_step_or_none(folder) -> int | None:
  """Return the number of updates; None also if the file cannot be read."""
  with contextlib.suppress(OSError, safetensors.SafetensorError):
    return read_step(folder)
  return None


def num_parameters(folder) -> int:
  """Return the number of saved parameters; several seeds count separately."""
  path = pathlib.Path(folder) / NAME
  with safetensors.safe_open(path, 'numpy') as file:
    return sum(math.prod(file.get_slice(x).get_shape()) for x in file.keys())


def copy(source, folder, *, step: int):
  """Copy weights to another folder, and set their number of updates."""
  tensors = safetensors.numpy.load_file(pathlib.Path(source) / NAME)
  contents = safetensors.numpy.save(tensors, {'step': str(step)})
  atomic_files.replace_file(pathlib.Path(folder) / NAME, contents)


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
  """Describe the first leaf that differs, in words; '' if none does.

  Args:
    place: what `saved` describes, such as 'file'.
    saved: name -> type and shape; see `describe`.
    wanted: the same for the config.
  """
  for name in [*wanted, *sorted(saved)]:
    there, here = saved.get(name, 'missing'), wanted.get(name, 'missing')
    if there != here:
      return f'{name} is {there} in the {place} and {here} in this config'
  return ''
