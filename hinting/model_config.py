"""The sizes and variants of the transformer."""

import dataclasses

import jax

from core.errors import UserError, check_choice
from hinting import positions as positional
from hinting import temperature

ACTIVATIONS = {'gelu': jax.nn.gelu, 'relu': jax.nn.relu}
# Values of settings in the config.json of older runs and weights.
_OLD_NAMES = {
  'temperature': {
    'T0': 'none',
    'T1': 'affine_log',
    'T2': 'log',
    'T4': 'per_query',
  },
  'positions': {'randomised': 'randomized'},
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and variants of the transformer.

  Names from older versions are translated to the current ones.

  Attributes:
    num_layers: number of blocks.
    width: width of the residual stream.
    num_heads: number of attention heads per block.
    feed_forward_width: number of hidden units of a feed-forward layer.
    temperature: one of `temperature.KINDS`.
    positions: one of `positions.KINDS`.
    max_positions: number of rows of the position table of 'learned' and
      'randomized'.
    has_norm: whether there are layer norms; False in `sorting.construction`.
    activation: 'gelu' or 'relu'.
  """

  num_layers: int = 2
  width: int = 128
  num_heads: int = 4
  feed_forward_width: int = 512
  temperature: str = 'none'
  positions: str = 'none'
  max_positions: int = 512
  has_norm: bool = True
  activation: str = 'gelu'

  def __post_init__(self):
    for name, old_names in _OLD_NAMES.items():
      value = getattr(self, name)
      object.__setattr__(self, name, old_names.get(value, value))
    check_choice(
      'config.model.temperature', self.temperature, temperature.KINDS
    )
    check_choice('config.model.positions', self.positions, positional.KINDS)
    check_choice('config.model.activation', self.activation, ACTIVATIONS)
    if self.width % (2 * self.num_heads):
      raise UserError(
        f'config.model.width={self.width} is not a multiple of'
        f' {2 * self.num_heads}, twice config.model.num_heads'
      )

  @property
  def has_table(self) -> bool:
    """Whether positions are indices of a table."""
    return self.positions in positional.TABLE_KINDS
