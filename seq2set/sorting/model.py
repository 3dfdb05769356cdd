"""The networks that sort: their sizes, and what they see."""

import dataclasses

from flax import nnx

from core.errors import check_choice
from seq2set import attend, read_process_write


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes; the paper gives only the numbers of steps and glimpses.

  Attributes:
    encoder: one of `read_process_write.ENCODERS`.
    width: of memories and states.
    num_process_steps: P; other encoders have none.
    num_glimpses: before each output.
    process_attention, pointer_attention: 'dot', 'scaled_dot' or 'additive'.
    process_form: see `read_process_write.PROCESS_FORMS`.
  """

  encoder: str = 'read_process_write'
  width: int = 128
  num_process_steps: int = 5
  num_glimpses: int = 1
  process_attention: str = 'dot'
  pointer_attention: str = 'additive'
  process_form: str = 'A'

  def __post_init__(self):
    known = {
      'encoder': read_process_write.ENCODERS,
      'process_attention': attend.ATTENTIONS,
      'pointer_attention': attend.ATTENTIONS,
      'process_form': read_process_write.PROCESS_FORMS,
    }
    for name, choices in known.items():
      check_choice(f'config.model.{name}', getattr(self, name), choices)


def make_model(
  config: ModelConfig, *, rngs: nnx.Rngs
) -> read_process_write.SetToSequence:
  """Builds the network, which reads sets of numbers [B, N, 1]."""
  return read_process_write.SetToSequence(
    1, **dataclasses.asdict(config), rngs=rngs
  )
