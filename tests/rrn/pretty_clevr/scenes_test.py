"""Tests that scenes and answers equal those of plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rrn.pretty_clevr import data, scenes

COUNT = 200


@pytest.fixture(scope='module')
def drawn():
  keys = jax.vmap(lambda i: scenes.pool_key('test', i))(jnp.arange(COUNT))
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(scenes.draw))(keys))


@jax.jit
@jax.vmap
def answers(positions, colors):
  anchors, jumps = scenes.all_questions()
  answer = jax.vmap(scenes.answer, (None, None, 0, 0))
  return answer(positions, colors, anchors, jumps)


def test_placing_is_rejection_sampling():
  candidates = np.random.default_rng(0).random((300, 8, 16, 2), np.float32)
  placed = jax.jit(jax.vmap(scenes.place))(candidates)
  num_rejected = 0
  for objects, positions in zip(candidates, np.asarray(placed), strict=True):
    expected = []
    for options in objects:
      for option in options:
        if all(np.hypot(*(option - other)) > 0.1 for other in expected):
          break
        num_rejected += 1
      expected.append(option)
    np.testing.assert_array_equal(positions, expected)
  assert num_rejected > 100


def test_scenes_are_legal_and_differ(drawn):
  positions, colors = drawn
  gaps = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
  assert gaps[:, ~np.eye(8, dtype=bool)].min() > data.MIN_DISTANCE
  assert positions.min() >= 0 and positions.max() <= 1
  np.testing.assert_array_equal(
    np.sort(colors), np.tile(np.arange(8), (COUNT, 1))
  )
  assert len(np.unique(positions[:, 0], axis=0)) == COUNT
  assert abs(positions.mean() - 0.5) < 0.02
  assert abs((colors[:, 0] == 3).mean() - 1 / 8) < 0.07


def test_pools_do_not_overlap():
  keys = {
    split: {
      tuple(
        jax.random.key_data(scenes.pool_key(split, jnp.asarray(i))).tolist()
      )
      for i in range(50)
    }
    for split in scenes.SEEDS
  }
  assert len(set.union(*keys.values())) == 150


def test_all_128_answers_match_plain_python(drawn):
  positions, colors = drawn
  anchors, jumps = map(np.asarray, scenes.all_questions())
  assert len({*zip(anchors.tolist(), jumps.tolist(), strict=True)}) == 128
  found = np.asarray(answers(positions, colors))
  for scene in range(COUNT):
    expected = [
      data.answer(positions[scene], colors[scene], anchor, n)
      for anchor, n in zip(anchors, jumps, strict=True)
    ]
    np.testing.assert_array_equal(found[scene], expected)


def test_seven_jumps_visit_all_objects(drawn):
  tours = jax.jit(jax.vmap(jax.vmap(scenes.tour, (None, 0)), (0, None)))
  found = np.asarray(tours(drawn[0], np.arange(8)))
  everyone = np.arange(8)
  np.testing.assert_array_equal(
    np.sort(found), np.tile(everyone, (COUNT, 8, 1))
  )
  np.testing.assert_array_equal(found[..., 0], np.tile(everyone, (COUNT, 1)))


def test_permuting_objects_permutes_tours(drawn):
  order = np.random.default_rng(0).permutation(8)
  tour = jax.jit(scenes.tour)
  for positions in drawn[0][:20]:
    plain = tour(positions, order[0])
    np.testing.assert_array_equal(order[tour(positions[order], 0)], plain)


def test_augmentation_changes_positions_but_no_answer(drawn):
  positions, colors = drawn
  keys = jax.random.split(jax.random.key(0), COUNT)
  moved = np.asarray(jax.jit(jax.vmap(scenes.augment))(keys, positions))
  np.testing.assert_array_equal(
    answers(moved, colors), answers(positions, colors)
  )
  # One log-uniform scale per scene, and all rotations.
  scale = np.linalg.norm(moved, axis=-1) / np.linalg.norm(positions, axis=-1)
  np.testing.assert_allclose(scale, scale[:, :1].repeat(8, 1), rtol=1e-5)
  logs = np.log2(scale[:, 0])
  assert -1 <= logs.min() < -0.9 and 0.9 < logs.max() <= 1
  assert abs(logs.mean()) < 0.15
  middles = moved.mean(1)
  for quadrant in np.ndindex(2, 2):
    assert ((middles > 0) == np.array(quadrant)).all(1).mean() > 0.15


def test_scene_depends_only_on_its_index(drawn):
  again = scenes.draw(scenes.pool_key('test', jnp.asarray(7)))
  np.testing.assert_array_equal(again[0], drawn[0][7])
  np.testing.assert_array_equal(again[1], drawn[1][7])
