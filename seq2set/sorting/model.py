"""The networks that sort: their sizes, and what they see."""

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
    width: of memories and states.
    num_process_steps: P; other encoders have none.
    decoder: 'write', the paper's; or 'assignment', of later work: no glimpses.
    num_glimpses: before each output.
    process_attention, pointer_attention: 'dot', 'scaled_dot' or 'additive'.
    process_form: see `read_process_write.PROCESS_FORMS`.
  """

  encoder: str = 'read_process_write'
  decoder: str = 'write'
  width: int = 128
  num_process_steps: int = 5
  num_glimpses: int = 1
  process_attention: str = 'dot'
  pointer_attention: str = 'additive'
  process_form: str = 'A'

  def __post_init__(self):
    known = {
      'encoder': read_process_write.ENCODERS,
      'decoder': DECODERS,
      'process_attention': ATTENTIONS,
      'pointer_attention': ATTENTIONS,
      'process_form': read_process_write.PROCESS_FORMS,
    }
    for name, choices in known.items():
      check_choice(f'config.model.{name}', getattr(self, name), choices)


def make_model(
  config: ModelConfig, *, rngs: nnx.Rngs
) -> read_process_write.SetToSequence:
  """Builds the network, which reads sets of numbers [B, N, 1]."""
  sizes: dict[str, Any] = dataclasses.asdict(config)
  decoder = sizes.pop('decoder')
  model = read_process_write.SetToSequence(1, **sizes, rngs=rngs)
  if decoder == 'assignment':
    model.write = assignment.Assignment(
      config.width, attention=config.pointer_attention, rngs=rngs
    )
  return model
