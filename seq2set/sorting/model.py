"""The networks of the sorting task."""

import dataclasses
from typing import Any

from flax import nnx

from core.errors import check_choice
from seq2set import assignment, read_process_write
from seq2set.attention import ATTENTIONS

DECODERS = 'write', 'assignment'


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes; the paper gives only the numbers of steps and glimpses.

  Attributes:
    encoder: one of `read_process_write.ENCODERS`.
    decoder: 'write' as in the paper, or 'assignment', without glimpses.
    width: width of memories and states.
    num_process_steps: P; ignored by other encoders.
    num_glimpses: number of glimpses before each output.
    process_attention: one of `attention.ATTENTIONS`.
    pointer_attention: one of `attention.ATTENTIONS`.
  """

  encoder: str = 'read_process_write'
  decoder: str = 'write'
  width: int = 128
  num_process_steps: int = 5
  num_glimpses: int = 1
  process_attention: str = 'dot'
  pointer_attention: str = 'additive'

  def __post_init__(self):
    known = {
      'encoder': read_process_write.ENCODERS,
      'decoder': DECODERS,
      'process_attention': ATTENTIONS,
      'pointer_attention': ATTENTIONS,
    }
    for name, choices in known.items():
      check_choice(f'config.model.{name}', getattr(self, name), choices)


def make_model(
  config: ModelConfig, *, rngs: nnx.Rngs
) -> read_process_write.SetToSequence:
  """Build the network, which reads sets of numbers [B, N, 1]."""
  sizes: dict[str, Any] = dataclasses.asdict(config)
  decoder = sizes.pop('decoder')
  model = read_process_write.SetToSequence(1, **sizes, rngs=rngs)
  if decoder == 'assignment':
    model.write = assignment.Assignment(
      config.width, attention=config.pointer_attention, rngs=rngs
    )
  return model
