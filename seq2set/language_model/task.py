"""The language modeling task: words in one of three orders.

`predict` reads one sentence per line and prints its perplexity.
"""

from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from core import layers
from core.answers import Answer, answer_lines
from core.errors import UserError, check_positive
from core.metrics import Metric, Perplexity
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import padding, text
from seq2set.language_model import data
from seq2set.language_model.model import LanguageModel, ModelConfig

_END = 0  # index of the end-of-sentence token, see `text.vocabulary`


def make_task(config: ml_collections.ConfigDict) -> 'LanguageModelTask':
  """Build the task from its config."""
  return LanguageModelTask(config)


class LanguageModelTask:
  """Vinyals et al. 2016, section 5.1.1. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_layers',
      'data.length',
    )
    self.model_config = ModelConfig(**config.model)
    self.order = self.model_config.order
    self.data = config.data
    self.corpus = text.Corpus(
      self.data.source, self.data.vocabulary_size, data_dir=self.data.dir
    )
    self.evals = config.evals
    self.pad = self.data.vocabulary_size  # the index after the last word

  def make_model(self, rngs: nnx.Rngs) -> LanguageModel:
    """Build the network."""
    num_words = self.data.vocabulary_size + 1
    return LanguageModel(num_words, self.model_config, rngs=rngs)

  def _stream(self, split: str) -> np.ndarray:
    sentences = self.corpus.sentences(split)
    return data.stream(sentences, self.order, end=_END, pad=self.pad)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'words' int32 [n], the reordered text of a split."""
    words = self._stream(split)
    min_words = self.data.context + self.data.length + 1
    if len(words) < min_words:
      raise UserError(
        f'{self.data.source!r} has {len(words)} words for the {split} split;'
        f' expected at least {min_words}, context + length + 1 of config.data;'
        ' use a longer text'
      )
    return {'words': words}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample windows of the text, 'words' [B, context + length + 1]."""
    del step
    width = self.data.context + self.data.length + 1
    num_starts = len(arrays['words']) - width + 1
    start = jax.random.randint(key, (size,), 0, num_starts)
    words = arrays['words'][start[:, None] + jnp.arange(width)[None]]
    return {'words': words}

  def loss(
    self, model: LanguageModel, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean -log p of the words after the context, in nats."""
    losses = self._losses(model, batch['words'], key)
    is_word = batch['words'][:, -self.data.length :] != self.pad
    return losses.mean(), {'perplexity': _perplexity(losses, 1.0, is_word)}

  def _losses(self, model, words, key=None) -> jax.Array:
    """Compute -log p of the last `length` words, [B, length], in nats."""
    count = self.data.length
    logits = model(words[:, :-1], key, num_scored=count)
    return layers.cross_entropy(logits, words[:, -count:])

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation' and 'test', each on the whole text."""
    return split_evaluators(self.evals, self._windows, self._measure)

  def _windows(self, split: str) -> dict[str, np.ndarray]:
    return data.windows(
      self._stream(split),
      length=self.data.length,
      context=self.data.context,
      end=_END,
    )

  def _measure(self, model: LanguageModel, batch: Batch) -> Metrics:
    """Compute the perplexity per word.

    The losses include the padding of 'three_words'. 'perplexity' does not count
    padding as words; 'perplexity_with_pads' does.
    """
    losses = self._losses(model, batch['words'])
    is_word = batch['words'][:, -self.data.length :] != self.pad
    weight = jnp.where(batch['is_scored'], batch['weight'][:, None], 0)
    return {
      'perplexity': _perplexity(losses, weight, is_word),
      'perplexity_with_pads': _perplexity(losses, weight, True),
    }

  def predict(
    self, model: LanguageModel, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Compute the perplexity of each sentence, including its end token."""
    graphdef, params = nnx.split(model)

    @jax.jit
    def measure(params, words, is_scored):
      logits = nnx.merge(graphdef, params)(words[None, :-1])[0]
      losses = layers.cross_entropy(logits, words[1:])
      is_word = words[1:] != self.pad
      return _perplexity(losses, is_scored, is_word).result()

    def answer_line(line: str) -> Answer:
      encoded = self.corpus.encode(line.lower().split())
      stream = data.stream([encoded], self.order, end=_END, pad=self.pad)
      length = padding.padded_length(len(stream))
      padded = np.full(1 + length, _END, np.int32)
      padded[1 : 1 + len(stream)] = stream
      is_scored = (np.arange(length) < len(stream)).astype(np.float32)
      return Answer(f'{measure(params, padded, is_scored):.4g}')

    return answer_lines(lines, answer_line)


def _perplexity(losses, weight, is_word) -> Perplexity:
  """Return the perplexity: exp(sum of losses / number of words)."""
  total = Metric.mean(losses, weight).total
  words = Metric.mean(losses, jnp.where(is_word, weight, 0)).weight
  return Perplexity(total, words)
