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
from seq2set import point_sets, point_task
from seq2set.convex_hull import data
from seq2set.read_process_write import SetToSequence

STARTS = 'lowest', 'leftmost', 'random'  # the first corner


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    start: the first corner of a target. 'lowest' is the corner with the lowest
      index; 'leftmost' the corner with the smallest x, for encoders that do not
      see indices. Both continue counterclockwise. 'random' samples the first
      corner and the direction.
  """

  start: str = 'lowest'

  def __post_init__(self):
    super().__post_init__()
    check_choice('config.model.start', self.start, STARTS)


def make_task(config: ml_collections.ConfigDict) -> 'ConvexHullTask':
  """Build the task from its config."""
  return ConvexHullTask(config)


class ConvexHullTask(point_task.PointTask):
  """Vinyals et al. 2016, sections 4.1, 5.1.3. Implements `core.task.Task`."""

  avoid_repeats = True

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.start = model_config.start

  def label(self, points: np.ndarray) -> np.ndarray:
    """Compute the corners [K] of the hull."""
    return data.hull(points)

  def read_answer(self, indices: np.ndarray) -> np.ndarray:
    """Convert a closed cycle to corners."""
    return data.read(indices)

  def num_outputs(self, num_points: int) -> int:
    """Return the number of points, plus one stop."""
    return num_points + 1

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """Arrange the corners from the first corner that the config selects."""
    count, num_corners = len(points), (answer < len(points)).sum()
    turns = False
    if self.start == 'lowest':
      shift = answer.argmin()
    elif self.start == 'leftmost':
      x = jnp.append(points[:, 0], jnp.inf)  # inf for padding
      shift = x[answer].argmin()
    else:
      shift_key, turn_key = jax.random.split(key)
      shift = jax.random.randint(shift_key, (), 0, num_corners)
      turns = jax.random.bernoulli(turn_key)
    k = jnp.arange(len(answer) + 1)
    index = (shift + jnp.where(turns, -k, k)) % num_corners
    return jnp.where(k < num_corners, answer[index], count)

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Compute the share of exact hulls and of simple polygons, and the area.

    A hull counts from any corner and in either direction. 'area' is the share
    of the true area that the outputs cover, over simple polygons alone.
    """
    points, answer, weight = batch['points'], batch['answer'], batch['weight']
    count = points.shape[1]
    outputs = self.decode(model, batch)
    is_simple = is_simple_polygon(points, outputs)
    written, true = (jnp.abs(area(points, x)) for x in (outputs, answer))
    return {
      'accuracy': Metric.mean(same_cycle(outputs, answer, count), weight),
      'area': Metric.mean(
        written / jnp.where(true > 0, true, 1),
        weight * is_simple * (true > 0),
        is_independent=False,
      ),
      'simple': Metric.mean(is_simple, weight),
    }

  def finish(self, points: np.ndarray, outputs: np.ndarray) -> Answer:
    """Close the hull and start it at its lowest index."""
    failure = data.failure(points, outputs)
    if not len(outputs):
      return Answer('', failure)
    corners = data.from_lowest(outputs)
    text = point_sets.format_answer([*corners, corners[0]])
    return Answer(text, failure)

  def is_correct(self, outputs: np.ndarray, answer: np.ndarray) -> bool:
    """Return whether both have the same corners in the same cycle."""
    return len(outputs) > 0 and data.is_same_cycle(outputs, answer)


def _next(
  outputs: Int[Array, 'B T'], count: int
) -> tuple[Bool[Array, 'B T'], Int[Array, 'B T']]:
  """Return which outputs precede the first stop, and the successor of each.

  The successor of the last corner is the first corner.
  """
  is_corner = jnp.cumsum(outputs == count, 1) == 0
  following = jnp.roll(outputs, -1, 1)
  is_last = is_corner & ~jnp.roll(is_corner, -1, 1).at[:, -1].set(False)
  return is_corner, jnp.where(is_last, outputs[:, :1], following)


def area(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Float[Array, ' B']:
  """Return the signed area of a polygon, positive if counterclockwise."""
  count = points.shape[1]
  is_corner, following = _next(outputs, count)
  a, b = (_gather(points, index) for index in (outputs, following))
  cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
  return (cross * is_corner).sum(1) / 2


def _gather(points, index):
  index = jnp.minimum(index, points.shape[1] - 1)
  return jnp.take_along_axis(points, index[..., None], 1)


def same_cycle(
  outputs: Int[Array, 'B T'], targets: Int[Array, 'B T2'], count: int
) -> Bool[Array, ' B']:
  """Return whether two polygons have the same corners in the same cycle.

  Args:
    outputs: corners until the first stop.
    targets: corners until the first stop; the direction does not matter.
    count: N, the number of points, which is also the stop.
  """

  def edges(outputs):
    is_corner, following = _next(outputs, count)
    one_hot = jax.nn.one_hot(outputs, count + 1) * is_corner[..., None]
    return jnp.einsum(
      'bti,btj->bij', one_hot, jax.nn.one_hot(following, count + 1)
    )

  written, true = edges(outputs), edges(targets)
  forward = (written == true).all((1, 2))
  backward = (written == true.swapaxes(1, 2)).all((1, 2))
  return forward | backward


def is_simple_polygon(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Bool[Array, ' B']:
  """Return whether 3 or more distinct corners have no edges that cross."""
  count = points.shape[1]
  is_corner, following = _next(outputs, count)
  used = (jax.nn.one_hot(outputs, count) * is_corner[..., None]).sum(1)
  is_distinct = (used <= 1).all(1) & (is_corner.sum(1) >= 3)
  a, b = (_gather(points, index) for index in (outputs, following))

  def side(p, q, r):
    """Return a number whose sign is the side of the line p q that r is on."""
    (px, py), (qx, qy), (rx, ry) = (jnp.moveaxis(x, -1, 0) for x in (p, q, r))
    return (qx - px) * (ry - py) - (qy - py) * (rx - px)

  p, q = a[:, :, None], b[:, :, None]
  r, s = a[:, None], b[:, None]
  crosses = (side(p, q, r) * side(p, q, s) < 0) & (
    side(r, s, p) * side(r, s, q) < 0
  )
  both = is_corner[:, :, None] & is_corner[:, None]
  return is_distinct & ~(crosses & both).any((1, 2))
