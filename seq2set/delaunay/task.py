"""The Delaunay task: does the order of the triangles matter?

`predict` reads one set per line, `x1 y1 x2 y2 ...`, and prints the corners of
one triangle at a time. `seq2set.point_sets` describes the format.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Int

from core.answers import Answer
from core.errors import check_choice
from core.metrics import Metric
from core.task import Batch, Metrics
from seq2set import point_sets, point_task
from seq2set.delaunay import data
from seq2set.read_process_write import SetToSequence

OUTPUTS = 'incenter', 'random'  # order of the triangles


@dataclasses.dataclass(frozen=True)
class ModelConfig(point_task.ModelConfig):
  """Sizes and orders.

  Attributes:
    outputs: the order of the triangles: 'incenter' sorts them by the x
      coordinate of their incenters; 'random' samples an order with each set.
  """

  outputs: str = 'incenter'

  def __post_init__(self):
    super().__post_init__()
    if self.outputs == 'incentre':  # in older run folders
      object.__setattr__(self, 'outputs', 'incenter')
    check_choice('config.model.outputs', self.outputs, OUTPUTS)


def make_task(config: ml_collections.ConfigDict) -> 'DelaunayTask':
  """Build the task from its config."""
  return DelaunayTask(config)


class DelaunayTask(point_task.PointTask):
  """Vinyals et al. 2016, section 5.1.3. Implements `core.task.Task`."""

  keep_angles = True  # so that circles stay circles

  def __init__(self, config: ml_collections.ConfigDict):
    model_config = ModelConfig(**config.model)
    super().__init__(config, model_config)
    self.outputs = model_config.outputs

  def label(self, points: np.ndarray) -> np.ndarray:
    """Compute the triangles [K, 3]."""
    return data.triangulate(points)

  def read_answer(self, indices: np.ndarray, num_points: int) -> np.ndarray:
    """Convert the indices of a line to triangles [K, 3]."""
    del num_points
    return data.from_indices(indices)

  def num_outputs(self, num_points: int) -> int:
    """Return 3 outputs for each possible triangle, plus one stop."""
    return 3 * data.max_triangles(num_points) + 1

  def targets(
    self, key: jax.Array, points: jax.Array, answer: jax.Array
  ) -> Int[Array, ' T']:
    """Arrange the triangles in the order that the config selects.

    For the Pointer Network, the corners of a triangle are sorted by index. The
    other encoders do not see indices, so their corners are sorted from left to
    right.
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
    """Compute the share of exact triangulations and of triangles found."""
    answer, weight = batch['answer'], batch['weight']
    count = batch['points'].shape[1]
    outputs = self.decode(model, batch)
    found, is_exact = compare(outputs, answer, count)
    is_triangle = answer[..., 0] < count
    return {
      'accuracy': Metric.mean(is_exact, weight),
      'coverage': Metric.mean(
        found,
        jnp.where(is_triangle, weight[:, None], 0),
        is_independent=False,
      ),
    }

  def finish(self, points: np.ndarray, outputs: np.ndarray) -> Answer:
    """Keep each triangle once, and drop outputs that are not triangles."""
    triangles = _distinct_triangles(outputs)
    text = point_sets.format_answer(triangles.ravel())
    failures = [data.find_failure(points, triangles)]
    if num_dropped := len(outputs) - triangles.size:
      failures.append(
        f'leaves out {num_dropped} outputs that are not new triangles'
      )
    return Answer(text, ' and '.join(filter(None, failures)))

  def is_correct(self, outputs: np.ndarray, answer: np.ndarray) -> bool:
    """Return whether the outputs are exactly the triangles, in any order."""
    triangles = _distinct_triangles(outputs)
    return triangles.size == len(outputs) and data.is_same_triangulation(
      triangles, answer
    )


def _distinct_triangles(outputs: np.ndarray) -> np.ndarray:
  """Return the triples of outputs that are triangles [K, 3], each once."""
  triples = np.sort(outputs[: len(outputs) // 3 * 3].reshape(-1, 3), 1)
  triples = triples[(np.diff(triples) > 0).all(1)]
  _, first = np.unique(triples, axis=0, return_index=True)
  return triples[np.sort(first)]


def compare(
  outputs: Int[Array, 'B T'], answer: Int[Array, 'B K 3'], count: int
) -> tuple[Bool[Array, 'B K'], Bool[Array, ' B']]:
  """Compare outputs with triangulations.

  Args:
    outputs: three corners per triangle, in any order, until the first stop.
    answer: the true triangles, padded with `count`.
    count: N, the number of points, which is also the stop.

  Returns:
    Whether each true triangle is among the outputs, and whether the outputs
    consist of all true triangles, each exactly once.
  """
  is_corner = jnp.cumsum(outputs == count, 1) == 0
  end = outputs.shape[1] // 3 * 3
  triples = outputs[:, :end].reshape(len(outputs), -1, 3)
  is_triple = is_corner[:, 2:end:3]  # the third corner precedes the stop

  def code(triangles):
    """Encode each triangle as a number that ignores the order of corners."""
    a, b, c = jnp.moveaxis(jnp.sort(triangles.astype(jnp.int32)), -1, 0)
    return (a * (count + 1) + b) * (count + 1) + c

  true, predicted = code(answer), jnp.where(is_triple, code(triples), -1)
  is_triangle = answer[..., 0] < count
  found = (true[:, :, None] == predicted[:, None]).any(2) & is_triangle
  num_triangles = is_triangle.sum(1)
  is_exact = found.sum(1) == num_triangles
  return found, is_exact & (is_corner.sum(1) == 3 * num_triangles)
