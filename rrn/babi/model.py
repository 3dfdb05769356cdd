"""The recurrent relational network on bAbI (Palm et al. 2018, section 3.1).

A fact is a node; each sends messages to all, itself included. The question is
part of every node's input and of every edge. The answer is read from the sum of
the nodes.

The mathematics is the paper's, with less work: a sentence's LSTM multiplies its
kernel with the vocabulary, not with each word of the batch; and a batch runs on
the smallest graph that holds its facts.

Axes: B batch, T steps, N facts (nodes), L words, D width, V vocabulary.
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
  """Sizes; the defaults are the paper's.

  Attributes:
    width: of messages and states.
    sentence_width: of word embeddings and sentence encodings.
    num_steps: message passing steps.
    pre_layers, message_layers, node_layers: ReLU layers before each last one;
      `pre_layers` = 0 is the paper's ablation with a linear layer.
    question_in_facts: whether a node's input has the question; False is an
      ablation.
    dropout: rate after both hidden layers of the output; 0 is an ablation.
    embedding_std: of the first word embeddings (ours); 0: Glorot's, some 0.1,
      from which matches of words, products of two of them, are learned slowly.
    tied_start: both sentence LSTMs start with the same weights (ours), so that
      a word looks alike in a fact and in the question.
    forget_biases: of the sentence LSTMs' first and last unit, before training;
      the others lie evenly between. Unlike ones (ours) let some units hold the
      first word to the end of the sentence, and others tell the words apart.
    num_offsets: positions of facts start at 0 ... num_offsets - 1.
    support_loss: weight of an auxiliary loss (ours), of which facts support the
      answer; 0: the paper's loss alone.
    graph_sizes: nodes, rising to `data.MAX_FACTS`: a batch takes the first
      graph that holds its facts. Several: for small batches, on CPUs.
  """

  width: int = 128
  sentence_width: int = 32
  num_steps: int = 3
  pre_layers: int = 3
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
    rises = sizes == sorted(set(sizes)) and min(sizes, default=0) > 0
    if not rises or sizes[-1] != data.MAX_FACTS:
      raise UserError(
        f'config.model.graph_sizes={tuple(sizes)}: numbers that rise to'
        f' {data.MAX_FACTS} expected'
      )


class BabiNetwork(nnx.Module):
  """Encodes facts and question, passes messages, answers at every step."""

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
    for lstm in self.fact_lstm, self.question_lstm:  # which add 1 themselves
      biases = jnp.linspace(first, last, sentence_width) - 1
      lstm.bias[...] = lstm.bias[...].at[forget].set(biases)
    if config.tied_start:
      self.question_lstm.kernel[...] = self.fact_lstm.kernel[...]
    self.num_positions = config.num_offsets + data.MAX_FACTS
    sentences = 1 + config.question_in_facts
    inputs = sentences * sentence_width + self.num_positions
    hidden = [width] * config.pre_layers
    self.pre = layers.MLP([inputs, *hidden, width], dtype=dtype, rngs=rngs)
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
    """Returns the logits of every step.

    Args:
      facts: indices of words, 0 where there is none; oldest first, then rows of
        0 for no fact.
      question: the same.
      offset: position of the oldest fact, below `num_offsets`.
      key: for dropout; None: without.
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
    """As called, and the logits of whether each fact supports the answer.

    Only with a `support_loss`; those of absent facts mean nothing.
    """

    def read(states):
      support = self.support_output(states)[..., 0].astype(jnp.float32)
      rest = facts.shape[1] - support.shape[2]  # alike, whatever the graph
      return states.sum(2), jnp.pad(support, ((0, 0), (0, 0), (0, rest)))

    sums, support = self._read(read, facts, question, offset)
    return self.output(sums, key).astype(jnp.float32), support

  def _read(self, read, facts, question, offset):
    """`read(states)`, on the smallest graph that holds the batch's facts."""
    sizes = self.graph_sizes
    num_facts = (facts > 0).any(-1).sum(-1).max()

    def run(size):
      return lambda: read(self._states(facts[:, :size], question, offset))

    if len(sizes) == 1:
      return run(facts.shape[1])()
    index = (num_facts > jnp.array(sizes)).sum()
    # Else the backward pass would store what all of the graphs have to.
    return jax.lax.switch(index, [jax.checkpoint(run(n)) for n in sizes])

  def _states(self, facts, question, offset) -> Float[Array, 'T B N D']:
    """The states of the facts after each step; 0 where there is none."""
    batch, num_nodes, _ = facts.shape
    exists = (facts > 0).any(-1)
    asked = encode(self.question_lstm, self.embedding[...], question)
    position = offset[:, None] + jnp.arange(num_nodes)
    features = [
      encode(self.fact_lstm, self.embedding[...], facts),
      jax.nn.one_hot(position, self.num_positions),
    ]
    if self.question_in_facts:
      shape = (batch, num_nodes, asked.shape[-1])
      features.append(jnp.broadcast_to(asked[:, None], shape))
    states = self.network(
      self.pre(jnp.concatenate(features, axis=-1)),
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
  """The LSTM's state after the last word of each sentence; words 0 are none."""
  from_word = lstm.kernel[...][: embedding.shape[1]]
  table = embedding @ from_word + lstm.bias[...]
  start = lstm.zeros(*words.shape[:-1])
  _, (hidden, _) = lstm.scan_gates(
    layers.look_up(table, words), start, words > 0
  )
  return hidden
