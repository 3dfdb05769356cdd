"""Measures of a model that sorts, as functions of arrays.

An answer step is a position at which a token of the answer is predicted: SORT
or a token of the correct answer. The public reviews of the paper (Awasthi &
Gupta 2023) mention probing and the terms identity and successor, without
details; the measures here are ours. `transformer.Hook` observes the attention
logits.

Axes: B lists, N values, L = 2 N + 2 tokens, A = N + 1 answer steps, K layers,
H heads, V vocabulary, T tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy import stats

from hinting.sorting import hints
from hinting.transformer import Transformer
from hinting.vocabulary import Token

BUCKETS = 'identity', 'successor', 'minimum', 'EOS', 'other'
GROUPS = 'current', 'successor', 'delimiter'
_NONE = -1  # marks a step without a successor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
  """The state at each answer step; all are int [B, A].

  Attributes:
    current: token at the step: SORT, or the last value written.
    successor: next larger value of the list, -1 if there is none. SORT is
      below all values, as in the construction.
    minimum: smallest value of the list.
    target: the correct next token.
    copies_left: number of copies of the current value still to be written.
  """

  current: jax.Array
  successor: jax.Array
  minimum: jax.Array
  target: jax.Array
  copies_left: jax.Array

  @property
  def is_repeat(self) -> Bool[Array, 'B A']:
    """Whether the next token repeats the current value."""
    return self.target == self.current


def answer_steps(values: Int[Array, 'B N']) -> Steps:
  """Return the state at each answer step of each list."""
  rows = hints.sort_rows(values)
  length = values.shape[1]
  current, target = rows[:, length + 1 : -1], rows[:, length + 2 :]
  answer = target[:, None, :-1]
  above = (answer > current[..., None]) | (current[..., None] == Token.SORT)
  big = jnp.iinfo(jnp.int32).max
  successor = jnp.where(above, answer, big).min(-1)
  is_ahead = jnp.arange(length)[None] >= jnp.arange(length + 1)[:, None]
  copies_left = ((answer == current[..., None]) & is_ahead[None]).sum(-1)
  return Steps(
    current=current,
    successor=jnp.where(successor == big, _NONE, successor),
    minimum=jnp.broadcast_to(target[:, :1], current.shape),
    target=target,
    copies_left=copies_left,
  )


def bucket_shares(
  logits: Float[Array, 'B A V'], steps: Steps
) -> Float[Array, 'B A 2 5']:
  """Return the shares of `BUCKETS` in the probability and in the top token.

  A token in several buckets counts for the first one.
  """
  token_ids = jnp.arange(logits.shape[-1])[None, None]
  bucket = jnp.full(logits.shape, len(BUCKETS) - 1)
  end = jnp.full_like(steps.current, Token.EOS)
  tokens = [steps.current, steps.successor, steps.minimum, end]
  for index, token in reversed(list(enumerate(tokens))):
    bucket = jnp.where(token_ids == token[..., None], index, bucket)
  is_in = jax.nn.one_hot(bucket, len(BUCKETS))
  probability = jnp.einsum('bav,bavg->bag', jax.nn.softmax(logits), is_in)
  top = logits.argmax(-1)[..., None, None]
  return jnp.stack(
    [probability, jnp.take_along_axis(is_in, top, 2)[:, :, 0]], 2
  )


def _group_keys(tokens, steps: Steps) -> Bool[Array, 'B A L 3']:
  """Return whether each key is in each of `GROUPS`."""
  key = tokens[:, None]
  is_delimiter = jnp.broadcast_to(
    key == Token.SORT, (*steps.current.shape, tokens.shape[1])
  )
  is_current = (key == steps.current[..., None]) & ~is_delimiter
  is_successor = key == steps.successor[..., None]
  return jnp.stack([is_current, is_successor, is_delimiter], -1)


def group_mass(
  weights: Float[Array, 'B H A L'], tokens: Int[Array, 'B L'], steps: Steps
) -> Float[Array, 'B H 3']:
  """Return the mean attention to each of `GROUPS` over the answer steps.

  'current' includes all copies of the current value, in the list and the
  answer.
  """
  is_in = _group_keys(tokens, steps).astype(weights.dtype)
  return jnp.einsum('bhal,balg->bhag', weights, is_in).mean(2)


def logit_gap(
  logits: Float[Array, 'B H A L'],
  tokens: Int[Array, 'B L'],
  steps: Steps,
) -> Float[Array, 'B H']:
  """Return the largest logit of keys in `GROUPS` minus the largest other logit.

  The result is the mean over the answer steps.
  """
  is_in = _group_keys(tokens, steps).any(-1)[:, None]
  inside = jnp.where(is_in, logits, -jnp.inf).max(-1)
  outside = jnp.where(is_in, -jnp.inf, logits).max(-1)
  return (inside - outside).mean(-1)


def order_by_value(
  weights: Float[Array, 'B H A L'], values: Int[Array, 'B N']
) -> Float[Array, 'B H A L']:
  """Sort the keys of the list by value; keep the other keys in place."""
  length = values.shape[1]
  order = jnp.arange(2 * length + 2)[None].repeat(len(values), 0)
  order = order.at[:, 1 : length + 1].set(1 + values.argsort(1))
  return jnp.take_along_axis(weights, order[:, None, None], 3)


def entropy(
  logits: Float[Array, 'B H A L'], scale: Float[Array, ' H'] | float = 1.0
) -> Float[Array, ' H']:
  """Return the mean entropy of attention at answer steps, in nats."""
  scale = jnp.asarray(scale).reshape(1, -1, 1, 1)
  logs = jax.nn.log_softmax(scale * logits)
  return -(jnp.exp(logs) * logs).sum(-1).mean((0, 2))


def match_entropy(
  logits: Float[Array, 'B H A L'], wanted: Float[Array, ' H']
) -> Float[Array, ' H']:
  """Return the factor on each head's logits that gives the wanted mean entropy.

  The search is a bisection between 0.1 and 10, because the entropy decreases as
  the factor increases.

  Args:
    logits: the attention logits.
    wanted: mean entropy, in nats.
  """

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) / 2
    is_flat = entropy(logits, jnp.exp(middle)) > wanted
    return jnp.where(is_flat, middle, low), jnp.where(is_flat, high, middle)

  bounds = (
    jnp.full_like(wanted, jnp.log(0.1)),
    jnp.full_like(wanted, jnp.log(10.0)),
  )
  low, high = jax.lax.fori_loop(0, 16, halve, bounds)
  return jnp.exp((low + high) / 2)


def qk_circuit(
  model: Transformer, tokens: Int[Array, ' T']
) -> Float[Array, 'K H T T']:
  """Return the attention logits of pairs of embeddings, queries by keys.

  The temperature is not applied. The logits are exact for the first layer. For
  later layers, they are only the direct path from the embeddings.
  """
  positions = jnp.zeros((1, len(tokens)), jnp.int32)
  x = model.embed(tokens[None], positions)
  maps = []
  for block in model.blocks:
    keys, _ = block.keys_and_values(x, positions)
    inputs = block.attention_norm(x) if model.config.has_norm else x
    queries = block.query(inputs).reshape(keys.shape)
    logits = jnp.einsum('bqhd,bkhd->hqk', queries, keys)
    maps.append(logits / keys.shape[-1] ** 0.5)
  return jnp.stack(maps)


def correlations(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
  """Return Pearson's and Spearman's correlation of two arrays."""
  x, y = x.ravel(), y.ravel()
  return {
    'pearson': float(stats.pearsonr(x, y).statistic),
    'spearman': float(stats.spearmanr(x, y).statistic),
  }
