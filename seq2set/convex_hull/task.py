"""The convex hull task: does the order of the input and the output matter?

`predict` reads one set per line, `x1 y1 x2 y2 ...`, and prints the corners of
its hull. `seq2set.point_sets` describes the format.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from core.answers import Answer
from core.errors import check_choice
from core.metrics import Metric
from core.task import Batch, Metrics
from seq2set import cycles, point_sets, point_task
from seq2set.convex_hull import data
from seq2set.read_process_write import SetToSequence


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    start: the first corner of a target, one of `cycles.STARTS`; see
      `cycles.arrange`.
  """

  start: str = 'lowest'

  def __post_init__(self):
    super().__post_init__()
    check_choice('config.model.start', self.start, cycles.STARTS)


def make_task(config: ml_collections.ConfigDict) -> 'ConvexHullTask':
  """Build the task from its config."""
  return ConvexHullTask(config)


class ConvexHullTask(point_task.PointTask):
  """Vinyals et al. 2016, sections 4.1, 5.1.3. Implements `core.task.Task`."""

  predict_without_repeats = True

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.start = model_config.start

  def label(self, points: np.ndarray) -> np.ndarray:
    """Compute the corners [K] of the hull."""
    return data.convex_hull(points)

  def read_answer(self, indices: np.ndarray, num_points: int) -> np.ndarray:
    """Convert a closed cycle [K + 1] to corners [K]."""
    del num_points
    return cycles.from_closed_cycle(indices)

  def num_outputs(self, num_points: int) -> int:
    """Return the number of points, plus one stop."""
    return num_points + 1

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """Arrange the corners from the first corner that the config selects."""
    return cycles.arrange(key, points, answer, self.start)

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Compute the accuracy, the share of simple polygons, and the area.

    A hull is correct from any corner and in either direction. 'area' is the
    mean area relative to the true area, over simple polygons only.
    """
    points, answer, weight = batch['points'], batch['answer'], batch['weight']
    outputs = self.decode(model, batch)
    is_same = cycles.are_same_cycles(outputs, answer, points.shape[1])
    is_simple = is_simple_polygon(points, outputs)
    predicted, true = (
      jnp.abs(cycles.signed_area(points, x)) for x in (outputs, answer)
    )
    return {
      'accuracy': Metric.mean(is_same, weight),
      'area': Metric.mean(
        predicted / jnp.where(true > 0, true, 1),
        jnp.where(is_simple & (true > 0), weight, 0),
        is_independent=False,
      ),
      'simple': Metric.mean(is_simple, weight),
    }

  def finish(self, points: np.ndarray, outputs: np.ndarray) -> Answer:
    """Start the hull at its lowest index, and close it."""
    failure = data.find_failure(points, outputs)
    if not len(outputs):
      return Answer('', failure)
    text = point_sets.format_answer(cycles.to_closed_cycle(outputs))
    return Answer(text, failure)

  def is_correct(self, outputs: np.ndarray, answer: np.ndarray) -> bool:
    """Return whether the outputs are the corners in the correct cycle."""
    return len(outputs) > 0 and cycles.is_same_cycle(outputs, answer)


def is_simple_polygon(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Bool[Array, ' B']:
  """Return whether polygons are simple: 3 or more corners, and no crossing.

  No corner may occur twice.

  Args:
    points: the points of each set.
    outputs: corners until the first stop N.
  """
  count = points.shape[1]
  is_corner, a, b = cycles.edge_ends(points, outputs)
  used = jax.nn.one_hot(outputs, count)
  used = jnp.where(is_corner[..., None], used, 0).sum(1)
  is_distinct = (used <= 1).all(1) & (is_corner.sum(1) >= 3)

  def side(p, q, r):
    """Return a number that is positive if r is on the left of the line p q."""
    (px, py), (qx, qy), (rx, ry) = (jnp.moveaxis(x, -1, 0) for x in (p, q, r))
    return (qx - px) * (ry - py) - (qy - py) * (rx - px)

  p, q = a[:, :, None], b[:, :, None]
  r, s = a[:, None], b[:, None]
  crosses = (side(p, q, r) * side(p, q, s) < 0) & (
    side(r, s, p) * side(r, s, q) < 0
  )
  both = is_corner[:, :, None] & is_corner[:, None]
  return is_distinct & ~(crosses & both).any((1, 2))
