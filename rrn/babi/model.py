"""The recurrent relational network for bAbI (Palm et al. 2018, section 3.1).

Each fact is a node, and all nodes send messages to all nodes, themselves
included. The question is part of the input of every node and of every edge. The
answer is read from the sum of the node states.

The result is the paper's, but the computation is rearranged. The sentence LSTM
multiplies its input kernel by the embedding of each vocabulary entry, not of
each word in the batch. A batch runs on the smallest graph that holds its facts.

Axes: B batch, T steps, N facts (nodes), L words, D width, V vocabulary,
E word embedding.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError
from rrn import network
from rrn.babi import data


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Settings of the network; the defaults are the paper's.

  Attributes:
    width: width of messages and states.
    sentence_width: width of word embeddings and sentence encodings.
    num_steps: number of message passing steps.
    input_layers: number of ReLU layers in the MLP that embeds nodes; 0, a
      linear layer, is an ablation of the paper.
    message_layers: number of ReLU layers in the message function.
    node_layers: number of ReLU layers in the node function.
    question_in_facts: whether the question is part of the node inputs; False is
      an ablation.
    dropout: dropout rate after both hidden layers of the readout; 0 is an
      ablation.
    embedding_std: standard deviation of the initial word embeddings (ours). 0
      selects Glorot initialization, a standard deviation of about 0.1. With
      such small embeddings, the network is slow to learn that two words match,
      because it detects a match by a product of their embeddings.
    tied_start: whether both sentence LSTMs start with the same weights (ours),
      so that a word has the same encoding in a fact and in the question.
    forget_biases: initial forget biases of the first and the last unit of the
      sentence LSTMs; those of the other units are evenly spaced. With different
      values (ours), some units keep the first word until the end of the
      sentence, and others forget quickly.
    num_offsets: the first fact has a position from 0 to num_offsets - 1.
    support_loss: weight of an auxiliary loss (ours): which facts support the
      answer. 0 selects the paper's loss.
    graph_sizes: increasing numbers of nodes up to `data.MAX_FACTS`. A batch
      runs on the first graph that holds its facts. Several sizes speed up small
      batches on CPUs.
  """

  width: int = 128
  sentence_width: int = 32
  num_steps: int = 3
  input_layers: int = 3
  message_layers: int = 3
  node_layers: int = 3
  question_in_facts: bool = True
  dropout: float = 0.5
  embedding_std: float = 0.0
  tied_start: bool = False
  forget_biases: tuple[int, int] = (1, 1)
  num_offsets: int = 20
  support_loss: float = 0.0
  graph_sizes: Sequence[int] = (data.MAX_FACTS,)

  def __post_init__(self):
    sizes = list(self.graph_sizes)
    is_increasing = sizes == sorted(set(sizes)) and min(sizes, default=0) > 0
    if not is_increasing or sizes[-1] != data.MAX_FACTS:
      raise UserError(
        f'config.model.graph_sizes={tuple(sizes)}: expected positive numbers in'
        f' increasing order, the last one {data.MAX_FACTS}'
      )


class BabiNetwork(nnx.Module):
  """Encodes facts and question, passes messages, and answers at each step."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    width, sentence_width = config.width, config.sentence_width
    num_words = len(data.vocabulary())
    embed = layers.glorot
    if config.embedding_std:
      embed = nnx.initializers.normal(config.embedding_std)
    self.embedding = nnx.Param(
      embed(rngs.params(), (num_words, sentence_width))
    )
    self.fact_lstm = layers.LSTM(sentence_width, rngs=rngs)
    self.question_lstm = layers.LSTM(sentence_width, rngs=rngs)
    forget = slice(2 * sentence_width, 3 * sentence_width)
    first, last = config.forget_biases
    for lstm in self.fact_lstm, self.question_lstm:  # the LSTM adds 1
      biases = jnp.linspace(first, last, sentence_width) - 1
      lstm.bias[...] = lstm.bias[...].at[forget].set(biases)
    if config.tied_start:
      self.question_lstm.kernel[...] = self.fact_lstm.kernel[...]
    self.num_positions = config.num_offsets + data.MAX_FACTS
    sentences = 1 + config.question_in_facts
    inputs = sentences * sentence_width + self.num_positions
    hidden = [width] * config.input_layers
    self.input_mlp = layers.MLP(
      [inputs, *hidden, width], dtype=dtype, rngs=rngs
    )
    self.network = network.RecurrentRelationalNetwork(
      width,
      message_layers=config.message_layers,
      node_layers=config.node_layers,
      edge_width=sentence_width,
      dtype=dtype,
      rngs=rngs,
    )
    self.output = layers.MLP(
      [width, width, width, num_words],
      dropout=[config.dropout] * 2,
      dtype=dtype,
      rngs=rngs,
    )
    if config.support_loss:
      self.support_output = layers.Linear(width, 1, dtype=dtype, rngs=rngs)
    self.num_steps = config.num_steps
    self.question_in_facts = config.question_in_facts
    self.graph_sizes = tuple(config.graph_sizes)

  def __call__(
    self,
    facts: Int[Array, 'B N L'],
    question: Int[Array, 'B L'],
    offset: Int[Array, ' B'],
    *,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B V']:
    """Return the logits after each step.

    Args:
      facts: word indices, oldest fact first. Sentences are padded with 0, and
        stories with rows of 0.
      question: word indices, padded with 0.
      offset: position of the oldest fact, below `num_offsets`.
      key: key for dropout. None disables dropout.
    """
    sums = self._read(lambda states: states.sum(2), facts, question, offset)
    return self.output(sums, key).astype(jnp.float32)

  def find_support(
    self,
    facts: Int[Array, 'B N L'],
    question: Int[Array, 'B L'],
    offset: Int[Array, ' B'],
    *,
    key: jax.Array | None = None,
  ) -> tuple[Float[Array, 'T B V'], Float[Array, 'T B N']]:
    """Return logits of the answer, and of whether each fact supports it.

    Requires a `support_loss`. The logits of padding are arbitrary.
    """

    def read(states):
      support = self.support_output(states)[..., 0].astype(jnp.float32)
      rest = facts.shape[1] - support.shape[2]  # graphs differ in size
      return states.sum(2), jnp.pad(support, ((0, 0), (0, 0), (0, rest)))

    sums, support = self._read(read, facts, question, offset)
    return self.output(sums, key).astype(jnp.float32), support

  def _read(self, read, facts, question, offset):
    """Return read(states), computed on the smallest graph for the batch."""
    sizes = self.graph_sizes

    def run(size):
      return lambda: read(self._states(facts[:, :size], question, offset))

    if len(sizes) == 1:
      return run(facts.shape[1])()
    num_facts = (facts > 0).any(-1).sum(-1).max()
    index = (num_facts > jnp.array(sizes)).sum()
    # Without `jax.checkpoint`, the residuals of all graphs would be stored for
    # the backward pass.
    return jax.lax.switch(index, [jax.checkpoint(run(n)) for n in sizes])

  def _states(self, facts, question, offset) -> Float[Array, 'T B N D']:
    """Return the fact states after each step; those of padding are 0."""
    batch, num_nodes, _ = facts.shape
    exists = (facts > 0).any(-1)
    asked = encode(self.question_lstm, self.embedding[...], question)
    position = offset[:, None] + jnp.arange(num_nodes)[None]
    features = [
      encode(self.fact_lstm, self.embedding[...], facts),
      jax.nn.one_hot(position, self.num_positions),
    ]
    if self.question_in_facts:
      shape = (batch, num_nodes, asked.shape[-1])
      features.append(jnp.broadcast_to(asked[:, None], shape))
    states = self.network(
      self.input_mlp(jnp.concatenate(features, axis=-1)),
      network.Graph.complete(num_nodes, self_edges=True),
      num_steps=self.num_steps,
      edges=asked[:, None, None],
      mask=exists[:, None],
    )
    return jnp.where(exists[..., None], states, 0)


def encode(
  lstm: layers.LSTM,
  embedding: Float[Array, 'V E'],
  words: Int[Array, '... L'],
) -> Float[Array, '... E']:
  """Return the LSTM state after the last word of each sentence.

  Args:
    lstm: the sentence LSTM.
    embedding: word embeddings.
    words: word indices, padded with 0.
  """
  table = lstm.gates(embedding)
  start = lstm.zeros(*words.shape[:-1])
  _, (hidden, _) = lstm.scan_gates(
    layers.embedding_lookup(table, words), start, words > 0
  )
  return hidden
