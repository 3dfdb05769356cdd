"""Assignment of elements to ranks in parallel, in place of Write.

The paper does not have this decoder; later work on set prediction does. Each
rank is a query, so the outputs are independent. Decoding selects the most
probable element of each rank, or the most probable permutation (Hungarian
algorithm).

Axes: B batch, N elements, T ranks, D width.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from seq2set.attention import Attention, Mask, mask_scores

_MAX_NATS = 1e3  # upper bound of -log p of an assignment to a valid rank


class Assignment(nnx.Module):
  """Points at an element for each rank, in parallel.

  Args:
    width: D.
    attention: one of `attention.ATTENTIONS`.
    rngs: random keys of the parameters.
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
    """Compute the logits of each rank; only the shape of `targets` matters."""
    batch, count, _ = memories.shape
    counts = jnp.full(batch, count) if mask is None else mask.sum(1)
    # Relative ranks in [0, 1], which do not depend on the set size.
    index = jnp.arange(targets.shape[1])[None]
    ranks = index / jnp.maximum(counts - 1, 1)[:, None]
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
    """Decode the outputs and compute their log p, in nats.

    Args:
      memories: the memories of the elements.
      start: the summary of the set, as the initial state of Write.
      length: T; must be N if `avoid_repeats` is True.
      mask: False for padding. Outputs beyond the size of a set are undefined,
        and log p includes them.
      avoid_repeats: return the most probable permutation; if False, return the
        most probable element of each rank.
    """
    batch, count, _ = memories.shape
    targets = jnp.zeros((batch, length), int)
    log_p = jax.nn.log_softmax(self(memories, start, targets, mask))
    if avoid_repeats:
      is_element = jnp.ones((batch, count), bool) if mask is None else mask
      outputs = _best_permutation(log_p, is_element)
    else:
      outputs = log_p.argmax(-1)
    chosen = jax.nn.one_hot(outputs, count)
    return outputs, jnp.where(chosen > 0, log_p, 0).sum((1, 2))


def _best_permutation(
  log_p: Float[Array, 'B N N'], is_element: Mask
) -> Int[Array, 'B N']:
  """Return the most probable permutation of the elements of each set."""
  count = log_p.shape[1]
  # Padding is assigned to the ranks after those of the elements.
  is_rank = jnp.arange(count)[None] < is_element.sum(1)[:, None]
  is_allowed = is_rank[:, :, None] == is_element[:, None]
  costs = jnp.minimum(-jnp.where(is_rank[:, :, None], log_p, 0), _MAX_NATS)
  costs = jnp.where(is_allowed, costs, count * _MAX_NATS)
  ranks, elements = jax.vmap(optax.assignment.hungarian_algorithm)(costs)
  return jnp.take_along_axis(elements, ranks.argsort(1), 1)
