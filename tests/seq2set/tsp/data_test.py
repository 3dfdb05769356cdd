"""Tours are the shortest ones, and both solvers find them."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from seq2set import cycles
from seq2set.tsp import data


def draw(count, num_points, seed=0):
  return np.random.default_rng(seed).random((count, num_points, 2))


def shortest_length(points):
  """The length of the shortest of all permutations."""
  count = len(points)
  tours = np.array(
    [(0, *rest) for rest in itertools.permutations(range(1, count))]
  )
  return data.tour_lengths(np.tile(points, (len(tours), 1, 1)), tours).min()


@pytest.mark.parametrize('num_points', [3, 4, 5, 6, 7])
def test_no_permutation_is_shorter(num_points):
  points = draw(20, num_points)
  tours = data.shortest_tours(points)
  np.testing.assert_array_equal(np.sort(tours, 1), [np.arange(num_points)] * 20)
  np.testing.assert_allclose(
    data.tour_lengths(points, tours), [shortest_length(one) for one in points]
  )


@pytest.mark.parametrize('num_points', [3, 8, 14])
def test_tours_are_counterclockwise_from_index_0(num_points):
  points = draw(20, num_points).astype(np.float32)
  tours = data.shortest_tours(points)
  assert (tours[:, 0] == 0).all()
  assert (cycles.signed_area(points, tours.astype(int)) > 0).all()


def test_chunk_size_has_no_effect(monkeypatch):
  points = draw(20, 6)
  tours = data.shortest_tours(points)
  monkeypatch.setattr(data, '_CHUNK_SIZE', 7)
  np.testing.assert_array_equal(data.shortest_tours(points), tours)


@pytest.mark.parametrize('num_points', [3, 6, 9])
def test_local_search_finds_the_shortest_tours(num_points):
  points = draw(100, num_points)
  distances = data.pairwise_distances(points)
  found, best = (
    data.tour_lengths(points, solve(distances))
    for solve in (data.local_search, data.held_karp)
  )
  np.testing.assert_allclose(found, best)


def test_local_search_is_optimal_for_13_points():
  points = draw(60, 13)
  distances = data.pairwise_distances(points)
  found, best = (
    data.tour_lengths(points, solve(distances))
    for solve in (data.local_search, data.held_karp)
  )
  assert (found > best - 1e-9).all()
  assert (found < best + 1e-9).mean() >= 0.98


def test_lengths_do_not_depend_on_the_position():
  points = draw(50, 8)
  angle = 1.0
  turn = np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  expected = data.tour_lengths(points, data.shortest_tours(points))
  for moved in points @ turn, points * [1, -1], points + 3, points[:, ::-1]:
    found = data.tour_lengths(moved, data.shortest_tours(moved))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize('num_points, published', [(5, 2.12), (10, 2.87)])
def test_the_mean_length_is_the_published_one(num_points, published):
  points = draw(2000, num_points)
  lengths = data.tour_lengths(points, data.shortest_tours(points))
  error = lengths.std() / np.sqrt(len(lengths))
  # The published mean has a standard error, and is rounded to two digits.
  assert abs(lengths.mean() - published) < 3 * error + 0.005
  assert error < 0.012


def test_collinear_points_have_tours():
  points = np.array([[[0.0, 0], [1, 1], [0.2, 0.2], [0.5, 0.5]]])
  tours = data.shortest_tours(points)
  assert data.tour_lengths(points, tours)[0] == pytest.approx(2 * np.sqrt(2))
  assert not data.find_failure(4, tours[0])


def test_tours_that_break_a_rule():
  for tour, why in [
    ((0, 2, 1), ''),
    ((0, 2, 2), 'visits a point twice'),
    ((0, 2), 'leaves out 1 of 3 points'),
  ]:
    assert data.find_failure(3, np.array(tour)) == why


def solve_by_integer_programming(distances):
  """The length of the shortest tour; constraints forbid separate cycles."""
  count = len(distances)
  a, b = np.triu_indices(count, 1)
  rows = [(a == k) | (b == k) for k in range(count)]
  low, high = [2.0] * count, [2.0] * count
  while True:
    result = scipy.optimize.milp(
      distances[a, b],
      constraints=scipy.optimize.LinearConstraint(np.array(rows), low, high),
      integrality=np.ones(len(a)),
      bounds=scipy.optimize.Bounds(0, 1),
    )
    used = result.x > 0.5
    graph = scipy.sparse.coo_array(
      (np.ones(used.sum()), (a[used], b[used])), (count, count)
    )
    parts, label = scipy.sparse.csgraph.connected_components(graph)
    if parts == 1:
      return distances[a, b][used].sum()
    for part in range(parts):
      rows.append((label[a] == part) != (label[b] == part))
      low.append(2.0)
      high.append(np.inf)


@pytest.mark.slow
def test_local_search_is_optimal_for_20_points():
  points = draw(200, 20, seed=1)
  distances = data.pairwise_distances(points)
  best = np.array([solve_by_integer_programming(one) for one in distances])
  found = data.tour_lengths(points, data.local_search(distances))
  assert (found > best - 1e-7).all()
  assert (found < best + 1e-7).mean() >= 0.98
  assert (found / best - 1).mean() < 1e-3
