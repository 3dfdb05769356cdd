"""The regularized LSTM of Zaremba et al. 2014, which the paper uses.

The paper does not specify two details. Here biases are initialized to 0, and
the forget gate adds 1.

Axes: B batch, T steps, T2 scored steps, D width, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice
from seq2set.language_model import data


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and the order; the defaults are the medium model of the paper.

  Attributes:
    width: width of embeddings and states.
    num_layers: number of stacked LSTMs.
    dropout: rate between layers; recurrent connections have no dropout.
    init_scale: weights are initialized uniformly in [-init_scale, init_scale].
    order: order of the words, one of `data.ORDERS`.
  """

  width: int = 650
  num_layers: int = 2
  dropout: float = 0.5
  init_scale: float = 0.05
  order: str = 'natural'

  def __post_init__(self):
    check_choice('config.model.order', self.order, data.ORDERS)


class LanguageModel(nnx.Module):
  """p(word | previous words), from an initial state of zeros.

  Args:
    num_words: V.
    config: sizes.
    rngs: random keys of the parameters.
  """

  def __init__(self, num_words: int, config: ModelConfig, *, rngs: nnx.Rngs):
    width, init = config.width, layers.symmetric_uniform(config.init_scale)
    self.embedding = nnx.Param(init(rngs.params(), (num_words, width)))
    self.lstms = nnx.List(
      layers.LSTM(width, rngs=rngs) for _ in range(config.num_layers)
    )
    for lstm in self.lstms:
      lstm.kernel[...] = init(rngs.params(), lstm.kernel.shape)
    self.output = nnx.Linear(width, num_words, kernel_init=init, rngs=rngs)
    self.dropout = config.dropout

  def __call__(
    self,
    words: Int[Array, 'B T'],
    key: jax.Array | None = None,
    *,
    num_scored: int | None = None,
  ) -> Float[Array, 'B T2 V']:
    """Compute the logits of each next word.

    Args:
      words: the input words.
      key: random key for dropout; None disables dropout.
      num_scored: T2, the number of last positions to return; None returns all.
    """

    def drop(x, index):
      if key is None or not self.dropout:
        return x
      return layers.dropout(jax.random.fold_in(key, index), x, self.dropout)

    x = drop(self.embedding[...][words], 0)
    for index, lstm in enumerate(self.lstms, start=1):
      x, _ = lstm.scan(x, lstm.zeros(len(x)))
      x = drop(x, index)
    if num_scored is not None:
      x = x[:, -num_scored:]
    return self.output(x).astype(jnp.float32)
