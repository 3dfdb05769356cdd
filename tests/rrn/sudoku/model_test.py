"""The paper's parameter counts, symmetries, and the groups of a board."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn.sudoku import data
from rrn.sudoku.model import ModelConfig, SudokuNetwork, make_groups
from tests.rrn import perturbed

SMALL = ModelConfig(box_height=2, box_width=3, width=16, num_steps=3)


def make(config):
  return SudokuNetwork(config, dtype=jnp.float32, rngs=nnx.Rngs(0))


def make_small():
  return perturbed.split(make(SMALL))


def puzzles(count=4):
  return jnp.asarray(data.generate(np.random.default_rng(0), count, 2, 3)[0])


@pytest.mark.parametrize('edge_width, count', [(0, 201_098), (1, 201_194)])
def test_parameter_count_is_the_papers(edge_width, count):
  config = dataclasses.replace(ModelConfig(), edge_width=edge_width)
  params = nnx.state(nnx.eval_shape(lambda: make(config)), nnx.Param)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_longer_runs_begin_alike():
  model = nnx.merge(*make_small())
  long, short = (
    jax.jit(functools.partial(model, num_steps=n))(puzzles()) for n in (6, 3)
  )
  np.testing.assert_allclose(long[:3], short, atol=1e-6)


def test_relabeled_digits_give_relabeled_answers():
  graphdef, params = make_small()
  order = np.array([0, 3, 1, 6, 2, 5, 4])  # the new name of each digit
  renamed = jax.tree.map(lambda x: x, params)
  inverse = np.argsort(order)
  renamed['digit_embedding'] = params['digit_embedding'][inverse]
  renamed['output'] = {
    'kernel': params['output']['kernel'][:, inverse],
    'bias': params['output']['bias'][inverse],
  }
  run = jax.jit(lambda params, x: nnx.merge(graphdef, params)(x, num_steps=3))
  plain = run(params, puzzles())
  other = run(renamed, jnp.asarray(order)[puzzles()])
  np.testing.assert_allclose(other[..., order], plain, atol=1e-5)


def test_without_positions_rows_of_a_band_may_swap():
  config = dataclasses.replace(SMALL, zero_positions=True)
  model = make(config)
  cells = np.arange(36).reshape(6, 6)[[1, 0, 2, 3, 4, 5]].ravel()
  plain = model(puzzles(), num_steps=3)
  swapped = model(puzzles()[:, cells], num_steps=3)
  np.testing.assert_allclose(swapped, plain[:, :, cells], atol=1e-5)
  other = np.arange(36).reshape(6, 6)[[2, 1, 0, 3, 4, 5]].ravel()  # two bands
  crossed = model(puzzles()[:, other], num_steps=3)
  assert np.abs(crossed - plain[:, :, other]).max() > 1e-4


def test_every_parameter_has_a_gradient():
  graphdef, params = make_small()

  def loss(params):
    logits = nnx.merge(graphdef, params)(puzzles(), num_steps=3)
    return jnp.square(logits).mean()

  gradient = jax.jit(jax.grad(loss))(params)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_units_and_intersections_of_a_board():
  groups = make_groups(data.units(3, 3), sharing='separate')
  rows, columns, boxes, row_parts, column_parts = groups.kinds
  for kind, count, size in (
    (rows, 9, 9),
    (columns, 9, 9),
    (boxes, 9, 9),
    (row_parts, 27, 3),
    (column_parts, 27, 3),
  ):
    assert kind.shape == (count, 81) and set(kind.sum(1)) == {size}
  lines, boxes, parts = make_groups(data.units(3, 3), sharing='lines').kinds
  np.testing.assert_array_equal(lines, np.concatenate([rows, columns]))
  np.testing.assert_array_equal(boxes, groups.kinds[2])
  assert parts.shape == (54, 81)
  units, parts = make_groups(data.units(2, 3), sharing='shared').kinds
  assert units.shape == (18, 36)
  # A box shares three cells with each of its rows, two with each column.
  assert sorted(parts.sum(1)) == [2] * 18 + [3] * 12
