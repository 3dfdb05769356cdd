"""Tests that drawn mazes are trees with one path."""

import functools

import jax
import numpy as np
import pytest
from scipy.sparse import csgraph

from rrn.mazes import data, generate
from tests.rrn.mazes.data_test import to_matrix


@pytest.fixture(scope='module', params=[2, 9])
def mazes(request):
  keys = jax.random.split(jax.random.key(0), 200)
  draw = jax.jit(jax.vmap(functools.partial(generate.draw, size=request.param)))
  return jax.tree.map(np.asarray, draw(keys))


def test_passages_are_spanning_trees(mazes):
  size = mazes['ends'].shape[1]
  for passages in mazes['passages']:
    assert passages.sum() == size * size - 1
    count, _ = csgraph.connected_components(to_matrix(passages))
    assert count == 1
    assert not passages[:, -1, 0].any() and not passages[-1, :, 1].any()


def test_paths_are_shortest(mazes):
  columns = (mazes[name] for name in ('passages', 'ends', 'path'))
  for passages, ends, path in zip(*columns, strict=True):
    expected, length = data.shortest_path(passages, ends)
    np.testing.assert_array_equal(path, expected)
    assert path.sum() == length + 1 and ends.sum() == 2


def test_mazes_differ_and_ends_are_uniform(mazes):
  ends, passages = mazes['ends'], mazes['passages']
  count, size, _ = ends.shape
  if size > 2:
    assert len(np.unique(passages.reshape(count, -1), axis=0)) == count
  expected = 2 * count / size**2
  assert abs(ends.sum(0) - expected).max() < 5 * np.sqrt(expected)


def test_all_trees_of_four_cells_are_drawn():
  """A square of cells has four spanning trees, one for each missing side."""
  keys = jax.random.split(jax.random.key(0), 400)
  draw = jax.jit(jax.vmap(functools.partial(generate.draw, size=2)))
  passages = np.asarray(draw(keys)['passages']).reshape(400, -1)
  trees, counts = np.unique(passages, axis=0, return_counts=True)
  assert len(trees) == 4 and counts.min() > 60
