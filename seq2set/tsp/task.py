"""The tour task: write the shortest tour through all points.

`predict` reads one set per line, `x1 y1 x2 y2 ...`, and prints the points of a
closed tour. `seq2set.point_sets` describes the format.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epy
from jaxtyping import Array, Int

from core.answers import Answer
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Metrics
from seq2set import cycles, point_sets, point_task
from seq2set.read_process_write import SetToSequence
from seq2set.tsp import data

with epy.lazy_imports():  # TensorFlow Datasets is slow to import
  from seq2set.tsp import builder

OUTPUTS = 'fixed', 'random'  # first point and direction of a tour

_MAX_UNCACHED = 10  # points; a million such tours take a minute or two
_TOLERANCE = 1e-9  # relative; lengths that differ by less are equal


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    outputs: the first point and the direction of a tour. 'fixed' tours are
      counterclockwise. They start at the lowest index for the Pointer Network,
      and at the leftmost point for the other encoders, which do not see
      indices. 'random' samples the first point and the direction.
  """

  outputs: str = 'fixed'

  def __post_init__(self):
    super().__post_init__()
    check_choice('config.model.outputs', self.outputs, OUTPUTS)

  @property
  def start(self) -> str:
    """The first point of a target, one of `cycles.STARTS`."""
    if self.outputs == 'random':
      return 'random'
    return 'lowest' if self.encoder == 'pointer_network' else 'leftmost'


def make_task(config: ml_collections.ConfigDict) -> 'TspTask':
  """Build the task from its config."""
  return TspTask(config)


class TspTask(point_task.PointTask):
  """Vinyals et al. 2016, section 5.1.3. Implements `core.task.Task`."""

  keep_angles = True  # so that the shortest tour stays the shortest
  predict_without_repeats = True
  has_stop = False
  allow_collinear = True

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.start = model_config.start

  def labels(self, points: np.ndarray) -> list[np.ndarray]:
    """Return the shortest tours [N] of sets [n, N, 2], computed or cached."""
    if points.shape[1] <= _MAX_UNCACHED:
      return list(data.shortest_tours(points))
    return list(builder.load(points))

  def read_answer(self, indices: np.ndarray, num_points: int) -> np.ndarray:
    """Convert a closed cycle [N + 1] to a tour [N]."""
    tour = cycles.from_closed_cycle(indices)
    if failure := data.find_failure(num_points, tour):
      raise UserError(f'output: the tour {failure}')
    return tour

  def num_outputs(self, num_points: int) -> int:
    """Return the number of points."""
    return num_points

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' N']:
    """Arrange the tour from the first point that the config selects."""
    return cycles.arrange(key, points, answer, self.start)[:-1]

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Compute the accuracy, the share of valid tours, and their lengths.

    'accuracy' and 'valid' use a decoder that may repeat points. A tour is
    correct from any point and in either direction. The lengths use a decoder
    that visits each point once, and are in the unit of the points that the
    network reads. 'excess' is the length relative to the true tour, minus 1.
    """
    points, answer, weight = batch['points'], batch['answer'], batch['weight']
    count = points.shape[1]
    mask = batch.get('mask', jnp.ones(points.shape[:2], bool))
    is_output = jnp.arange(count)[None] < mask.sum(1, keepdims=True)
    outputs, tours = (
      jnp.where(is_output, self.decode(model, batch, avoid_repeats=x), count)
      for x in (False, True)
    )
    visits = jax.nn.one_hot(outputs, count).sum(1)
    length, optimal = (cycles.cycle_length(points, x) for x in (tours, answer))
    is_same = cycles.are_same_cycles(outputs, answer, count)
    metrics = {'length': length, 'optimal_length': optimal}
    metrics['excess'] = length / jnp.where(weight > 0, optimal, 1) - 1
    return {
      'accuracy': Metric.mean(is_same, weight),
      'valid': Metric.mean((visits == mask.astype(jnp.float32)).all(1), weight),
    } | {
      name: Metric.mean(values, weight, is_independent=False)
      for name, values in metrics.items()
    }

  def finish(self, points: np.ndarray, outputs: np.ndarray) -> Answer:
    """Start the tour at its lowest index, and close it."""
    text = point_sets.format_answer(cycles.to_closed_cycle(outputs))
    return Answer(text, data.find_failure(len(points), outputs))

  def score(
    self, points: np.ndarray, outputs: np.ndarray, answer: np.ndarray
  ) -> Answer:
    """Convert outputs as in `finish`, and compare the lengths of the tours."""
    finished = self.finish(points, outputs)
    if finished.failure:
      return finished._replace(is_correct=False)
    length, known = data.tour_lengths(
      np.stack([points, points]), np.stack([outputs, answer])
    )
    change = length / known - 1
    if abs(change) <= _TOLERANCE:
      return finished._replace(is_correct=True)
    word = 'longer' if change > 0 else 'shorter'
    failure = f'is {abs(change):.2%} {word} than the known tour'
    return finished._replace(failure=failure, is_correct=False)
