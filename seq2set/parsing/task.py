"""Parsing as a task: sentences in, linearized trees out.

`predict` answers a sentence, its words and punctuation parted by spaces, with
its tree in brackets.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from seq2set import text
from seq2set.parsing import data, linearize, treebank
from seq2set.parsing.model import STOP, ModelConfig, Parser


def make_task(config: ml_collections.ConfigDict) -> 'ParsingTask':
  """Builds the task from its config."""
  return ParsingTask(config)


class ParsingTask:
  """Vinyals et al. 2016, section 5.1.2. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.model_config = ModelConfig(**config.model)
    self.order = self.model_config.order
    check_choice('config.model.order', self.order, linearize.ORDERS)
    self.data = config.data
    self.evals = config.evals
    self._trees = functools.cache(self._load_trees)  # by split

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
    """Of the words; 0 is none."""
    sentences = [_lower(tree.words()) for tree in self._trees('train')]
    return text.vocabulary(sentences, self.data.vocabulary_size)

  @functools.cached_property
  def _labels(self) -> list[str]:
    """All labels of training, by their index; the first one is `STOP`."""
    found = {
      label
      for tree in self._trees('train')
      for label in linearize.linearize(tree, self.order)
    }
    most = self.model_config.num_labels
    if len(found) >= most:
      raise UserError(
        f'{1 + len(found)} labels, more than config.model.num_labels={most}'
      )
    return ['', *sorted(found)]

  def make_model(self, rngs: nnx.Rngs) -> Parser:
    """Builds the network."""
    return Parser(self.data.vocabulary_size, self.model_config, rngs=rngs)

  def _columns(self, split: str) -> dict[str, np.ndarray]:
    """'words' [n, L], and 'labels' [n, T] with at least one `STOP`."""
    number = {label: k for k, label in enumerate(self._labels)}
    words, labels = [], []
    for tree in self._trees(split):
      words.append(text.encode(_lower(tree.words()), self._indices))
      # A label that training lacks can only be got wrong.
      labels.append(
        [number.get(x, STOP) for x in linearize.linearize(tree, self.order)]
      )
    return {'words': _pad(words, 0), 'labels': _pad(labels, 1)}

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """'words' and 'labels', padded with 0."""
    return self._columns(split)

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws sentences and their trees."""
    del step
    row = jax.random.randint(key, (size,), 0, len(arrays['words']))
    return {name: column[row] for name, column in arrays.items()}

  def loss(
    self, model: Parser, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """-log p of a label, the mean over those up to the first STOP, in nats."""
    labels = batch['labels']
    logits = model(batch['words'], labels, key)
    losses = layers.cross_entropy(logits, labels)
    is_label = jnp.cumsum(labels == STOP, 1) <= 1
    is_right = logits.argmax(-1) == labels
    return losses.mean(where=is_label), {
      'labels': Metric.mean(is_right, is_label)
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """'validation' while training, 'test' by eval."""
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
    """Labeled F1 as EVALB has it, and the share of outputs that are trees.

    'f1': what is no tree has no brackets; 'f1_valid': of trees alone;
    'f1_repaired': after repair. Brackets are counted on the host.
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
    """For each output: is it a tree; its brackets, strictly and repaired."""
    # At once: indexing a JAX array here would wait for the device, which waits
    # for this.
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
    end = np.flatnonzero(output == STOP)
    output = output[: end[0] if len(end) else None]
    is_label = output < len(self._labels)  # other classes stand for none
    if not repairs and not (len(end) and is_label.all()):
      return None  # it has not come to an end, or is none of a tree's
    labels = [self._labels[k] for k in output[is_label]]
    return linearize.rebuild(labels, words, self.order, repairs=repairs)

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Figure]:
    """No figures."""
    del values, model
    return {}

  def predict(
    self, model: Parser, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answers a sentence with its tree, repaired where the labels are none."""
    graphdef, params = nnx.split(model)
    length = 1 + self._columns('train')['labels'].shape[1]

    @jax.jit
    def decode(params, words):
      return nnx.merge(graphdef, params).decode(words, length=length)[0]

    for line in lines:
      # Brackets are those of the tree; treebanks write words so.
      words = line.replace('(', '-LRB-').replace(')', '-RRB-').split()
      if not 1 <= len(words) <= self.data.max_words:
        yield UserError(
          f'{len(words)} words; 1 to {self.data.max_words} expected'
        )
        continue
      encoded = np.zeros((1, self.data.max_words), np.int32)
      encoded[0, : len(words)] = text.encode(_lower(words), self._indices)
      output = np.asarray(decode(params, encoded))
      yield str(self._rebuild(output, words, repairs=True))


def _lower(words: Iterable[str]) -> list[str]:
  return [word.lower() for word in words]


def _pad(rows: list[list[int]], extra: int) -> np.ndarray:
  """Rows as one array, int32, with 0 behind each and `extra` more of it."""
  width = max(map(len, rows)) + extra
  padded = np.zeros((len(rows), width), np.int32)
  for row, values in zip(padded, rows, strict=True):
    row[: len(values)] = values
  return padded
