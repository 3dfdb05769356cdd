"""Tasks on sets of points whose answers are indices of these points.

Each experiment extends `PointTask` and defines the form of an answer.

Axes: B batch, N points, T outputs.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from core import layers
from core.answers import Answer, answer_lines
from core.errors import UserError, check_choice, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import padding, point_sets, read_process_write
from seq2set.read_process_write import SetToSequence

_SEEDS = {'train': 0, 'validation': 1, 'test': 2}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes, and the order of the input.

  Attributes:
    encoder: one of `read_process_write.ENCODERS`.
    width: width of memories and states.
    num_process_steps: P; ignored unless the encoder is 'read_process_write'.
    num_glimpses: number of glimpses before each output.
    inputs: 'random', or 'angle' to sort the points around their mean.
  """

  encoder: str = 'pointer_network'
  width: int = 256
  num_process_steps: int = 10
  num_glimpses: int = 1
  inputs: str = 'random'

  def __post_init__(self):
    check_choice(
      'config.model.encoder', self.encoder, read_process_write.ENCODERS
    )
    check_choice('config.model.inputs', self.inputs, point_sets.INPUTS)


class PointTask:
  """The part of `core.task.Task` that does not depend on the form of an answer.

  Subclasses implement the methods that raise NotImplementedError.
  """

  keep_angles = False  # True if the answer depends on the aspect ratio
  # True if no point occurs twice in an answer. `predict` uses each point at
  # most once; evaluations decode without this constraint, as the paper does.
  predict_without_repeats = False
  has_stop = True  # False if each answer has as many outputs as points
  allow_collinear = False  # True if points on one line have an answer

  def __init__(
    self, config: ml_collections.ConfigDict, model_config: ModelConfig
  ):
    check_positive(
      config,
      'model.width',
      'data.num_sets',
      'evals.num_sets',
    )
    self.model_config = model_config
    self.data = config.data
    self.evals = config.evals
    check_choice(
      'config.data.distribution',
      self.data.distribution,
      point_sets.DISTRIBUTIONS,
    )
    self.num_points = self.data.num_points
    self.min_points = self.data.min_points or self.num_points
    if self.num_points < 3:
      raise UserError(
        f'config.data.num_points={self.num_points} is too small; use at least 3'
      )
    if not 3 <= self.min_points <= self.num_points:
      raise UserError(
        f'config.data.min_points={self.min_points}: expected at least 3 and at'
        f' most config.data.num_points={self.num_points}'
      )
    if self.evals.set_sizes:
      check_numbers(config, 'evals.set_sizes', least=3)
    if self.evals.beam < 1:
      raise UserError(
        f'config.evals.beam={self.evals.beam} is too small; use at least 1,'
        ' which decodes greedily'
      )

  def label(self, points: np.ndarray) -> np.ndarray:
    """Compute the answer to points [N, 2]: point indices [K, ...]."""
    raise NotImplementedError

  def labels(self, points: np.ndarray) -> list[np.ndarray]:
    """Compute the answers to sets of points [n, N, 2]."""
    return [self.label(one) for one in points]

  def read_answer(self, indices: np.ndarray, num_points: int) -> np.ndarray:
    """Convert the indices of a line of text to an answer as in `label`."""
    raise NotImplementedError

  def num_outputs(self, num_points: int) -> int:
    """Return T, the largest number of outputs, including any stop."""
    raise NotImplementedError

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """Convert an answer to the outputs of the network.

    Args:
      key: random key, for a random order of the outputs.
      points: [N, 2].
      answer: [K, ...], padded with N.

    Returns:
      Point indices. If `has_stop`, the stop N follows, which is also the
      padding.
    """
    raise NotImplementedError

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Compute the metrics of a batch.

    Args:
      model: the network.
      batch: 'points' [B, N, 2]; 'answer' [B, K, ...], padded with N; 'mask'
        [B, N] if the sets differ in size.
    """
    raise NotImplementedError

  def finish(self, points: np.ndarray, outputs: np.ndarray) -> Answer:
    """Convert outputs, without the stop, to the answer to points [N, 2]."""
    raise NotImplementedError

  def is_correct(self, outputs: np.ndarray, answer: np.ndarray) -> bool:
    """Return whether outputs, without the stop, equal an answer."""
    raise NotImplementedError

  def score(
    self, points: np.ndarray, outputs: np.ndarray, answer: np.ndarray
  ) -> Answer:
    """Convert outputs as in `finish`, and compare them with a known answer."""
    finished = self.finish(points, outputs)
    return finished._replace(is_correct=self.is_correct(outputs, answer))

  def make_model(self, rngs: nnx.Rngs) -> SetToSequence:
    """Build the network, which reads points [B, N, 2]."""
    config = self.model_config
    return SetToSequence(
      2,
      config.width,
      encoder=config.encoder,
      num_process_steps=config.num_process_steps,
      num_glimpses=config.num_glimpses,
      has_stop=self.has_stop,
      rngs=rngs,
    )

  def arrays(
    self, split: str, num_points: int | None = None
  ) -> dict[str, np.ndarray]:
    """Sample the sets of a split, and compute their answers.

    Args:
      split: 'train', 'validation', or 'test'.
      num_points: size of all sets; by default, the config gives the range.

    Returns:
      'points' float32 [n, N, 2], in the order in which the network reads them;
      'answer' [n, K, ...], padded with N; 'mask' [n, N], False for padding, if
      the sets may differ in size.
    """
    low, high = self.min_points, self.num_points
    if num_points is not None:
      low = high = num_points
    count = self.data.num_sets if split == 'train' else self.evals.num_sets
    rng = np.random.default_rng(_SEEDS[split])
    points = point_sets.draw(rng, count, high, self.data.distribution)
    sizes = np.full(count, high)
    if low < high:
      sizes = rng.integers(low, high, count, endpoint=True)
    mask = np.arange(high) < sizes[:, None]
    points = np.where(mask[..., None], points, 0)
    answers = [np.empty(0, int)] * count
    for size in np.unique(sizes):
      rows = np.flatnonzero(sizes == size)
      sets = points[rows, :size]
      order = point_sets.input_order(sets, self.model_config.inputs)
      sets = np.take_along_axis(sets, order[..., None], 1)
      points[rows, :size] = sets
      for row, answer in zip(rows, self.labels(sets), strict=True):
        answers[row] = answer
    columns = {
      'points': points,
      'answer': point_sets.pad_answers(answers, high),
    }
    return columns | {'mask': mask} if low < high else columns

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample sets and their orders.

    Returns:
      'points' [B, N, 2], 'targets' [B, T], and any 'mask' [B, N].
    """
    del step
    row_key, key = jax.random.split(key)
    row = jax.random.randint(row_key, (size,), 0, len(arrays['points']))
    sets = {name: column[row] for name, column in arrays.items()}
    return jax.vmap(self._arrange)(jax.random.split(key, size), sets)

  def _arrange(self, key: jax.Array, one: Mapping[str, jax.Array]) -> Batch:
    """Apply the input and output orders of the config to one set."""
    points, answer, mask = one['points'], one['answer'], one.get('mask')
    count = len(points)
    order_key, key = jax.random.split(key)
    if self.model_config.inputs == 'random':  # a new order for each draw
      order = jax.random.permutation(order_key, count)
      if mask is not None:  # the padding stays last
        order = order[jnp.argsort(~mask[order])]
      position = jnp.append(jnp.argsort(order), count)  # the stop stays last
      points, answer = points[order], position[answer]
    answer = answer.astype(jnp.int32)
    arranged = {'points': points, 'targets': self.targets(key, points, answer)}
    return arranged if mask is None else arranged | {'mask': mask}

  def loss(
    self, model: SetToSequence, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return -log p of all outputs and any stop in nats, averaged over sets."""
    del key
    targets, count = batch['targets'], batch['points'].shape[1]
    logits = model(batch['points'], targets, batch.get('mask'))
    is_output = jnp.cumsum(targets == count, 1) <= int(self.has_stop)
    losses = jnp.where(is_output, layers.cross_entropy(logits, targets), 0)
    is_right = ((logits.argmax(-1) == targets) | ~is_output).all(1)
    return losses.sum(1).mean(), {
      'accuracy_given_prefix': Metric.mean(is_right)
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """Return the evaluators.

    They are 'validation', 'test', one for each of `evals.set_sizes`, such as
    'test_10_points', and 'source' if the config names a file.
    """
    evaluators = split_evaluators(self.evals, self.arrays, self.measure)
    for size in self.evals.set_sizes:
      evaluators[f'test_{size}_points'] = dataclasses.replace(
        evaluators['test'],
        arrays=functools.partial(self.arrays, 'test', size),
      )
    if self.evals.source:
      evaluators['source'] = Evaluator(
        arrays=lambda: point_sets.load(
          self.evals.source,
          self.read_answer,
          self.model_config.inputs,
          distribution=self.data.distribution,
          keep_angles=self.keep_angles,
          allow_collinear=self.allow_collinear,
        ),
        measure=self.measure,
        batch_size=self.evals.batch_size,
        every=0,
      )
    return evaluators

  def decode(
    self, model: SetToSequence, batch: Batch, *, avoid_repeats: bool = False
  ) -> Int[Array, 'B T']:
    """Decode the outputs for a batch of an evaluator."""
    outputs, _ = model.decode(
      batch['points'],
      mask=batch.get('mask'),
      length=self.num_outputs(batch['points'].shape[1]),
      avoid_repeats=avoid_repeats,
      beam=self.evals.beam,
    )
    return outputs

  def predict(
    self, model: SetToSequence, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answer lines in the format of `point_sets`.

    Lines that carry an answer are scored.
    """
    decode = self._make_decoder(model)

    def answer_line(line: str) -> Answer:
      points, indices = point_sets.parse(
        line, allow_collinear=self.allow_collinear
      )
      if indices is None:
        return self.finish(points, decode(points))
      truth = self.read_answer(indices, len(points))
      return self.score(points, decode(points), truth)

    return answer_lines(lines, answer_line)

  def _make_decoder(
    self, model: SetToSequence
  ) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps points [N, 2] to outputs without the stop."""
    graphdef, params = nnx.split(model)

    @jax.jit
    def decode(params, points, mask):
      return self.decode(
        nnx.merge(graphdef, params),
        {'points': points[None], 'mask': mask[None]},
        avoid_repeats=self.predict_without_repeats,
      )[0]

    def decode_points(points: np.ndarray) -> np.ndarray:
      points = point_sets.rescale(
        points, self.data.distribution, keep_angles=self.keep_angles
      )
      order = point_sets.input_order(points, self.model_config.inputs)
      count = len(points)
      length = padding.padded_length(count)
      padded = np.zeros((length, 2), np.float32)
      padded[:count] = points[order]
      outputs = np.asarray(decode(params, padded, np.arange(length) < count))
      if not self.has_stop:
        outputs = outputs[:count]
      is_output = np.cumsum(outputs == length) == 0
      return order[outputs[is_output]]

    return decode_points
