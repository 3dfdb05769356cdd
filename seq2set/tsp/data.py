"""Shortest tours of points in the plane, in NumPy.

A tour is an array of the indices of all N points in counterclockwise order,
from index 0. The first point follows the last one.

Tours of up to `MAX_EXACT` points are optimal. Tours of more points are the best
of several local optima. An exact solver finds a shorter tour for 1 of 1,000
uniform sets of 13 points, and for 4 of 1,000 sets of 20 points.

Axes: B sets, N points, M = N - 1 points other than point 0.
"""

import numpy as np

MAX_EXACT = 12  # points; each further point doubles the work of `held_karp`

_CHUNK_SIZE = 512  # sets; larger arrays do not fit in the cache of a CPU core
_SEARCHES_PER_POINT = 3  # the shortest result is used
_TOLERANCE = 1e-9  # a smaller change of the length is a rounding error


def shortest_tours(points: np.ndarray) -> np.ndarray:
  """Return tours of sets of points.

  Args:
    points: [B, N, 2], with N of at least 3.

  Returns:
    [B, N], in the smallest unsigned integer type.
  """
  solve = held_karp if points.shape[1] <= MAX_EXACT else local_search
  points = points.astype(float)
  tours = np.empty(points.shape[:2], np.min_scalar_type(points.shape[1]))
  for first in range(0, len(points), _CHUNK_SIZE):
    chunk = slice(first, first + _CHUNK_SIZE)
    tours[chunk] = solve(pairwise_distances(points[chunk]))
  return make_counterclockwise(points, tours)


def pairwise_distances(points: np.ndarray) -> np.ndarray:
  """Return the distances [B, N, N] between the points [B, N, 2] of each set."""
  return np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)


def make_counterclockwise(points: np.ndarray, tours: np.ndarray) -> np.ndarray:
  """Reverse clockwise tours [B, N]; each keeps its first point."""
  x, y = np.moveaxis(np.take_along_axis(points, tours[..., None], 1), -1, 0)
  double_area = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)
  reversed_tours = np.roll(tours[:, ::-1], 1, 1)
  return np.where(double_area[:, None] < 0, reversed_tours, tours)


def tour_lengths(points: np.ndarray, tours: np.ndarray) -> np.ndarray:
  """Return the lengths [B] of tours [B, N] of points [B, N, 2]."""
  ordered = np.take_along_axis(points, tours[..., None], 1)
  return np.linalg.norm(ordered - np.roll(ordered, -1, 1), axis=-1).sum(1)


def find_failure(num_points: int, tour: np.ndarray) -> str:
  """Return why indices are not a tour.

  Args:
    num_points: N.
    tour: point indices [K].

  Returns:
    A verb phrase; '' if no rule is broken.
  """
  num_visited = len(set(tour))
  if num_visited < len(tour):
    return 'visits a point twice'
  if num_visited < num_points:
    return f'leaves out {num_points - num_visited} of {num_points} points'
  return ''


def held_karp(distances: np.ndarray) -> np.ndarray:
  """Compute the shortest tours by dynamic programming (Held and Karp 1962).

  The cost of a subset of the points and an end in this subset is the length of
  the shortest path from point 0 through the whole subset to the end.

  Args:
    distances: [B, N, N].

  Returns:
    Tours [B, N] from point 0, in either direction.
  """
  batch, num_points, _ = distances.shape
  num_others = num_points - 1
  # The axis B is the last one, so each operation reads contiguous memory.
  first = distances[:, 0, 1:].T.copy()  # [M, B]
  between = np.moveaxis(distances[:, 1:, 1:], 0, 2).copy()  # [M, M, B]
  costs = np.full((1 << num_others, num_others, batch), np.inf)
  paths = np.empty((num_others, batch))
  for subset in range(1, 1 << num_others):
    for end in range(num_others):
      rest = subset ^ (1 << end)
      if rest == 0:
        costs[subset, end] = first[end]
      elif rest < subset:  # the subset contains the end
        np.add(costs[rest], between[end], out=paths)
        np.min(paths, axis=0, out=costs[subset, end])
  # Follow the shortest paths backward from point 0.
  tours = np.zeros((batch, num_points), int)
  row = np.arange(batch)
  subset = np.full(batch, (1 << num_others) - 1)
  to_next = first
  for step in range(num_others, 0, -1):
    end = (costs[subset, :, row].T + to_next).argmin(0)
    tours[:, step] = 1 + end
    subset ^= 1 << end
    to_next = between[end, :, row].T
  return tours


def local_search(distances: np.ndarray) -> np.ndarray:
  """Compute short tours: the shortest of 3 N local optima of `two_opt`.

  Each search starts from a tour that `insertion_tours` builds in a random order
  of the points.

  Args:
    distances: [B, N, N].

  Returns:
    Tours [B, N] from point 0, in either direction.
  """
  rng = np.random.default_rng(0)
  batch, num_points, _ = distances.shape
  best = np.zeros((batch, num_points), int)
  best_length = np.full(batch, np.inf)
  indices = np.tile(np.arange(num_points), (batch, 1))
  for _ in range(_SEARCHES_PER_POINT * num_points):
    order = rng.permuted(indices, axis=1)
    tours = two_opt(distances, insertion_tours(distances, order))
    following = np.roll(tours, -1, 1)
    length = _gather_distances(distances, tours, following).sum(1)
    is_better = length < best_length
    best[is_better] = tours[is_better]
    best_length = np.minimum(length, best_length)
  shift = best.argmin(1)[:, None] + np.arange(num_points)
  return np.take_along_axis(best, shift % num_points, 1)


def insertion_tours(distances: np.ndarray, order: np.ndarray) -> np.ndarray:
  """Build tours by inserting one point at a time.

  Each point is inserted where it increases the length of the tour least.

  Args:
    distances: [B, N, N].
    order: the order of the insertions, point indices [B, N].

  Returns:
    Tours [B, N] from any point, in either direction.
  """
  tours = order[:, :3]
  for size in range(3, order.shape[1]):
    point = order[:, size, None]
    following = np.roll(tours, -1, 1)
    to_point = _gather_distances(distances, tours, point)
    detour = to_point + np.roll(to_point, -1, 1)
    detour -= _gather_distances(distances, tours, following)
    place = 1 + detour.argmin(1)[:, None]
    k = np.arange(size + 1)
    source = np.minimum(k - (k > place), size - 1)
    shifted = np.take_along_axis(tours, source, 1)
    tours = np.where(k == place, point, shifted)
  return tours


def two_opt(distances: np.ndarray, tours: np.ndarray) -> np.ndarray:
  """Reverse parts of tours until no reversal shortens them.

  Each step reverses the part that shortens the tour most.

  Args:
    distances: [B, N, N].
    tours: [B, N].

  Returns:
    Tours [B, N] from any point, in either direction.
  """
  tours = tours.copy()
  k = np.arange(tours.shape[1])
  active = np.arange(len(tours))
  while len(active):
    current = tours[active]
    among = distances[active]
    # Entry [i, j] is the change if the points i + 1 to j are reversed.
    pairs = _gather_distances(among, current[:, :, None], current[:, None])
    edges = _gather_distances(among, current, np.roll(current, -1, 1))
    change = pairs + np.roll(pairs, (-1, -1), (1, 2))
    change -= edges[:, :, None] + edges[:, None]
    change[:, k, k] = 0
    change = change.reshape(len(current), -1)
    pair = np.divmod(change.argmin(1), len(k))
    first, last = np.sort(pair, axis=0)[..., None]  # each [active, 1]
    is_inside = (first < k) & (k <= last)
    order = np.where(is_inside, first + last + 1 - k, k)
    is_shorter = change.min(1) < -_TOLERANCE
    active = active[is_shorter]
    tours[active] = np.take_along_axis(current, order, 1)[is_shorter]
  return tours


def _gather_distances(
  distances: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
  """Return the distance between each start and end.

  Args:
    distances: [B, N, N].
    start, end: point indices [B, ...] whose shapes broadcast.

  Returns:
    [B, ...], of the broadcast shape.
  """
  batch, num_points, _ = distances.shape
  row = np.arange(batch).reshape(-1, *[1] * (start.ndim - 1))
  index = (row * num_points + start) * num_points + end
  return distances.ravel()[index]
