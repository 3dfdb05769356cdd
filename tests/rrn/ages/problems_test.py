"""Tests that trees, ages, and jumps equal those of plain Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rrn.ages import data, problems

SHARES = (12.5, 21.7, 24.8, 20.5, 12.8, 5.7, 1.8, 0.3)  # % of 0 to 7 jumps


def decode(number):
  """Decode a tree with Python sets; return sorted edges (i, j), i < j."""
  sequence = [number // 8**k % 8 for k in range(6)]
  left, edges = set(range(8)), []
  while len(left) > 2:
    leaf = min(left - set(sequence))
    edges.append((leaf, sequence.pop(0)))
    left.remove(leaf)
  edges.append(tuple(left))
  return sorted(tuple(sorted(edge)) for edge in edges)


@pytest.fixture(scope='module')
def trees():
  """Decode all trees: int [8^6, 7, 2]."""
  numbers = jnp.arange(data.NUM_TREES)
  return np.asarray(jax.jit(jax.vmap(problems.decode))(numbers))


@pytest.fixture(scope='module')
def drawn():
  numbers = data.split_trees()['test'][:2000]
  keys = jax.random.split(jax.random.key(0), len(numbers))
  draw = jax.jit(jax.vmap(problems.draw))
  return jax.tree.map(np.asarray, draw(keys, jnp.asarray(numbers)))


def test_trees_match_plain_python(trees):
  for number in np.random.default_rng(0).integers(0, data.NUM_TREES, 2000):
    assert [tuple(edge) for edge in trees[number]] == decode(int(number))


def test_each_labeled_tree_occurs_once(trees):
  assert (trees[..., 0] < trees[..., 1]).all()
  codes = trees[..., 0] * 8 + trees[..., 1]
  assert (np.diff(codes) > 0).all()
  names = (codes * 64 ** np.arange(7, dtype=np.int64)).sum(1)
  assert len(np.unique(names)) == data.NUM_TREES == 262_144
  # 7 distinct edges that connect 8 persons are a tree.
  reached = np.eye(8, dtype=bool)[np.zeros(data.NUM_TREES, int)]
  rows = np.arange(data.NUM_TREES)
  for _ in range(7):
    for edge in range(7):
      i, j = trees[:, edge].T
      either = reached[rows, i] | reached[rows, j]
      reached[rows, i] = reached[rows, j] = either
  assert reached.all()


def test_jumps_have_the_expected_shares(trees):
  jumps = jax.jit(jax.vmap(problems.distances, (0, None)))(trees, 0)
  # By symmetry one start is enough. It has 7! / (7 - d)! paths of d edges, and
  # each path is in (d + 1) 8^(6 - d) trees.
  counts = [
    math.perm(7, d) * (d + 1) * 8 ** (6 - d) if d < 7 else math.perm(7, 7)
    for d in range(8)
  ]
  np.testing.assert_array_equal(np.bincount(jumps.ravel()), counts)
  shares = 100 * np.array(counts) / sum(counts)
  np.testing.assert_allclose(shares, SHARES, atol=0.2)


def test_problems_match_plain_python(drawn):
  for row in range(len(drawn['answer'])):
    ages, jumps = data.solve(drawn['facts'][row])
    question = drawn['question'][row]
    assert ages[question] == drawn['answer'][row]
    assert jumps[question] == drawn['jumps'][row]
    assert len(set(ages)) == 8 and 0 <= ages.min() and ages.max() <= 98
    persons = drawn['facts'][row][:, :2]
    np.testing.assert_array_equal(drawn['fact_ages'][row], ages[persons])
    nearer = jumps[persons].min(1)
    np.testing.assert_array_equal(drawn['fact_jumps'][row], nearer)


def test_problems_are_uniform(drawn):
  kinds = drawn['facts'][:, :7, 2]
  assert set(kinds.ravel()) == {data.OLDER, data.YOUNGER}
  assert abs((kinds == data.OLDER).mean() - 0.5) < 0.02
  assert (drawn['facts'][:, 7, 2] == data.IS).all()
  assert (drawn['facts'][:, 7, 0] == drawn['facts'][:, 7, 1]).all()
  assert abs(drawn['answer'].mean() - 49) < 2.5
  assert drawn['answer'].min() == 0 and drawn['answer'].max() == 98
  for column in (drawn['question'], drawn['facts'][:, 7, 0]):
    counts = np.bincount(column, minlength=8)
    assert (abs(counts - 250) < 60).all()
  assert abs((drawn['jumps'] == 0).mean() - 1 / 8) < 0.03


def test_a_path_visits_everyone_in_seven_jumps():
  path = jnp.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)])
  found = problems.distances(path, jnp.asarray(0))
  np.testing.assert_array_equal(found, np.arange(8))


def test_problems_are_functions_of_key_and_tree(drawn):
  keys = jax.random.split(jax.random.key(0), 2000)
  tree = jnp.asarray(data.split_trees()['test'][7])
  again = jax.jit(problems.draw)(keys[7], tree)
  for name, column in drawn.items():
    np.testing.assert_array_equal(again[name], column[7])
