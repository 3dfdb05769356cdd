"""Convex hulls as a task: does the order of input and output matter?

`predict` reads points, `x1 y1 x2 y2 ...`, one set a line, and answers with the
corners of their hull: `seq2set.convex_hull.data` has the format.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import read_process_write
from seq2set.convex_hull import data
from seq2set.read_process_write import SetToSequence

INPUTS = 'random', 'angle'  # order of the points
STARTS = 'lowest', 'leftmost', 'random'  # first corner; random: either way
_SEEDS = {'train': 0, 'validation': 1, 'test': 2}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and orders.

  Attributes:
    encoder: 'read_process_write' or 'pointer_network'.
    width: of memories and states.
    num_process_steps: P; the Pointer Network has none.
    num_glimpses: before each output.
    inputs: 'random', or by 'angle' around the mean of the points.
    start: 'lowest', the corner of the lowest index, counter-clockwise;
      'leftmost', that of the smallest x: with random inputs Read, Process and
      Write, which sees no indices, cannot know the lowest; or 'random', any
      corner and either way round, in training.
  """

  encoder: str = 'pointer_network'
  width: int = 256
  num_process_steps: int = 10
  num_glimpses: int = 1
  inputs: str = 'random'
  start: str = 'lowest'

  def __post_init__(self):
    known = {
      'encoder': read_process_write.ENCODERS,
      'inputs': INPUTS,
      'start': STARTS,
    }
    for name, choices in known.items():
      check_choice(f'config.model.{name}', getattr(self, name), choices)


def make_task(config: ml_collections.ConfigDict) -> 'ConvexHullTask':
  """Builds the task from its config."""
  return ConvexHullTask(config)


class ConvexHullTask:
  """Vinyals et al. 2016, sections 4.1, 5.1.3. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    check_choice(
      'config.data.distribution', self.data.distribution, data.DISTRIBUTIONS
    )
    if self.data.num_points < 3:
      raise UserError(
        f'config.data.num_points={self.data.num_points}: a hull needs at least'
        ' 3 points'
      )

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
    """Sets of points and their hulls, as `data.draw` makes them."""
    is_train = split == 'train'
    count = self.data.num_sets if is_train else self.evals.num_sets
    rng = np.random.default_rng(_SEEDS[split])
    return data.draw(rng, count, self.data.num_points, self.data.distribution)

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws sets, and the orders of their points and corners.

    'points' [B, N, 2] and 'targets' [B, M + 1]: corners, then N to stop.
    """
    del step
    row_key, key = jax.random.split(key)
    row = jax.random.randint(row_key, (size,), 0, len(arrays['points']))
    chosen = {name: column[row] for name, column in arrays.items()}
    arrange = functools.partial(self._arrange, start=self.model_config.start)
    return jax.vmap(arrange)(jax.random.split(key, size), chosen)

  def _arrange(self, key: jax.Array, chosen: Batch, *, start: str) -> Batch:
    """One set in the orders that the config asks for."""
    points, hull = chosen['points'], chosen['hull']
    count, num_corners = len(points), chosen['num_corners'].astype(jnp.int32)
    order_key, shift_key, turn_key = jax.random.split(key, 3)
    if self.model_config.inputs == 'random':
      order = jax.random.permutation(order_key, count)
    else:
      order = jnp.argsort(_angles(points))
    place = jnp.append(jnp.argsort(order), count)  # of each point; stop: last
    corners = place[hull]
    if start == 'lowest':
      shift, turns = corners.argmin(), False
    elif start == 'leftmost':
      x = jnp.append(points[:, 0], jnp.inf)  # inf: where no corner is
      shift, turns = x[hull].argmin(), False
    else:
      shift = jax.random.randint(shift_key, (), 0, num_corners)
      turns = jax.random.bernoulli(turn_key)
    k = jnp.arange(len(hull) + 1)
    index = (shift + jnp.where(turns, -k, k)) % num_corners
    targets = jnp.where(k < num_corners, corners[index], count)
    return {'points': points[order], 'targets': targets}

  def loss(
    self, model: SetToSequence, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """-log p of the corners and one stop, the mean over sets, in nats."""
    del key
    targets, count = batch['targets'], self.data.num_points
    logits = model(batch['points'], targets)
    is_output = jnp.cumsum(targets == count, 1) <= 1
    losses = layers.cross_entropy(logits, targets) * is_output
    is_right = ((logits.argmax(-1) == targets) | ~is_output).all(1)
    return losses.sum(1).mean(), {
      'accuracy_given_prefix': Metric.mean(is_right)
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """'validation' while training, 'test' by eval."""
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Sets in the input order that the config asks for, from the lowest."""
    columns = jax.tree.map(jnp.asarray, self.arrays(split))
    keys = jax.random.split(jax.random.key(0), len(columns['points']))
    arrange = jax.vmap(functools.partial(self._arrange, start='lowest'))
    return jax.tree.map(np.asarray, jax.jit(arrange)(keys, columns))

  def _measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Exact hulls, from any corner and either way; their area; valid ones."""
    points, targets, weight = batch['points'], batch['targets'], batch['weight']
    count = points.shape[1]
    outputs, _ = model.decode(points, length=count + 1)
    is_simple = is_simple_polygon(points, outputs)
    covered = jnp.abs(area(points, outputs)) / area(points, targets)
    return {
      'accuracy': Metric.mean(same_cycle(outputs, targets, count), weight),
      'area': Metric.mean(covered, weight * is_simple, is_independent=False),
      'simple': Metric.mean(is_simple, weight),
    }

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Figure]:
    """No figures."""
    del values, model
    return {}

  def predict(
    self, model: SetToSequence, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answers a set of points with its hull, in `data`'s text format.

    No point is taken twice; a warning counts answers of less than 3 corners.
    """
    graphdef, params = nnx.split(model)

    @jax.jit
    def decode(params, points, mask):
      outputs, _ = nnx.merge(graphdef, params).decode(
        points[None],
        mask=mask[None],
        length=len(points) + 1,
        avoid_repeats=True,
      )
      return outputs[0]

    short = total = 0
    for line in lines:
      try:
        points, _ = data.parse(line)
      except UserError as error:
        yield error
        continue
      points, count = data.spread(points, self.data.distribution), len(points)
      order = np.arange(count)
      if self.model_config.inputs == 'angle':
        order = np.argsort(_angles(jnp.asarray(points)))
      length = 1 << (count - 1).bit_length()  # few sizes, few compilations
      padded = np.zeros((length, 2), np.float32)
      padded[:count] = points[order]
      outputs = np.asarray(decode(params, padded, np.arange(length) < count))
      corners = order[outputs[outputs < count]]
      total += 1
      short += len(corners) < 3
      if len(corners):
        corners = np.roll(corners, -corners.argmin())
      yield data.format_hull(corners)
    if short:
      logging.warning('%d of %d answers have no 3 corners', short, total)


def _angles(points: Float[Array, 'N 2']) -> Float[Array, ' N']:
  """Around the mean of the points, from -pi to pi."""
  x, y = (points - points.mean(0)).T
  return jnp.arctan2(y, x)


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
