"""Perturb the parameters of models under test."""

import jax
from flax import nnx


def split(model):
  """Split a model like `core.step`, and perturb all parameters.

  Initial biases are 0, which would hide errors in their use.
  """
  graphdef, params = nnx.split(model, nnx.Param)
  leaves, structure = jax.tree.flatten(nnx.to_pure_dict(params))
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    leaf + 0.1 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return graphdef, jax.tree.unflatten(structure, leaves)
