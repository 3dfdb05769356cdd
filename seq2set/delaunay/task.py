"""Delaunay triangulations as a task: does the order of the triangles matter?

`predict` reads points, `x1 y1 x2 y2 ...`, one set a line, and answers with the
corners of triangle after triangle: `seq2set.point_sets` has the format.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Int

from core.errors import check_choice
from core.metrics import Metric
from core.task import Batch, Metrics
from seq2set import point_task
from seq2set.delaunay import data
from seq2set.read_process_write import SetToSequence

OUTPUTS = 'incentre', 'random'  # order of the triangles


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    outputs: the order of the triangles, by their 'incentre', from left to
      right, or 'random' each time that a set is drawn.
  """

  outputs: str = 'incentre'

  def __post_init__(self):
    super().__post_init__()
    check_choice('config.model.outputs', self.outputs, OUTPUTS)


def make_task(config: ml_collections.ConfigDict) -> 'DelaunayTask':
  """Builds the task from its config."""
  return DelaunayTask(config)


class DelaunayTask(point_task.PointTask):
  """Vinyals et al. 2016, section 5.1.3. Implements `core.task.Task`."""

  keep_angles = True  # circles stay circles
  failure = 'had no triangle, or more than triangles, which is left out'

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.outputs = model_config.outputs

  def label(self, points: np.ndarray) -> np.ndarray:
    """The triangles [K, 3]."""
    return data.triangulate(points)

  def read_answer(self, indices: np.ndarray) -> np.ndarray:
    """The triangles of a line."""
    return data.read(indices)

  def num_outputs(self, num_points: int) -> int:
    """Those of the most triangles there are, and the stop."""
    return 3 * data.max_triangles(num_points) + 1

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """The triangles in the order that the config asks for.

    The corners of each are in the order of their indices, or, as Read, Process
    and Write sees no indices, from left to right.
    """
    count = len(points)
    rank = jnp.arange(count + 1.0)
    if self.model_config.encoder != 'pointer_network':
      rank = jnp.append(points[:, 0], jnp.inf)
    order = jnp.argsort(rank[answer], 1)
    triangles = jnp.take_along_axis(answer, order, 1)
    if self.outputs == 'random':
      is_triangle = triangles[:, 0] < count
      rank = jax.random.uniform(key, is_triangle.shape)
      triangles = triangles[jnp.argsort(jnp.where(is_triangle, rank, 1))]
    return jnp.append(triangles, count)

  def measure(self, model: SetToSequence, batch: Batch) -> Metrics:
    """Exact triangulations, in any order; the share of the triangles found."""
    answer, weight = batch['answer'], batch['weight']
    count = batch['points'].shape[1]
    outputs = self.decode(model, batch)
    found, is_exact = compare(outputs, answer, count)
    is_triangle = answer[..., 0] < count
    return {
      'accuracy': Metric.mean(is_exact, weight),
      'coverage': Metric.mean(
        found, weight[:, None] * is_triangle, is_independent=False
      ),
    }

  def finish(self, outputs: np.ndarray) -> tuple[np.ndarray, bool]:
    """The triangles, each once; whether all that was written is in them."""
    triples = np.sort(outputs[: len(outputs) // 3 * 3].reshape(-1, 3), 1)
    triples = triples[(np.diff(triples) > 0).all(1)]
    _, first = np.unique(triples, axis=0, return_index=True)
    indices = triples[np.sort(first)].ravel()
    return indices, 0 < len(indices) == len(outputs)


def compare(
  outputs: Int[Array, 'B T'], answer: Int[Array, 'B K 3'], count: int
) -> tuple[Bool[Array, 'B K'], Bool[Array, ' B']]:
  """Which triangles of the answers are there, and whether they are all.

  Args:
    outputs: three corners a triangle, in any order, until `count` stops them.
    answer: beyond its triangles it is `count`.
    count: N, of the points.

  Returns:
    Whether each triangle is found, and whether all are and nothing else is
    written, nor anything twice.
  """
  is_written = jnp.cumsum(outputs == count, 1) == 0
  end = outputs.shape[1] // 3 * 3
  triples = outputs[:, :end].reshape(len(outputs), -1, 3)
  is_triple = is_written[:, 2:end:3]  # and so are the two before

  def code(triangles):
    """One number for each triangle, whatever the order of its corners."""
    a, b, c = jnp.moveaxis(jnp.sort(triangles.astype(jnp.int32)), -1, 0)
    return (a * (count + 1) + b) * (count + 1) + c

  true, ours = code(answer), jnp.where(is_triple, code(triples), -1)
  is_triangle = answer[..., 0] < count
  found = (true[:, :, None] == ours[:, None]).any(2) & is_triangle
  num_triangles = is_triangle.sum(1)
  is_exact = found.sum(1) == num_triangles
  return found, is_exact & (is_written.sum(1) == 3 * num_triangles)
