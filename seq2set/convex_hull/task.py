"""Convex hulls as a task: does the order of input and output matter?

`predict` reads points, `x1 y1 x2 y2 ...`, one set a line, and answers with the
corners of their hull: `seq2set.point_sets` has the format.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from core.errors import check_choice
from core.metrics import Metric
from core.task import Batch, Metrics
from seq2set import point_task
from seq2set.convex_hull import data
from seq2set.read_process_write import SetToSequence

STARTS = 'lowest', 'leftmost', 'random'  # first corner; random: either way


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    start: 'lowest', the corner of the lowest index, counter-clockwise;
      'leftmost', that of the smallest x: with random inputs Read, Process and
      Write, which sees no indices, cannot know the lowest; or 'random', any
      corner and either way round, in training.
  """

  start: str = 'lowest'

  def __post_init__(self):
    super().__post_init__()
    check_choice('config.model.start', self.start, STARTS)


def make_task(config: ml_collections.ConfigDict) -> 'ConvexHullTask':
  """Builds the task from its config."""
  return ConvexHullTask(config)


class ConvexHullTask(point_task.PointTask):
  """Vinyals et al. 2016, sections 4.1, 5.1.3. Implements `core.task.Task`."""

  avoid_repeats = True
  failure = 'have no 3 corners'

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.start = model_config.start

  def label(self, points: np.ndarray) -> np.ndarray:
    """The corners [K] of the hull."""
    return data.hull(points)

  def read_answer(self, indices: np.ndarray) -> np.ndarray:
    """The corners of a closed hull."""
    return data.read(indices)

  def num_outputs(self, num_points: int) -> int:
    """All points, and the stop."""
    return num_points + 1

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """The corners from the start that the config asks for."""
    count, num_corners = len(points), (answer < len(points)).sum()
    turns = False
    if self.start == 'lowest':
      shift = answer.argmin()
    elif self.start == 'leftmost':
      x = jnp.append(points[:, 0], jnp.inf)  # inf: where no corner is
      shift = x[answer].argmin()
    else:
      shift_key, turn_key = jax.random.split(key)
      shift = jax.random.randint(shift_key, (), 0, num_corners)
      turns = jax.random.bernoulli(turn_key)
    k = jnp.arange(len(answer) + 1)
    index = (shift + jnp.where(turns, -k, k)) % num_corners
    return jnp.where(k < num_corners, answer[index], count)

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Exact hulls, from any corner and either way; their area; valid ones."""
    points, answer, weight = batch['points'], batch['answer'], batch['weight']
    count = points.shape[1]
    outputs = self.decode(model, batch)
    is_simple = is_simple_polygon(points, outputs)
    ours, true = (jnp.abs(area(points, x)) for x in (outputs, answer))
    return {
      'accuracy': Metric.mean(same_cycle(outputs, answer, count), weight),
      'area': Metric.mean(
        ours / jnp.where(true > 0, true, 1),
        weight * is_simple * (true > 0),
        is_independent=False,
      ),
      'simple': Metric.mean(is_simple, weight),
    }

  def finish(self, outputs: np.ndarray) -> tuple[np.ndarray, bool]:
    """The hull from its lowest index, closed; whether it has 3 corners."""
    if not len(outputs):
      return outputs, False
    corners = data.from_lowest(outputs)
    return np.append(corners, corners[0]), len(corners) >= 3


def _next(
  outputs: Int[Array, 'B T'], count: int
) -> tuple[Bool[Array, 'B T'], Int[Array, 'B T']]:
  """Which outputs are corners, those before the first stop, and the next one.

  The last corner's next one is the first.
  """
  is_corner = jnp.cumsum(outputs == count, 1) == 0
  following = jnp.roll(outputs, -1, 1)
  is_last = is_corner & ~jnp.roll(is_corner, -1, 1).at[:, -1].set(False)
  return is_corner, jnp.where(is_last, outputs[:, :1], following)


def area(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Float[Array, ' B']:
  """The signed area of a polygon, positive if counter-clockwise."""
  count = points.shape[1]
  is_corner, following = _next(outputs, count)
  a, b = (_look_up(points, index) for index in (outputs, following))
  cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
  return (cross * is_corner).sum(1) / 2


def _look_up(points, index):
  index = jnp.minimum(index, points.shape[1] - 1)
  return jnp.take_along_axis(points, index[..., None], 1)


def same_cycle(
  outputs: Int[Array, 'B T'], targets: Int[Array, 'B T2'], count: int
) -> Bool[Array, ' B']:
  """Whether both have the same corners in the same round, either way.

  `count` is N, of the points, and the output that stops.
  """

  def edges(outputs):
    is_corner, following = _next(outputs, count)
    one_hot = jax.nn.one_hot(outputs, count + 1) * is_corner[..., None]
    edges = jnp.einsum(
      'bti,btj->bij', one_hot, jax.nn.one_hot(following, count + 1)
    )
    return edges

  ours, true = edges(outputs), edges(targets)
  forward = (ours == true).all((1, 2))
  backward = (ours == true.swapaxes(1, 2)).all((1, 2))
  return forward | backward


def is_simple_polygon(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Bool[Array, ' B']:
  """Whether the corners, three or more, differ and no two edges cross."""
  count = points.shape[1]
  is_corner, following = _next(outputs, count)
  used = (jax.nn.one_hot(outputs, count) * is_corner[..., None]).sum(1)
  is_distinct = (used <= 1).all(1) & (is_corner.sum(1) >= 3)
  a, b = (_look_up(points, index) for index in (outputs, following))

  def side(p, q, r):
    """Of r, from the line through p and q: its sign tells which."""
    (px, py), (qx, qy), (rx, ry) = (jnp.moveaxis(x, -1, 0) for x in (p, q, r))
    return (qx - px) * (ry - py) - (qy - py) * (rx - px)

  p, q = a[:, :, None], b[:, :, None]
  r, s = a[:, None], b[:, None]
  crosses = (side(p, q, r) * side(p, q, s) < 0) & (
    side(r, s, p) * side(r, s, q) < 0
  )
  both = is_corner[:, :, None] & is_corner[:, None]
  return is_distinct & ~(crosses & both).any((1, 2))
