"""The solver runs a network until its answer obeys the rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn.sudoku import data, model, solver
from tests.rrn import perturbed

UNITS = data.units(2, 2)


@pytest.fixture(scope='module')
def boards():
  return data.generate(np.random.default_rng(1), 6, 2, 2)


def test_validity_agrees_with_the_rules(boards):
  puzzles, solutions = (x.copy() for x in boards)
  solutions[0, [0, 1]] = solutions[0, [1, 0]]  # breaks columns
  cell = np.flatnonzero(puzzles[1])[0]
  puzzles[1, cell] = puzzles[1, cell] % 4 + 1  # changes a given
  valid = solver.is_valid(jnp.asarray(solutions), jnp.asarray(puzzles), UNITS)
  np.testing.assert_array_equal(valid, data.is_solution(solutions, puzzles))
  assert not valid[:2].any() and valid[2:].all()


class Slow(nnx.Module):
  """Solves board b of a table only at step `steps[b]`, and counts steps."""

  def __init__(self, puzzles, solutions, steps):
    self.table = nnx.data(
      [jnp.asarray(x, jnp.int32) for x in (puzzles, solutions, steps)]
    )

  def init_states(self, puzzles):
    return jnp.zeros(len(puzzles), int)

  def advance(self, puzzles, states, *, num_steps):
    known, solutions, steps = self.table
    row = (puzzles[:, None] == known[None]).all(-1).argmax(1)
    right = jax.nn.one_hot(solutions[row], 5)
    now = states[None] + 1 + jnp.arange(num_steps)[:, None]
    is_right = (now == steps[row][None])[..., None, None]
    return now[-1], jnp.where(is_right, right, jnp.roll(right, 1, axis=1))


@pytest.mark.parametrize('max_steps', [7, 40])
def test_first_valid_answer_counts(boards, max_steps):
  """Later answers are ignored; `num_steps` is 0 if no answer is valid."""
  puzzles, solutions = boards
  steps = np.array([1, 5, 16, 17, 33, 100])
  solve = solver.make_solver(
    Slow(puzzles, solutions, steps), UNITS, max_steps=max_steps
  )
  answers, num_steps = solve(jnp.asarray(puzzles))
  limit = 48 if max_steps == 40 else max_steps  # a multiple of 16
  np.testing.assert_array_equal(num_steps, np.where(steps <= limit, steps, 0))
  np.testing.assert_array_equal(
    (np.asarray(answers) == solutions).all(1), num_steps > 0
  )


def test_a_single_puzzle_has_the_answer_and_steps_of_one_among_many(boards):
  """A single puzzle first runs without assumptions."""
  puzzles, solutions = boards
  model = Slow(puzzles, solutions, np.array([1, 5, 16, 17, 32, 100]))
  solve = solver.make_solver(model, UNITS, max_steps=64, assume_after=32)
  answers, num_steps = solve(jnp.asarray(puzzles))
  for i in range(5):
    answer, steps = solve(jnp.asarray(puzzles[i : i + 1]))
    np.testing.assert_array_equal(answer[0], answers[i])
    assert steps[0] == num_steps[i] == model.table[2][i]


class Doubtful(Slow):
  """Solves a board once enough empty cells are given, and is never sure."""

  def __init__(self, puzzles, solutions, num_needed):
    super().__init__(puzzles, solutions, jnp.zeros(len(puzzles), int))
    self.num_needed = num_needed

  def advance(self, puzzles, states, *, num_steps):
    known, solutions, _ = self.table
    is_kept = (known[None] == 0) | (known[None] == puzzles[:, None])
    row = is_kept.all(-1).argmax(1)
    added = (puzzles > 0).sum(1) - (known[row] > 0).sum(1)
    is_right = ((puzzles == 0) | (puzzles == solutions[row])).all(1)
    is_solved = is_right & (added >= self.num_needed)
    is_solved = is_solved[:, None, None]
    right = jax.nn.one_hot(solutions[row], 5) * jnp.where(is_solved, 9, 1e-3)
    logits = right + jnp.array([-1e9, 0, 0, 0, 0])[None, None]
    unsure = logits.at[:, 0].set(0)  # no digit in the first cell
    logits = jnp.where(is_solved, logits, unsure)
    return states + num_steps, jnp.tile(logits, (num_steps, 1, 1, 1))


@pytest.mark.parametrize('num_needed', [1, 2])
def test_assumed_digits_solve_what_the_network_alone_does_not(
  boards, num_needed
):
  puzzles, solutions = boards
  model = Doubtful(puzzles, solutions, num_needed)
  for assume_after in (0, 32):
    solve = solver.make_solver(
      model, UNITS, max_steps=4096, assume_after=assume_after
    )
    for count in len(puzzles), 1:
      answers, num_steps = solve(jnp.asarray(puzzles[:count]))
      is_right = (np.asarray(answers) == solutions[:count]).all(1)
      np.testing.assert_array_equal(is_right, num_steps > 0)
      assert is_right.all() == (assume_after > 0)
      assert is_right.any() == (assume_after > 0)
      assert not assume_after or (num_steps > 32).all()


def test_assumptions_keep_the_givens(boards):
  """An open cell gets a digit; a full board is unchanged."""
  puzzles, solutions = boards
  full = np.concatenate([puzzles, solutions]).astype(np.int32)
  beliefs = np.zeros((len(full), 16, 5)) + [0, 0.1, 0.2, 0.3, 0.4]
  beliefs[:, 3] = [0, 1, 0, 0, 0]  # sure
  assumed = solver._assume(
    jax.random.key(0), jnp.asarray(full), jnp.asarray(beliefs)
  )
  changed = assumed != full
  np.testing.assert_array_equal(changed.sum(1), (full == 0).any(1))
  assert (full[changed] == 0).all() and not changed[:, 3].any()


def test_unsolved_boards_get_the_answer_before_assumptions(boards):
  puzzles, solutions = boards
  model = Doubtful(puzzles, solutions, num_needed=17)
  for max_steps in (16, 128):
    answers, num_steps = solver.make_solver(
      model, UNITS, max_steps=max_steps, assume_after=32
    )(jnp.asarray(puzzles))
    assert not num_steps.any()
    expected = model.advance(jnp.asarray(puzzles, jnp.int32), 0, num_steps=1)[
      1
    ][0]
    np.testing.assert_array_equal(answers, expected.argmax(-1))


@pytest.mark.parametrize(
  'box',
  [
    *(pytest.param(b, marks=pytest.mark.slow) for b in ((2, 2), (3, 3))),
    (2, 3),
  ],
)
def test_candidates_take_boards_of_any_size(box):
  """The answers equal those of a network that is built for the board size."""
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
  puzzles = data.generate(np.random.default_rng(0), 3, *box)[0]
  puzzles = jnp.asarray(puzzles, jnp.int32)
  solve = solver.make_solver(small, data.units(*box), max_steps=4)
  answers, num_steps = solve(puzzles)
  expected = large(puzzles, num_steps=4).argmax(-1)
  solved = [solver.is_valid(x, puzzles, data.units(*box)) for x in expected]
  np.testing.assert_array_equal(num_steps > 0, np.any(solved, axis=0))
  rest = np.asarray(num_steps == 0)
  np.testing.assert_array_equal(answers[rest], expected[-1][rest])
