"""Greedy decoding, sampling, and beam search over prefixes of the output.

Axes: B batch, K prefixes of a beam, M memories, T outputs, D width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from core import layers


class Prefixes(NamedTuple):
  """The K prefixes that decoding keeps for each set.

  Attributes:
    inputs: the next inputs of the LSTM [B, K, D].
    state: the states of the LSTM, each [B, K, D].
    is_free: whether the pointer may select each memory [B, K, M].
    is_done: whether the prefix ends with a stop [B, K].
    log_p: log p of the prefix [B, K].
  """

  inputs: jax.Array
  state: layers.State
  is_free: jax.Array
  is_done: jax.Array
  log_p: jax.Array


def empty_prefixes(first, start, beam: int, count: int) -> Prefixes:
  """Return the prefixes before the first output.

  Args:
    first: the first input of the LSTM [1, D].
    start: the first state of the LSTM, each part [B, D].
    beam: K.
    count: M.
  """
  batch, width = start[0].shape
  return Prefixes(
    inputs=jnp.broadcast_to(first, (batch, beam, width)),
    state=jax.tree.map(lambda x: jnp.repeat(x[:, None], beam, 1), start),
    is_free=jnp.ones((batch, beam, count), bool),
    is_done=jnp.zeros((batch, beam), bool),
    # All prefixes are equal at the start, so only the first one counts.
    log_p=jnp.zeros((batch, beam)).at[:, 1:].set(-jnp.inf),
  )


def mask_outputs(logits, prefixes: Prefixes, is_stop) -> jax.Array:
  """Compute log p of each output [B, K, M]; only stops may follow a stop.

  Args:
    logits: the logits of the pointer [B, K, M].
    prefixes: the prefixes.
    is_stop: whether each memory is the stop [M].
  """
  lowest = jnp.finfo(logits.dtype).min
  logits = jnp.where(prefixes.is_free, logits, lowest)
  stops = jnp.where(is_stop, 0, -jnp.inf)
  is_done = prefixes.is_done[..., None]
  return jnp.where(is_done, stops, jax.nn.log_softmax(logits))


def extend(
  prefixes: Prefixes, log_p: jax.Array, key: jax.Array | None
) -> tuple[Prefixes, jax.Array, jax.Array]:
  """Choose the next outputs; a beam keeps the best of all extensions.

  Args:
    prefixes: the prefixes.
    log_p: log p of each output [B, K, M].
    key: random key to sample the outputs; None selects the most probable ones.

  Returns:
    The prefixes that are kept, their outputs [B, K], and the index of the
    prefix that each of them extends [B, K].
  """
  batch, beam, count = log_p.shape
  if beam > 1:
    extensions = prefixes.log_p[..., None] + log_p
    best, index = jax.lax.top_k(extensions.reshape(batch, -1), beam)
    parents, outputs = jnp.divmod(index, count)
    kept = jax.tree.map(lambda x: _pick(x, parents), prefixes)
    return kept._replace(log_p=best), outputs, parents
  if key is None:
    outputs = log_p.argmax(-1)
  else:
    outputs = jax.random.categorical(key, log_p)
  total = prefixes.log_p + jax.vmap(_pick)(log_p, outputs)
  return prefixes._replace(log_p=total), outputs, jnp.zeros_like(outputs)


def trace_back(log_p, outputs, parents) -> jax.Array:
  """Return the outputs [B, T] of the prefix with the highest log p.

  Args:
    log_p: log p of the prefixes [B, K].
    outputs: the outputs at each step [T, B, K].
    parents: the index of the prefix that each output extends [T, B, K].
  """

  def step_back(prefix, step):
    output, parent = (_pick(x, prefix) for x in step)
    return parent, output

  _, outputs = jax.lax.scan(
    step_back, log_p.argmax(1), (outputs, parents), reverse=True
  )
  return outputs.T


def _pick(x, index):
  """Return x[b, index[b]] for each b."""
  return jax.vmap(lambda row, i: row[i])(x, index)
