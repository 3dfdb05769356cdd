"""An encoder and decoder with attention that map words to labels.

The network follows Vinyals et al. 2015, Grammar as a Foreign Language, with one
change to the architecture: the attention context does not enter the recurrence
of the decoder. In training, all attention is therefore one batched product
after the scans.

Axes: B batch, L words, T labels, D width, K label classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from seq2set.attention import Attention, attend

STOP = 0  # ends a sequence of labels, and pads it


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and orders.

  Attributes:
    width: width of embeddings and states.
    num_layers: number of LSTMs in the encoder and in the decoder.
    dropout: rate at the input of each LSTM.
    order: order of the labels, one of `linearize.ORDERS`.
    reverses_input: read the sentence backward.
    num_labels: K, at least the number of labels plus one for `STOP`.
  """

  width: int = 256
  num_layers: int = 3
  dropout: float = 0.0
  order: str = 'depth_first'
  reverses_input: bool = True
  num_labels: int = 128


class Parser(nnx.Module):
  """p(label | previous labels, words).

  Args:
    num_words: size of the vocabulary of words.
    config: sizes and orders.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    num_words: int,
    config: ModelConfig,
    *,
    rngs: nnx.Rngs,
  ):
    width, init = config.width, layers.glorot
    num_labels = config.num_labels
    self.words = nnx.Param(init(rngs.params(), (num_words, width)))
    # The last row is the input before the first label.
    self.labels = nnx.Param(init(rngs.params(), (num_labels + 1, width)))
    self.encoder, self.decoder = (
      nnx.List(layers.LSTM(width, rngs=rngs) for _ in range(config.num_layers))
      for _ in range(2)
    )
    self.attention = Attention(width, 'additive', rngs=rngs)
    self.output = nnx.Linear(2 * width, num_labels, kernel_init=init, rngs=rngs)
    self.dropout = config.dropout
    self.reverses_input = config.reverses_input

  def encode(self, words: Int[Array, 'B L'], key: jax.Array | None = None):
    """Encode sentences.

    Args:
      words: word indices, padded with 0.
      key: random key for dropout; None disables dropout.

    Returns:
      The states of the top LSTM [B, L, D], the mask of the words [B, L], and
      the last state of each LSTM.
    """
    if self.reverses_input:
      words = words[:, ::-1]
    mask = words > 0
    x = self.words[...][words]
    ends = []
    for index, lstm in enumerate(self.encoder):
      x = self._drop(x, key, index)
      x, end = lstm.scan(x, lstm.zeros(len(words)), mask)
      ends.append(end)
    return x, mask, ends

  def __call__(
    self,
    words: Int[Array, 'B L'],
    labels: Int[Array, 'B T'],
    key: jax.Array | None = None,
  ) -> Float[Array, 'B T K']:
    """Compute the logits of each label, given the true labels before it.

    Args:
      words: word indices, padded with 0.
      labels: the true labels, padded with `STOP`.
      key: random key for dropout; None disables dropout.
    """
    memories, mask, ends = self.encode(words, key)
    first = jnp.full((len(labels), 1), self.labels.shape[0] - 1)
    x = self.labels[...][jnp.concatenate([first, labels[:, :-1]], 1)]
    for index, (lstm, start) in enumerate(zip(self.decoder, ends, strict=True)):
      x = self._drop(x, key, len(self.encoder) + index)
      x, _ = lstm.scan(x, start)
    return self._read_out(x, memories, self.attention.keys(memories), mask)

  def decode(
    self, words: Int[Array, 'B L'], *, length: int
  ) -> Int[Array, 'B T']:
    """Decode greedily for `length` steps; only STOP follows STOP."""
    memories, mask, states = self.encode(words)
    keys = self.attention.keys(memories)

    def step(carry, _):
      label, states, is_done = carry
      x = self.labels[...][label]
      new_states = []
      for lstm, state in zip(self.decoder, states, strict=True):
        new_states.append(lstm.step(x, state))
        x = new_states[-1][0]
      logits = self._read_out(x[:, None], memories, keys, mask)[:, 0]
      label = jnp.where(is_done, STOP, logits.argmax(-1))
      return (label, new_states, is_done | (label == STOP)), label

    count = len(words)
    first = jnp.full(count, self.labels.shape[0] - 1)
    carry = first, states, jnp.zeros(count, bool)
    return jax.lax.scan(step, carry, length=length)[1].T

  def _drop(self, x, key, index):
    if key is None or not self.dropout:
      return x
    return layers.dropout(jax.random.fold_in(key, index), x, self.dropout)

  def _read_out(self, states, memories, keys, mask) -> Float[Array, 'B T K']:
    scores = self.attention(keys, states)
    context = attend(scores, memories, mask)
    return self.output(jnp.concatenate([states, context], -1))
