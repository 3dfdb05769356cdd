"""The parsing task: map sentences to linearized trees.

`predict` reads one sentence per line, with spaces around punctuation, and
prints its tree in brackets. A line may contain a tree in place of a sentence.
The network then parses its words, and the tree is the true answer.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from flax import nnx

from core import layers
from core.answers import Answer, answer_lines
from core.errors import UserError, check_choice, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from seq2set import padding, text
from seq2set.parsing import data, linearize, treebank
from seq2set.parsing.model import STOP, ModelConfig, Parser


def make_task(config: ml_collections.ConfigDict) -> 'ParsingTask':
  """Build the task from its config."""
  return ParsingTask(config)


class ParsingTask:
  """Vinyals et al. 2016, section 5.1.2. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_layers',
      'data.num_generated',
      'evals.num_trees',
    )
    self.model_config = ModelConfig(**config.model)
    self.order = self.model_config.order
    check_choice('config.model.order', self.order, linearize.ORDERS)
    self.data = config.data
    self.evals = config.evals
    self._trees = functools.cache(self._load_trees)  # one entry per split

  def _load_trees(self, split: str) -> list[data.Tree]:
    return treebank.load(
      self.data.source,
      split,
      data_dir=self.data.dir,
      max_words=self.data.max_words,
      num_generated=self.data.num_generated,
    )

  @functools.cached_property
  def _indices(self) -> dict[str, int]:
    """The indices of the words; 0 is padding."""
    sentences = [_lower(tree.words()) for tree in self._trees('train')]
    return text.vocabulary(sentences, self.data.vocabulary_size)

  @functools.cached_property
  def _labels(self) -> list[str]:
    """All labels of the training trees by index; the first is `STOP`."""
    found = {
      label
      for tree in self._trees('train')
      for label in linearize.linearize(tree, self.order)
    }
    num_labels = self.model_config.num_labels
    if len(found) >= num_labels:
      raise UserError(
        f'config.model.num_labels={num_labels} is too small: the training trees'
        f' have {len(found)} labels, and the stop symbol is one more; set it to'
        f' {1 + len(found)} or more'
      )
    return ['', *sorted(found)]

  def make_model(self, rngs: nnx.Rngs) -> Parser:
    """Build the network."""
    return Parser(self.data.vocabulary_size, self.model_config, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'words' [n, L], padded with 0, and 'labels' [n, T].

    Each row of labels ends with `STOP`, which also pads it.
    """
    index_of = {label: k for k, label in enumerate(self._labels)}
    words, labels = [], []
    for tree in self._trees(split):
      words.append(text.encode(_lower(tree.words()), self._indices))
      sequence = linearize.linearize(tree, self.order)
      # The network cannot predict a label that is not in the training trees.
      labels.append([index_of.get(label, STOP) for label in sequence] + [STOP])
    return {
      'words': padding.stack(words, 0, np.int32),
      'labels': padding.stack(labels, STOP, np.int32),
    }

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample 'words' [B, L] and 'labels' [B, T]."""
    del step
    row = jax.random.randint(key, (size,), 0, len(arrays['words']))
    return {name: column[row] for name, column in arrays.items()}

  def loss(
    self, model: Parser, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean -log p of the labels up to the first STOP, in nats."""
    labels = batch['labels']
    logits = model(batch['words'], labels, key)
    losses = layers.cross_entropy(logits, labels)
    is_label = jnp.cumsum(labels == STOP, 1) <= 1
    is_right = logits.argmax(-1) == labels
    return losses.mean(where=is_label), {
      'labels': Metric.mean(is_right, is_label)
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation' for training and 'test' for `--mode=eval`."""
    periods = {'validation': self.evals.every, 'test': 0}
    return {
      split: Evaluator(
        arrays=functools.partial(self._evaluation_set, split),
        measure=functools.partial(self._measure, split),
        batch_size=self.evals.batch_size,
        every=period,
      )
      for split, period in periods.items()
    }

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    columns = self.arrays(split)
    count = min(self.evals.num_trees, len(columns['words']))
    columns = {name: column[:count] for name, column in columns.items()}
    return columns | {'index': np.arange(count, dtype=np.int32)}

  def _measure(self, split: str, model: Parser, batch: Batch) -> Metrics:
    """Compute the labeled F1 of EVALB, and the share of outputs that are trees.

    'f1' counts an output that is not a tree as a tree without brackets,
    'f1_valid' excludes it, and 'f1_repaired' repairs it. The host counts the
    brackets.
    """
    length = batch['labels'].shape[1]
    outputs = model.decode(batch['words'], length=length)
    shape = jax.ShapeDtypeStruct((len(outputs), 6), jnp.int32)
    counts = jax.pure_callback(
      functools.partial(self._count, split),
      shape,
      outputs,
      batch['index'],
      vmap_method='sequential',
    )
    counts = counts.T.astype(jnp.float32)
    is_valid, matched, predicted, matched_repaired, predicted_repaired, true = (
      counts
    )
    weight = batch['weight']

    def f1(matched, predicted, weight):
      # Each F1 is weighted by its denominator. The mean is therefore the F1 of
      # the counts summed over all sentences, as in EVALB.
      return Metric.mean(
        2 * matched / jnp.maximum(true + predicted, 1),
        weight * (true + predicted),
        is_independent=False,
      )

    return {
      'f1': f1(matched, predicted, weight),
      'f1_valid': f1(matched, predicted, weight * is_valid),
      'f1_repaired': f1(matched_repaired, predicted_repaired, weight),
      'valid': Metric.mean(is_valid, weight),
    }

  def _count(self, split, outputs, index) -> np.ndarray:
    """Count the brackets of outputs, without and with repair.

    Args:
      split: the split of the trees.
      outputs: label indices [B, T].
      index: rows [B] of the trees in the split.

    Returns:
      int32 [B, 6]: whether the output is a tree, matched and predicted
      brackets, the same two after repair, and true brackets.
    """
    # Convert first: indexing a JAX array in a callback waits for the device,
    # which waits for the callback.
    outputs, index = np.asarray(outputs), np.asarray(index)
    rows = np.zeros((len(outputs), 6), np.int32)
    trees = self._trees(split)
    for row, output, k in zip(rows, outputs, index, strict=True):
      true = trees[k]
      strict, repaired = (
        self._rebuild(output, true.words(), repairs=repairs)
        for repairs in (False, True)
      )
      score = data.score([true], [strict])
      repaired_score = data.score([true], [repaired])
      row[:] = (
        strict is not None,
        score.matched,
        score.predicted,
        repaired_score.matched,
        repaired_score.predicted,
        score.true,
      )
    return rows

  def _rebuild(self, output, words, *, repairs: bool) -> data.Tree | None:
    """Convert label indices [T] to a tree; return None if it needs repair."""
    end = np.flatnonzero(output == STOP)
    output = output[: end[0] if len(end) else None]
    is_label = output < len(self._labels)  # other classes are unused
    if not repairs and not (len(end) and is_label.all()):
      return None
    labels = [self._labels[k] for k in output[is_label]]
    return linearize.rebuild(labels, words, self.order, repairs=repairs)

  def predict(
    self, model: Parser, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Parse the sentence of each line; repair outputs that are not trees.

    If lines contain trees, log the accuracy and the labeled F1 at the end.
    """
    decode = self._make_decoder(model)
    pairs = []  # true and predicted trees

    def answer_line(line: str) -> Answer:
      words, truth = data.parse_line(line)
      if not 1 <= len(words) <= self.data.max_words:
        raise UserError(
          f'{len(words)} words; expected 1 to {self.data.max_words}'
        )
      output = decode(words)
      tree = self._rebuild(output, words, repairs=True)
      failure = ''
      if self._rebuild(output, words, repairs=False) is None:
        failure = 'was repaired: the output is not a tree of the sentence'
      if truth is None:
        return Answer(str(tree), failure)
      pairs.append((truth, tree))
      return Answer(str(tree), failure, tree == truth)

    yield from answer_lines(lines, answer_line)
    if pairs:
      truths, trees = zip(*pairs, strict=True)
      f1 = data.score(truths, trees).f1
      logging.warning('labeled F1 %.1f%% on %d trees', 100 * f1, len(pairs))

  def _make_decoder(self, model: Parser) -> Callable[[list[str]], np.ndarray]:
    """Return a function that maps words to label indices [T]."""
    graphdef, params = nnx.split(model)
    length = 1 + self.arrays('train')['labels'].shape[1]

    @jax.jit
    def decode(params, words):
      return nnx.merge(graphdef, params).decode(words, length=length)[0]

    def decode_words(words: list[str]) -> np.ndarray:
      encoded = np.zeros((1, self.data.max_words), np.int32)
      encoded[0, : len(words)] = text.encode(_lower(words), self._indices)
      return np.asarray(decode(params, encoded))

    return decode_words


def _lower(words: Iterable[str]) -> list[str]:
  return [word.lower() for word in words]
