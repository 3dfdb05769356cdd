"""Tasks whose sets are points, and whose answers point at them.

What an experiment adds to `PointTask` is what an answer is.

Axes: B batch, N points, T outputs.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Int
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import point_sets, read_process_write
from seq2set.read_process_write import SetToSequence

_SEEDS = {'train': 0, 'validation': 1, 'test': 2}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes, and the order of the input.

  Attributes:
    encoder: one of `read_process_write.ENCODERS`.
    width: of memories and states.
    num_process_steps: P; the Pointer Network has none.
    num_glimpses: before each output.
    inputs: 'random', or by 'angle' around the mean of the points.
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
  """All of `core.task.Task` but what an answer is: the methods that raise."""

  keep_angles = False  # an answer changes where the axes are not scaled alike
  avoid_repeats = False  # no point is twice in an answer of `predict`
  failure = ''  # of the answers that `predict` warns of: '3 of 9 answers ...'

  def __init__(
    self, config: ml_collections.ConfigDict, model_config: ModelConfig
  ):
    self.model_config = model_config
    self.data = config.data
    self.evals = config.evals
    check_choice(
      'config.data.distribution',
      self.data.distribution,
      point_sets.DISTRIBUTIONS,
    )
    if self.data.num_points < 3:
      raise UserError(
        f'config.data.num_points={self.data.num_points}: at least 3 expected'
      )
    if self.evals.beam < 1:
      raise UserError(
        f'config.evals.beam={self.evals.beam}: at least 1, which is greedy,'
        ' expected'
      )

  def label(self, points: np.ndarray) -> np.ndarray:
    """The answer to points [N, 2]: indices, in any shape with a first axis."""
    raise NotImplementedError

  def read_answer(self, indices: np.ndarray) -> np.ndarray:
    """An answer, as of `label`, from the indices of a line of text."""
    raise NotImplementedError

  def num_outputs(self, num_points: int) -> int:
    """T, with the stop."""
    raise NotImplementedError

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """What to write, then N; `answer` is filled up with N."""
    raise NotImplementedError

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Measures 'points' [B, N, 2], 'answer' and, of sets of any size, 'mask'.

    All else in the answer is N.
    """
    raise NotImplementedError

  def finish(self, outputs: np.ndarray) -> tuple[np.ndarray, bool]:
    """The indices to print for those written, and whether nothing is wrong."""
    raise NotImplementedError

  def make_model(self, rngs: nnx.Rngs) -> SetToSequence:
    """Builds the network, which reads points [B, N, 2] and can stop."""
    config = self.model_config
    return SetToSequence(
      2,
      config.width,
      encoder=config.encoder,
      num_process_steps=config.num_process_steps,
      num_glimpses=config.num_glimpses,
      has_stop=True,
      rngs=rngs,
    )

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """'points' float32 [n, N, 2] in the input's order, 'answer' [n, ...]."""
    is_train = split == 'train'
    points = point_sets.draw(
      np.random.default_rng(_SEEDS[split]),
      self.data.num_sets if is_train else self.evals.num_sets,
      self.data.num_points,
      self.data.distribution,
    )
    order = point_sets.input_order(points, self.model_config.inputs)
    points = np.take_along_axis(points, order[..., None], 1)
    answers = [self.label(one) for one in points]
    return {
      'points': points,
      'answer': point_sets.pad_answers(answers, self.data.num_points),
    }

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws sets and orders: 'points' [B, N, 2] and 'targets' [B, T]."""
    del step
    row_key, key = jax.random.split(key)
    row = jax.random.randint(row_key, (size,), 0, len(arrays['points']))
    return jax.vmap(self._arrange)(
      jax.random.split(key, size), arrays['points'][row], arrays['answer'][row]
    )

  def _arrange(self, key, points, answer) -> Batch:
    """One set in the orders that the config asks for."""
    count = len(points)
    order_key, key = jax.random.split(key)
    if self.model_config.inputs == 'random':  # a new one each time
      order = jax.random.permutation(order_key, count)
      place = jnp.append(jnp.argsort(order), count)  # of each point; stop: last
      points, answer = points[order], place[answer]
    answer = answer.astype(jnp.int32)
    return {'points': points, 'targets': self.targets(key, points, answer)}

  def loss(
    self, model: SetToSequence, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """-log p of the outputs and one stop, the mean over sets, in nats."""
    del key
    targets, count = batch['targets'], batch['points'].shape[1]
    logits = model(batch['points'], targets)
    is_output = jnp.cumsum(targets == count, 1) <= 1
    losses = layers.cross_entropy(logits, targets) * is_output
    is_right = ((logits.argmax(-1) == targets) | ~is_output).all(1)
    return losses.sum(1).mean(), {
      'accuracy_given_prefix': Metric.mean(is_right)
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """'validation' while training; 'test', and 'source', a file, by eval."""
    evaluators = split_evaluators(self.evals, self.arrays, self.measure)
    if self.evals.source:
      evaluators['source'] = Evaluator(
        arrays=lambda: point_sets.load(
          self.evals.source, self.read_answer, self.model_config.inputs
        ),
        measure=self.measure,
        batch_size=self.evals.batch_size,
        every=0,
      )
    return evaluators

  def decode(self, model: SetToSequence, batch: Batch) -> Int[Array, 'B T']:
    """What the network writes for a batch that is measured."""
    outputs, _ = model.decode(
      batch['points'],
      mask=batch.get('mask'),
      length=self.num_outputs(batch['points'].shape[1]),
      beam=self.evals.beam,
    )
    return outputs

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Figure]:
    """No figures."""
    del values, model
    return {}

  def predict(
    self, model: SetToSequence, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answers lines of points in the text format of `point_sets`.

    A warning counts the answers in which something is wrong.
    """
    graphdef, params = nnx.split(model)

    @jax.jit
    def decode(params, points, mask):
      outputs, _ = nnx.merge(graphdef, params).decode(
        points[None],
        mask=mask[None],
        length=self.num_outputs(len(points)),
        avoid_repeats=self.avoid_repeats,
        beam=self.evals.beam,
      )
      return outputs[0]

    wrong = total = 0
    for line in lines:
      try:
        points, _ = point_sets.parse(line)
      except UserError as error:
        yield error
        continue
      points = point_sets.rescale(
        points, self.data.distribution, keep_angles=self.keep_angles
      )
      order = point_sets.input_order(points, self.model_config.inputs)
      count = len(points)
      length = 1 << (count - 1).bit_length()  # few sizes, few compilations
      padded = np.zeros((length, 2), np.float32)
      padded[:count] = points[order]
      outputs = np.asarray(decode(params, padded, np.arange(length) < count))
      is_written = np.cumsum(outputs == length) == 0
      indices, is_good = self.finish(order[outputs[is_written]])
      total += 1
      wrong += not is_good
      yield point_sets.format_answer(indices)
    if wrong:
      logging.warning('%d of %d answers %s', wrong, total, self.failure)
