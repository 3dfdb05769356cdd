"""The parsing task: sentences in, linearized trees out.

`predict` reads one sentence per line, with spaces around punctuation. It writes
its tree in brackets. A line may hold a tree in place of a sentence: the network
parses its words, and the tree scores the answer.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from flax import nnx
from matplotlib.figure import Figure

from core import layers
from core.answers import Answer, answer_lines
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from seq2set import text
from seq2set.parsing import data, linearize, treebank
from seq2set.parsing.model import STOP, ModelConfig, Parser


def make_task(config: ml_collections.ConfigDict) -> 'ParsingTask':
  """Build the task from its config."""
  return ParsingTask(config)


class ParsingTask:
  """Vinyals et al. 2016, section 5.1.2. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
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
    """The word indices; 0 is padding."""
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
    most = self.model_config.num_labels
    if len(found) >= most:
      raise UserError(
        f'config.model.num_labels={most} is too small: the training trees have'
        f' {len(found)} labels, and one more class stops; set it to'
        f' {1 + len(found)} or more'
      )
    return ['', *sorted(found)]

  def make_model(self, rngs: nnx.Rngs) -> Parser:
    """Build the network."""
    return Parser(self.data.vocabulary_size, self.model_config, rngs=rngs)

  def _columns(self, split: str) -> dict[str, np.ndarray]:
    """Encode 'words' [n, L], and 'labels' [n, T] that end with `STOP`."""
    number = {label: k for k, label in enumerate(self._labels)}
    words, labels = [], []
    for tree in self._trees(split):
      words.append(text.encode(_lower(tree.words()), self._indices))
      # The network cannot predict a label that is not in the training trees.
      labels.append(
        [number.get(x, STOP) for x in linearize.linearize(tree, self.order)]
      )
    return {'words': _pad(words, 0), 'labels': _pad(labels, 1)}

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'words' [n, L] and 'labels' [n, T], padded with 0."""
    return self._columns(split)

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample sentences and their trees."""
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
    columns = self._columns(split)
    count = min(self.evals.num_trees, len(columns['words']))
    columns = {name: column[:count] for name, column in columns.items()}
    return columns | {'index': np.arange(count, dtype=np.int32)}

  def _measure(self, split: str, model: Parser, batch: Batch) -> Metrics:
    """Compute the labeled F1 of EVALB, and the share of outputs that are trees.

    'f1' counts an output that is not a tree as a tree without brackets;
    'f1_valid' leaves such outputs out; 'f1_repaired' repairs them. The host
    counts the brackets.
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
    is_valid, matched, predicted, matched_repaired, repaired, true = counts.T
    weight = batch['weight']

    def f1(matched, predicted, weight):
      return Metric.mean(
        2 * matched / jnp.maximum(true + predicted, 1),
        weight * (true + predicted),
        is_independent=False,
      )

    return {
      'f1': f1(matched, predicted, weight),
      'f1_valid': f1(matched, predicted, weight * is_valid),
      'f1_repaired': f1(matched_repaired, repaired, weight),
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
    for row, output, number in zip(rows, outputs, index, strict=True):
      true = self._trees(split)[number]
      strict, repaired = (
        self._rebuild(output, true.words(), repairs=repairs)
        for repairs in (False, True)
      )
      a = data.score([true], [strict])
      b = data.score([true], [repaired])
      row[:] = (
        *(strict is not None, a.matched, a.predicted),
        *(b.matched, b.predicted, a.true),
      )
    return rows

  def _rebuild(self, output, words, *, repairs: bool) -> data.Tree | None:
    """Convert label indices [T] to a tree; None if that needs repair."""
    end = np.flatnonzero(output == STOP)
    output = output[: end[0] if len(end) else None]
    is_label = output < len(self._labels)  # other classes are unused
    if not repairs and not (len(end) and is_label.all()):
      return None
    labels = [self._labels[k] for k in output[is_label]]
    return linearize.rebuild(labels, words, self.order, repairs=repairs)

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Figure]:
    """Return no figures."""
    del values, model
    return {}

  def predict(
    self, model: Parser, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Parse the sentence of each line; repair outputs that are not trees.

    For lines that hold a tree, logs the accuracy and the labeled F1 at the end.
    """
    decode = self._make_decoder(model)
    pairs = []  # true and predicted trees

    def answer_line(line: str) -> Answer:
      words, truth = data.parse_line(line)
      if not 1 <= len(words) <= self.data.max_words:
        raise UserError(
          f'{len(words)} words; 1 to {self.data.max_words} expected'
        )
      output = decode(words)
      tree = self._rebuild(output, words, repairs=True)
      failure = ''
      if self._rebuild(output, words, repairs=False) is None:
        failure = 'was repaired: the network wrote no tree of this sentence'
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
    """Return a function from words to label indices [T]."""
    graphdef, params = nnx.split(model)
    length = 1 + self._columns('train')['labels'].shape[1]

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


def _pad(rows: list[list[int]], extra: int) -> np.ndarray:
  """Stack rows as int32, padded with 0, with `extra` columns of padding."""
  width = max(map(len, rows)) + extra
  padded = np.zeros((len(rows), width), np.int32)
  for row, values in zip(padded, rows, strict=True):
    row[: len(values)] = values
  return padded
