"""Tests of the network on mazes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.sparse import csgraph

from core.errors import UserError
from rrn.mazes import task
from rrn.mazes.model import MazeNetwork, ModelConfig, make_graph, passage_mask
from tests.rrn import perturbed
from tests.rrn.mazes.data_test import to_matrix


def make(**options):
  options = {'width': 8, 'message_layers': 1, 'node_layers': 1} | options
  return MazeNetwork(
    ModelConfig(**options), dtype=jnp.float32, rngs=nnx.Rngs(0)
  )


@functools.cache
def parts():
  return perturbed.split(make())


@functools.cache
def run_on(num_steps):
  graphdef, _ = parts()

  @jax.jit
  def run(params, passages, ends):
    return nnx.merge(graphdef, params)(passages, ends, num_steps=num_steps)

  return lambda passages, ends: np.asarray(run(parts()[1], passages, ends))


@functools.cache
def draw(size=5):
  mazes = task.draw_mazes(jax.random.key(0), 6, size)
  return np.asarray(mazes['passages']), np.asarray(mazes['ends'])


def rotate(passages):
  """Rotate passages [B, H, W, 2] by 90 degrees, as np.rot90 rotates cells."""
  mask = np.asarray(passage_mask(jnp.asarray(passages)))
  mask = mask.reshape(*passages.shape[:3], 4)
  mask = np.rot90(mask, axes=(1, 2))
  above, left, right, below = np.moveaxis(mask, -1, 0)
  del above, left
  # The right side becomes the upper one, and the lower side the right one.
  upper = right
  down = np.zeros_like(upper)
  down[:, :-1] = upper[:, 1:]
  return np.stack([below, down], -1)


def reflect(passages):
  """Exchange rows and columns of passages [B, H, W, 2]."""
  return passages.swapaxes(1, 2)[..., ::-1]


def test_rotations_and_reflections_do_the_same_to_the_answer():
  passages, ends = draw()
  logits = run_on(4)(passages, ends)
  rotated = run_on(4)(rotate(passages), np.rot90(ends, axes=(1, 2)))
  np.testing.assert_allclose(
    rotated, np.rot90(logits, axes=(2, 3)), rtol=1e-4, atol=1e-5
  )
  reflected = run_on(4)(reflect(passages), ends.swapaxes(1, 2))
  np.testing.assert_allclose(
    reflected, logits.swapaxes(2, 3), rtol=1e-4, atol=1e-5
  )
  assert np.abs(logits - logits.swapaxes(2, 3)).max() > 1e-3


def test_messages_use_passages_only():
  """After t steps, a cell depends on cells at most t moves away."""
  passages, ends = draw()
  logits = run_on(4)(passages, ends)
  for row in range(len(ends)):
    start = np.argwhere(ends[row])[0]
    changed = ends.copy()
    changed[row, *start] = False
    difference = np.abs(run_on(4)(passages, changed) - logits)
    distances = csgraph.shortest_path(
      to_matrix(passages[row]), indices=np.ravel_multi_index(start, (5, 5))
    ).reshape(5, 5)
    others = np.delete(np.arange(len(ends)), row)
    assert (difference[:, others] == 0).all()
    for t in range(4):
      is_far = distances > t + 1
      assert (difference[t, row][is_far] == 0).all()
      assert (difference[t, row][~is_far] > 0).any()


def test_a_grid_may_have_any_shape():
  assert make_graph(2, 3).senders.shape == (6, 4)
  passages, ends = np.zeros((1, 2, 3, 2), bool), np.zeros((1, 2, 3), bool)
  passages[..., 0] = [[1, 1, 0], [1, 1, 0]]
  ends[:, 0, 0] = ends[:, 1, 2] = True
  logits = run_on(4)(passages, ends)
  assert logits.shape == (4, 1, 2, 3)
  # The rows are not connected, and one is the other one backwards.
  np.testing.assert_allclose(
    logits, logits[:, :, ::-1, ::-1], rtol=1e-4, atol=1e-5
  )


def test_steps_may_be_divided():
  passages, ends = map(jnp.asarray, draw())
  model = nnx.merge(*parts())
  states, first = model.advance(
    passages, ends, model.init_states(ends), num_steps=3
  )
  _, second = model.advance(passages, ends, states, num_steps=1)
  np.testing.assert_allclose(
    np.concatenate([first, second]), run_on(4)(passages, ends), atol=1e-5
  )


def test_a_maze_needs_at_least_one_update():
  with pytest.raises(UserError, match='mean_steps=4: expected at least'):
    make(num_steps=8, mean_steps=4)
