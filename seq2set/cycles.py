"""Closed cycles of points, such as convex hulls and tours.

A cycle is an array of the indices of its corners, each once. The first corner
follows the last one. In text, the first corner is repeated at the end.

Axes: B batch, N points, K corners, T outputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from core.errors import UserError

STARTS = 'lowest', 'leftmost', 'random'  # the first corner, see `arrange`


def start_at_lowest_index(corners: np.ndarray) -> np.ndarray:
  """Rotate a cycle of corners [K] so that it starts at the lowest index."""
  return np.roll(corners, -corners.argmin())


def from_closed_cycle(indices: np.ndarray) -> np.ndarray:
  """Convert the indices [K + 1] of a line of text to a cycle [K].

  Returns:
    The cycle, which starts at its lowest index.

  Raises:
    UserError: the cycle is not closed, or contains a point twice.
  """
  if len(indices) < 4 or indices[0] != indices[-1]:
    raise UserError(
      'output: expected at least 3 points, then the first point again'
    )
  corners = indices[:-1]
  if len(set(corners)) < len(corners):
    raise UserError(
      'output: a point occurs twice; expected each point once, and only the'
      ' first point again at the end'
    )
  return start_at_lowest_index(corners)


def to_closed_cycle(corners: np.ndarray) -> list[int]:
  """Convert a cycle [K] to the indices of a line of text, from the lowest."""
  corners = start_at_lowest_index(corners)
  return [*corners, corners[0]]


def is_same_cycle(corners: np.ndarray, other: np.ndarray) -> bool:
  """Return whether two cycles are equal up to their start and direction."""
  other = start_at_lowest_index(other)
  directions = (
    start_at_lowest_index(corners),
    start_at_lowest_index(corners[::-1]),
  )
  return any(np.array_equal(one, other) for one in directions)


def arrange(
  key: jax.Array,
  points: Float[Array, 'N 2'],
  corners: Int[Array, ' K'],
  start: str,
) -> Int[Array, ' T']:
  """Arrange a cycle from the first corner that `start` selects.

  Args:
    key: random key, for the start 'random'.
    points: the points of the set.
    corners: a counterclockwise cycle, padded with N.
    start: one of `STARTS`. 'lowest' is the corner with the lowest index.
      'leftmost' is the corner with the smallest x, for encoders that do not see
      indices. Both continue counterclockwise. 'random' samples the first corner
      and the direction.

  Returns:
    T = K + 1 outputs: the corners, followed by the stop N, which is also the
    padding.
  """
  count, num_corners = len(points), (corners < len(points)).sum()
  is_clockwise = False
  if start == 'lowest':
    shift = corners.argmin()
  elif start == 'leftmost':
    x = jnp.append(points[:, 0], jnp.inf)  # inf for padding
    shift = x[corners].argmin()
  else:
    shift_key, direction_key = jax.random.split(key)
    shift = jax.random.randint(shift_key, (), 0, num_corners)
    is_clockwise = jax.random.bernoulli(direction_key)
  k = jnp.arange(len(corners) + 1)
  index = (shift + jnp.where(is_clockwise, -k, k)) % num_corners
  return jnp.where(k < num_corners, corners[index], count)


def corners_and_successors(
  outputs: Int[Array, 'B T'], count: int
) -> tuple[Bool[Array, 'B T'], Int[Array, 'B T']]:
  """Return whether each output is a corner, and the corner after it.

  Outputs before the first stop are corners. The first corner follows the last
  one.

  Args:
    outputs: corners until the first stop, if there is one.
    count: N, the number of points, which is also the stop.
  """
  is_corner = jnp.cumsum(outputs == count, 1) == 0
  following = jnp.roll(outputs, -1, 1)
  is_last = is_corner & ~jnp.roll(is_corner, -1, 1).at[:, -1].set(False)
  return is_corner, jnp.where(is_last, outputs[:, :1], following)


def edge_ends(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> tuple[Bool[Array, 'B T'], Float[Array, 'B T 2'], Float[Array, 'B T 2']]:
  """Return whether each output is a corner, and both ends of the edge after it.

  Args:
    points: the points of each set.
    outputs: corners until the first stop N, if there is one.
  """
  count = points.shape[1]
  is_corner, following = corners_and_successors(outputs, count)

  def gather(index):
    index = jnp.minimum(index, count - 1)
    return jnp.take_along_axis(points, index[..., None], 1)

  return is_corner, gather(outputs), gather(following)


def signed_area(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Float[Array, ' B']:
  """Compute the signed area of polygons, positive if counterclockwise.

  Args:
    points: the points of each set.
    outputs: corners until the first stop N, if there is one.
  """
  is_corner, a, b = edge_ends(points, outputs)
  cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
  return jnp.where(is_corner, cross, 0).sum(1) / 2


def cycle_length(
  points: Float[Array, 'B N 2'], outputs: Int[Array, 'B T']
) -> Float[Array, ' B']:
  """Compute the sum of the lengths of the edges of cycles.

  Args:
    points: the points of each set.
    outputs: corners until the first stop N, if there is one.
  """
  is_corner, a, b = edge_ends(points, outputs)
  length = jnp.sqrt(((a - b) ** 2).sum(-1))
  return jnp.where(is_corner, length, 0).sum(1)


def are_same_cycles(
  outputs: Int[Array, 'B T'], targets: Int[Array, 'B T2'], count: int
) -> Bool[Array, ' B']:
  """Return whether polygons have the same corners in the same cycle.

  The batched version of `is_same_cycle`, for the outputs of a network.

  Args:
    outputs: corners until the first stop, if there is one.
    targets: corners until the first stop; the direction does not matter.
    count: N, the number of points, which is also the stop.
  """

  def edges(outputs):
    is_corner, following = corners_and_successors(outputs, count)
    starts = jax.nn.one_hot(outputs, count + 1)
    starts = jnp.where(is_corner[..., None], starts, 0)
    return jnp.einsum(
      'bti,btj->bij', starts, jax.nn.one_hot(following, count + 1)
    )

  predicted, true = edges(outputs), edges(targets)
  forward = (predicted == true).all((1, 2))
  backward = (predicted == true.swapaxes(1, 2)).all((1, 2))
  return forward | backward
