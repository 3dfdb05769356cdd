"""The sorting task: point at uniform numbers in ascending order.

`predict` reads one set per line and prints its numbers in ascending order.
`seq2set.sorting.data` describes the format.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epy
from flax import nnx
from jaxtyping import Array, Bool, Int

from core import layers
from core.answers import Answer, answer_lines, split_answer
from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from seq2set import padding
from seq2set.read_process_write import SetToSequence
from seq2set.sorting import data
from seq2set.sorting.model import ModelConfig, make_model

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from seq2set.sorting import plots

# Seeds of the evaluation sets; config.seed should differ from all of them.
_SEEDS = {'validation': 811_028, 'test': 811_029, 'test_sizes': 811_030}
# Upper bounds of the bins of the smallest gap; the last bin has none.
GAPS = tuple(2.0**-power for power in range(14, 4, -1))


def make_task(config: ml_collections.ConfigDict) -> 'SortingTask':
  """Build the task from its config."""
  return SortingTask(config)


class SortingTask:
  """Vinyals et al. 2016, 4.4 and 5.1.3. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'evals.num_sets',
    )
    if config.evals.set_sizes:
      check_numbers(config, 'evals.set_sizes')
    self.model_config = ModelConfig(**config.model)
    self.outputs = self.model_config.outputs
    self.set_size = config.data.set_size
    if self.set_size < 2:
      raise UserError(
        f'config.data.set_size={self.set_size} is too small; use at least 2'
      )
    if self.outputs != 'indices' and config.evals.set_sizes:
      raise UserError(
        f'config.evals.set_sizes={config.evals.set_sizes} is not supported:'
        ' pairs have ranks up to config.data.set_size; set'
        ' config.evals.set_sizes to ()'
      )
    self.evals = config.evals

  def make_model(self, rngs: nnx.Rngs) -> SetToSequence:
    """Build the network."""
    return make_model(self.model_config, self.set_size, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return no columns: sets are sampled on the device."""
    del split
    return {}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample 'elements' [B, N, 1] uniformly, and their 'targets' [B, N]."""
    del arrays, step
    sets = draw(key, (size, self.set_size))
    targets = self._targets(sets['order'])
    if self.outputs == 'random_pairs':
      # Folded in, not split off, so that `outputs` does not change the sets.
      key = jax.random.fold_in(key, 0)
      targets = jax.random.permutation(key, targets, axis=1, independent=True)
    return {'elements': sets['elements'], 'targets': targets}

  def _targets(self, order: Int[Array, 'B N']) -> Int[Array, 'B N']:
    """Return the outputs that sort a set, by rank."""
    return order if self.outputs == 'indices' else _pairs(order)

  def _written(self, outputs: Int[Array, 'B N']) -> Int[Array, 'B N']:
    """Return the pairs of an index and a rank that outputs stand for."""
    return _pairs(outputs) if self.outputs == 'indices' else outputs

  def _is_found(
    self, order: Int[Array, 'B N'], outputs: Int[Array, 'B N']
  ) -> Bool[Array, 'B N']:
    """Return whether the true pair of each rank is written, at any place."""
    return (_pairs(order)[:, :, None] == self._written(outputs)[:, None]).any(2)

  def _order(self, outputs: Int[Array, 'B N']) -> Int[Array, 'B N']:
    """Return the index of the element of each rank, 0 for missing ranks."""
    count = outputs.shape[1]
    index, rank = jnp.divmod(self._written(outputs), count)
    return (jax.nn.one_hot(rank, count, dtype=int) * index[..., None]).max(1)

  def loss(
    self, model: SetToSequence, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean of -log p(targets) over the sets, in nats."""
    del key
    logits = model(batch['elements'], batch['targets'])
    losses = layers.cross_entropy(logits, batch['targets']).sum(1)
    is_right = (logits.argmax(-1) == batch['targets']).all(1)
    return losses.mean(), {'accuracy_given_prefix': Metric.mean(is_right)}

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', 'test', and 'test_sizes' for other set sizes."""

    def make(name, measure, every):
      return Evaluator(
        arrays=lambda: {'index': np.arange(self.evals.num_sets)},
        measure=functools.partial(measure, _SEEDS[name]),
        batch_size=self.evals.batch_size,
        every=every,
      )

    evaluators = {
      'validation': make('validation', self._measure, self.evals.every),
      'test': make('test', self._measure, 0),
    }
    if self.evals.set_sizes:
      evaluators['test_sizes'] = make('test_sizes', self._measure_sizes, 0)
    return evaluators

  def _measure(self, seed: int, model: SetToSequence, batch: Batch) -> Metrics:
    """Compute the accuracy and other metrics of greedy decoding.

    Pairs may come in any order: a set is sorted if its outputs are the true
    pairs.
    """
    sets = _fixed_sets(seed, batch['index'], self.set_size)
    elements, order, weight = sets['elements'], sets['order'], batch['weight']
    count = self.set_size
    memories, start = model.encode(elements)
    decode = functools.partial(
      model.write.decode, memories, start, length=count
    )
    targets = self._targets(order)
    output, _ = decode()
    unrepeated, _ = decode(avoid_repeats=True)
    is_right = self._is_found(order, output)
    is_sorted = is_right.all(1)
    gap = jnp.diff(jnp.sort(elements[..., 0])).min(1)
    bins = jax.nn.one_hot(jnp.searchsorted(jnp.array(GAPS), gap), len(GAPS) + 1)
    used = jax.nn.one_hot(self._written(output) // count, count).sum(1)
    logits = model.write(memories, start, targets)
    losses = layers.cross_entropy(logits, targets).sum(1)
    return {
      'accuracy': Metric.mean(is_sorted, weight),
      'positions': Metric.mean(is_right.mean(1), weight, is_independent=False),
      'permutations': Metric.mean((used == 1).all(1), weight),
      'accuracy_without_repeats': Metric.mean(
        self._is_found(order, unrepeated).all(1), weight
      ),
      'nats': Metric.mean(losses, weight, is_independent=False),
      'accuracy_by_gap': Metric.mean(
        is_sorted[:, None], bins * weight[:, None], axis=0
      ),
    }

  def _measure_sizes(
    self, seed: int, model: SetToSequence, batch: Batch
  ) -> Metrics:
    """Compute the accuracy for each of several set sizes."""
    metrics = {}
    for count in self.evals.set_sizes:
      sets = _fixed_sets(seed, batch['index'], count)
      for name, avoid_repeats in ('', False), ('_without_repeats', True):
        output, _ = model.decode(
          sets['elements'], length=count, avoid_repeats=avoid_repeats
        )
        metrics[f'accuracy{name}_{count}_elements'] = Metric.mean(
          (output == sets['order']).all(1), batch['weight']
        )
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: SetToSequence | None = None
  ) -> dict[str, Any]:
    """Plot accuracy against the smallest gap, and against the set size."""
    del model
    figures = {}
    for name, value in values.items():
      split, _, metric = name.partition('/')
      if metric == 'accuracy_by_gap':
        figures[f'{split}_accuracy_by_gap'] = plots.accuracy_by_gap(GAPS, value)
    sizes = {
      name: [
        values.get(f'test_sizes/accuracy{name}_{count}_elements')
        for count in self.evals.set_sizes
      ]
      for name in ('', '_without_repeats')
    }
    if self.evals.set_sizes and None not in sizes['']:
      figures['test_accuracy_by_size'] = plots.accuracy_by_size(
        self.evals.set_sizes, sizes, self.set_size
      )
    return figures

  def predict(
    self, model: SetToSequence, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Sort the numbers of each line, up to 1,000.

    Decoding avoids repeats, so that indices give a permutation of the line.
    Lines that carry their sorted numbers are scored.
    """
    graphdef, params = nnx.split(model)

    @jax.jit
    def sort(params, elements, mask):
      outputs, _ = nnx.merge(graphdef, params).decode(
        elements, mask=mask, length=elements.shape[1], avoid_repeats=True
      )
      return self._order(outputs)

    def answer_line(line: str) -> Answer:
      words, values, answer = data.parse_example(*split_answer(line))
      count = len(values)
      length = padding.padded_length(count)
      mask = np.arange(length)[None] < count
      if self.outputs != 'indices':
        if count > self.set_size:
          raise UserError(
            f'{count} numbers; expected at most {self.set_size}, the largest'
            ' rank of this network'
          )
        length, mask = count, None
      elements = np.zeros((1, length, 1), np.float32)
      elements[0, :count, 0] = data.rescale(values)
      order = np.asarray(sort(params, elements, mask))[0, :count]
      predicted = values[order]
      failure = ''
      if len(set(order)) < count:  # pairs may give two ranks to an element
        failure = 'leaves out a number of the set'
      elif (np.diff(predicted) < 0).any():
        failure = 'is not in ascending order'
      is_correct = None
      if answer is not None:
        is_correct = np.array_equal(predicted, answer)
      text = ' '.join(words[index] for index in order)
      return Answer(text, failure, is_correct)

    return answer_lines(lines, answer_line)


def _pairs(order: Int[Array, 'B N']) -> Int[Array, 'B N']:
  """Return i * N + r for the index i at each rank r; see `SetToPairs`."""
  count = order.shape[1]
  return order * count + jnp.arange(count)[None]


def draw(key: jax.Array, shape: tuple[int, int]) -> Batch:
  """Sample 'elements' [B, N, 1], uniform numbers, and their 'order' [B, N].

  Args:
    key: random key.
    shape: (B, N).
  """
  numbers = jax.random.uniform(key, shape)
  return {'elements': numbers[..., None], 'order': jnp.argsort(numbers)}


def _fixed_sets(seed: int, index: jax.Array, count: int) -> Batch:
  """Sample the sets of a fixed evaluation set by their numbers `index` [B]."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), index)
  sets = jax.vmap(lambda key: draw(key, (1, count)))(keys)
  return jax.tree.map(lambda x: x[:, 0], sets)
