"""All outputs at once: one assignment of elements to ranks, in place of Write.

Not the paper's: what set prediction does since. Each rank is a query of its
own, so no output knows of the others, and the matrix of ranks and elements is
read row by row, or as the likeliest permutation (Hungarian algorithm).

Axes: B batch, N elements, T ranks, D width.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from seq2set.attention import Attention, Mask, mask_scores

_UNLIKELIEST = 1e3  # nats of an element at a rank, of what may be assigned


class Assignment(nnx.Module):
  """Points at an element for each rank, by all ranks at once.

  Args:
    width: D.
    attention: one of `ATTENTIONS`.
  """

  def __init__(self, width: int, *, attention: str, rngs: nnx.Rngs):
    self.rank = layers.MLP([1, width, width], rngs=rngs)
    self.pointer = Attention(width, attention, rngs=rngs)

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    start: layers.State,
    targets: Int[Array, 'B T'],
    mask: Mask | None = None,
  ) -> Float[Array, 'B T N']:
    """Returns the logits of each rank; `targets` only tell how many."""
    batch, count, _ = memories.shape
    counts = jnp.full(batch, count) if mask is None else mask.sum(1)
    # The share of the set that comes first: the same for sets of all sizes.
    ranks = jnp.arange(targets.shape[1]) / jnp.maximum(counts - 1, 1)[:, None]
    queries = self.rank(ranks[..., None]) + start[0][:, None]
    scores = self.pointer(self.pointer.keys(memories), queries)
    return mask_scores(scores, mask)

  def decode(
    self,
    memories: Float[Array, 'B N D'],
    start: layers.State,
    *,
    length: int,
    mask: Mask | None = None,
    avoid_repeats: bool = False,
  ) -> tuple[Int[Array, 'B T'], Float[Array, ' B']]:
    """Returns the outputs and their log p.

    Args:
      memories: of the elements.
      start: the summary of the set, as the state in which Write would start.
      length: T; with `avoid_repeats` N.
      mask: False where there is no element; then the outputs of a set are its
        first ones.
      avoid_repeats: the likeliest permutation; else of each rank the likeliest.
    """
    batch, count, _ = memories.shape
    places = jnp.zeros((batch, length), int)
    log_p = jax.nn.log_softmax(self(memories, start, places, mask))
    outputs = log_p.argmax(-1)
    if avoid_repeats:
      there = jnp.ones((batch, count), bool) if mask is None else mask
      # What is no element goes to the ranks behind those of all elements.
      is_rank = jnp.arange(length) < there.sum(1)[:, None]
      fits = is_rank[:, :, None] == there[:, None]
      likely = jnp.where(is_rank[:, :, None], log_p, 0)
      costs = jnp.minimum(-likely, _UNLIKELIEST)
      costs = jnp.where(fits, costs, count * _UNLIKELIEST)
      rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(costs)
      outputs = jnp.take_along_axis(columns, rows.argsort(1), 1)
    chosen = jax.nn.one_hot(outputs, count)
    return outputs, jnp.where(chosen > 0, log_p, 0).sum((1, 2))
