"""A network runs until the rules say that its answer is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn.sudoku import data, inference, model
from tests.rrn import perturbed

UNITS = data.units(2, 2)


@pytest.fixture(scope='module')
def boards():
  return data.generate(np.random.default_rng(1), 6, 2, 2)


def test_validity_agrees_with_the_rules(boards):
  puzzles, solutions = (x.copy() for x in boards)
  solutions[0, [0, 1]] = solutions[0, [1, 0]]  # breaks columns
  cell = np.flatnonzero(puzzles[1])[0]
  puzzles[1, cell] = puzzles[1, cell] % 4 + 1  # a given not kept
  valid = inference.is_valid(
    jnp.asarray(solutions), jnp.asarray(puzzles), UNITS
  )
  np.testing.assert_array_equal(valid, data.is_solution(solutions, puzzles))
  assert not valid[:2].any() and valid[2:].all()


class Slow(nnx.Module):
  """Solves board b of a table at step `steps[b]` alone, and counts steps."""

  def __init__(self, puzzles, solutions, steps):
    self.table = nnx.data([jnp.asarray(x) for x in (puzzles, solutions, steps)])

  def init_states(self, puzzles):
    return jnp.zeros(len(puzzles), int)

  def advance(self, puzzles, states, *, num_steps):
    known, solutions, steps = self.table
    row = (puzzles[:, None] == known).all(-1).argmax(1)
    right = jax.nn.one_hot(solutions[row], 5)
    now = states + 1 + jnp.arange(num_steps)[:, None]
    is_right = (now == steps[row])[..., None, None]
    return now[-1], jnp.where(is_right, right, jnp.roll(right, 1, axis=1))


@pytest.mark.parametrize('max_steps', [7, 40])
def test_first_valid_answer_counts(boards, max_steps):
  """Whatever the network says later; without one, the last answer."""
  puzzles, solutions = boards
  steps = np.array([1, 5, 16, 17, 33, 100])
  solve = inference.make_solver(
    Slow(puzzles, solutions, steps), UNITS, max_steps=max_steps
  )
  answers, is_solved = solve(jnp.asarray(puzzles))
  np.testing.assert_array_equal(
    is_solved, steps <= (48 if max_steps == 40 else max_steps)
  )
  np.testing.assert_array_equal(
    (answers == solutions).all(1), np.asarray(is_solved)
  )


class Lucky(Slow):
  """Solves the boards whose random first state is positive."""

  def init_states(self, puzzles, key=None):
    if key is None:
      return -jnp.ones(len(puzzles))
    return jax.random.normal(key, (len(puzzles),))

  def advance(self, puzzles, states, *, num_steps):
    known, solutions, _ = self.table
    row = (puzzles[:, None] == known).all(-1).argmax(1)
    right = jax.nn.one_hot(solutions[row], 5)
    is_right = (states > 0)[:, None, None]
    logits = jnp.where(is_right, right, jnp.roll(right, 1, axis=1))
    return states, jnp.tile(logits, (num_steps, 1, 1, 1))


@pytest.mark.parametrize(('restart_steps', 'share'), [(0, 0), (32, 1)])
def test_restarts_solve_what_the_first_start_does_not(
  boards, restart_steps, share
):
  puzzles, solutions = boards
  solve = inference.make_solver(
    Lucky(puzzles, solutions, np.zeros(6)),
    UNITS,
    max_steps=1024,
    restart_steps=restart_steps,
  )
  answers, is_solved = solve(jnp.asarray(puzzles))
  assert is_solved.mean() == share
  assert (answers == solutions).all(1).mean() == share


@pytest.mark.parametrize('box', [(2, 2), (2, 3), (3, 3)])
def test_candidates_take_boards_of_any_size(box):
  """The answers are those of a network that is built for the board."""
  config = {'network': 'candidates', 'width': 8, 'hidden_width': 8}
  made = [
    model.SudokuCandidates(
      model.ModelConfig(**config, box_height=h, box_width=w),
      dtype=jnp.float32,
      rngs=nnx.Rngs(0),
    )
    for h, w in ((2, 2), box)
  ]
  graphdef, params = perturbed.split(made[0])
  small = nnx.merge(graphdef, params)
  large = nnx.merge(nnx.split(made[1])[0], params)
  puzzles = jnp.asarray(data.generate(np.random.default_rng(0), 3, *box)[0])
  solve = inference.make_solver(small, data.units(*box), max_steps=4)
  answers, is_solved = solve(puzzles)
  expected = large(puzzles, num_steps=4).argmax(-1)
  solved = [inference.is_valid(x, puzzles, data.units(*box)) for x in expected]
  np.testing.assert_array_equal(is_solved, np.any(solved, axis=0))
  rest = ~np.asarray(is_solved)
  np.testing.assert_array_equal(answers[rest], expected[-1][rest])
