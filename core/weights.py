"""Weights to ship: a folder with a safetensors file, its config and results."""

import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from core import runtime
from core.errors import UserError

_NAME = 'weights.safetensors'


def save_weights(
  folder,
  params: dict[str, Any],
  config: dict[str, Any],
  results: dict[str, Any] | None = None,
):
  """Writes weights.safetensors, config.json and, if given, results.json.

  All processes may call it; process 0 writes.

  Args:
    folder: created if needed.
    params: nested dict of arrays, each wholly on this host.
    config: what builds the model, for JSON.
    results: what these weights were measured to do, for JSON.

  Raises:
    UserError: the folder cannot be written.
  """
  if jax.process_index() != 0:
    return
  folder = pathlib.Path(folder)
  tensors = {
    # safetensors writes a buffer as it lies, whatever the strides say.
    name: np.array(leaf, order='C')
    for name, leaf in _flatten(params).items()
  }
  with runtime.reported_writes(folder):
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f'{_NAME}.tmp'
    temporary.write_bytes(safetensors.numpy.save(tensors))
    temporary.replace(folder / _NAME)
    runtime.write_json(folder / 'config.json', config)
    if results is not None:
      runtime.write_json(folder / 'results.json', results)


def remove(folder):
  """Removes the weights of a folder, if any, and their results."""
  if jax.process_index() == 0:
    for name in (_NAME, 'results.json'):
      (pathlib.Path(folder) / name).unlink(missing_ok=True)


def load_weights(folder, like_params: dict[str, Any]) -> dict[str, Any]:
  """Loads the weights of a folder.

  Args:
    folder: as `save_weights` left it.
    like_params: nested dict with the names, shapes and types that are expected:
      arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    The same nested dict of NumPy arrays.

  Raises:
    UserError: no such folder, a damaged file, or another model's weights.
  """
  path = pathlib.Path(folder) / _NAME
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except OSError:
    parent = path.parent.parent
    near = sorted(p.parent.name for p in parent.glob(f'*/{_NAME}'))
    raise UserError(
      f'no weights in {folder}: {_NAME} cannot be read; in {parent} there are:'
      f' {", ".join(near) or "none"}'
    ) from None
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} is damaged ({error}); copy it again from where it came'
    ) from error
  wanted = _flatten(like_params)
  for name in [*wanted, *tensors]:
    there, here = _describe(tensors, name), _describe(wanted, name)
    if there != here:
      raise UserError(
        f'{path} is of another model: {name} is {there} in the file and {here}'
        f' in this config; use {path.parent}/config.json'
      )
  return jax.tree.unflatten(
    jax.tree.structure(like_params), [tensors[name] for name in wanted]
  )


def _flatten(params: dict[str, Any]) -> dict[str, Any]:
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def _describe(tensors: dict[str, Any], name: str) -> str:
  if name not in tensors:
    return 'missing'
  return f'{tensors[name].dtype}{list(tensors[name].shape)}'
