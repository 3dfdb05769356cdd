"""The networks of the sorting task.

Axes: B batch, N elements, F features, D width.
"""

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from core import layers
from core.errors import UserError, check_choice
from seq2set import assignment, read_process_write
from seq2set.attention import ATTENTIONS, Mask

DECODERS = 'write', 'assignment'
OUTPUTS = 'indices', 'pairs', 'random_pairs'


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and variants; the paper gives only the numbers of steps and glimpses.

  Attributes:
    encoder: one of `read_process_write.ENCODERS`.
    decoder: 'write' as in the paper, or 'assignment', without glimpses.
    width: width of memories and states.
    num_process_steps: P; ignored unless the encoder is 'read_process_write'.
    num_glimpses: number of glimpses before each output.
    process_attention: one of `attention.ATTENTIONS`.
    pointer_attention: one of `attention.ATTENTIONS`.
    outputs: what the network writes. 'indices' are those of the elements in
      ascending order. 'pairs' are the pairs of an index and its rank, by rank.
      'random_pairs' are these pairs in random order (section 5.1.3).
  """

  encoder: str = 'read_process_write'
  decoder: str = 'write'
  width: int = 128
  num_process_steps: int = 5
  num_glimpses: int = 1
  process_attention: str = 'dot'
  pointer_attention: str = 'additive'
  outputs: str = 'indices'

  def __post_init__(self):
    known = {
      'encoder': read_process_write.ENCODERS,
      'decoder': DECODERS,
      'process_attention': ATTENTIONS,
      'pointer_attention': ATTENTIONS,
      'outputs': OUTPUTS,
    }
    for name, choices in known.items():
      check_choice(f'config.model.{name}', getattr(self, name), choices)
    if self.outputs != 'indices' and self.decoder != 'write':
      raise UserError(
        f'config.model.outputs={self.outputs} requires'
        " config.model.decoder='write'"
      )


class SetToPairs(read_process_write.SetToSequence):
  """Points at pairs of an element and a rank (ours).

  The memory of a pair is the memory of its element plus an embedding of the
  rank, so one pointer selects both: output i * N + r is the pair (i, r).

  Args:
    num_ranks: size of the largest set.
    num_features: F.
    width: D.
    options: further arguments of `SetToSequence`.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    num_ranks: int,
    num_features: int,
    width: int,
    *,
    rngs: nnx.Rngs,
    **options,
  ):
    super().__init__(num_features, width, rngs=rngs, **options)
    self.rank = nnx.Param(layers.glorot(rngs.params(), (num_ranks, width)))

  def encode(
    self, elements: Float[Array, 'B N F'], mask: Mask | None = None
  ) -> tuple[Float[Array, 'B N*N D'], layers.State]:
    """Compute the memories of all pairs, and the initial state of Write.

    Raises:
      ValueError: there is a mask; all sets of a batch must have the same size.
    """
    if mask is not None:
      raise ValueError(
        'pairs of an element and a rank do not support a mask; use batches of'
        ' sets of the same size, and mask=None'
      )
    memories, start = super().encode(elements)
    batch, count, width = memories.shape
    ranks = self.rank[...][:count]
    pairs = memories[:, :, None] + ranks[None, None]
    return pairs.reshape(batch, count * count, width), start


def make_model(
  config: ModelConfig, set_size: int, *, rngs: nnx.Rngs
) -> read_process_write.SetToSequence:
  """Build the network, which reads sets of numbers [B, N, 1]."""
  sizes: dict[str, Any] = dataclasses.asdict(config)
  decoder, outputs = sizes.pop('decoder'), sizes.pop('outputs')
  if outputs != 'indices':
    return SetToPairs(set_size, 1, **sizes, rngs=rngs)
  model = read_process_write.SetToSequence(1, **sizes, rngs=rngs)
  if decoder == 'assignment':
    model.write = assignment.Assignment(
      config.width, attention=config.pointer_attention, rngs=rngs
    )
  return model
