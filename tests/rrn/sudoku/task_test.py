"""Batches have valid puzzles, and measures count correctly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.rrn import sudoku
from core import layers
from core.errors import UserError
from rrn.sudoku import data, generate, puzzle_text, task
from tests.rrn.sudoku.solver_test import Slow


@pytest.fixture(scope='module')
def smoke():
  config = sudoku.get_config('smoke')
  return task.make_task(config)


@pytest.fixture(scope='module')
def bases():
  columns = data.generate(np.random.default_rng(1), 20, 3, 3)
  return dict(zip(('puzzle', 'solution'), columns, strict=True))


def draw(bases, symmetries, givens, size=64):
  config = sudoku.get_config('cpu,source=generated')
  config.data.symmetries = symmetries
  config.data.hard_share = 0.0
  config.data.givens = config.data.start_givens = givens
  batch = jax.jit(task.make_task(config).batch, static_argnames='size')
  arrays = {name: jnp.asarray(column) for name, column in bases.items()}
  batch = batch(jax.random.key(0), arrays, size=size, step=jnp.asarray(0))
  return jax.tree.map(np.asarray, batch)


@pytest.mark.parametrize('symmetries', ['digits', 'all'])
def test_batches_are_puzzles_with_their_solutions(bases, symmetries):
  batch = draw(bases, symmetries, (30, 40))
  assert data.is_solution(batch['solution'], batch['puzzle']).all()
  givens = (batch['puzzle'] > 0).sum(1)
  assert givens.min() == 30 and givens.max() == 40
  assert len(np.unique(batch['solution'], axis=0)) == len(batch['solution'])


def test_digit_symmetry_keeps_the_places_of_the_base(bases):
  batch = draw(bases, 'digits', (0, 0))  # the bases' own givens
  places = {tuple(row) for row in bases['puzzle'] > 0}
  assert {tuple(row) for row in batch['puzzle'] > 0} <= places
  moved = draw(bases, 'all', (0, 0))
  assert not {tuple(row) for row in moved['puzzle'] > 0} <= places


@pytest.mark.parametrize(('step', 'share'), [(0, 0), (50, 0.25), (100, 0.5)])
def test_the_curriculum_mixes_in_hard_puzzles(bases, step, share):
  config = sudoku.get_config('cpu,source=generated')
  config.data.hard_share = 0.5
  config.data.curriculum_steps = 100
  arrays = {k: x[:10] for k, x in bases.items()}
  arrays |= {f'hard_{k}': x[10:] for k, x in bases.items()}
  arrays = jax.tree.map(jnp.asarray, arrays)
  batch = jax.jit(task.make_task(config).batch, static_argnames='size')(
    jax.random.key(0), arrays, size=1000, step=jnp.asarray(step)
  )
  hard = {tuple(row) for row in bases['puzzle'][10:]}  # without more givens
  num_hard = sum(tuple(row) in hard for row in np.asarray(batch['puzzle']))
  assert abs(num_hard / 1000 - share) < 0.05


@pytest.mark.slow
def test_boards_that_stay_unsolved_get_more_givens(bases):
  """Every `reveal_after` steps, a cell with a wrong answer becomes a given."""
  config = sudoku.get_config('smoke,box=3x3')
  config.model.num_steps, config.model.reveal_after = 2, 4
  experiment = task.make_task(config)
  model = experiment.make_model(nnx.Rngs(0))
  batch = {name: jnp.asarray(x[:8], int) for name, x in bases.items()}
  carry = experiment.init_carry(jax.random.key(0), 8)
  step = jax.jit(lambda *args: experiment.loss(model, *args)[2])
  num_added = []
  for update in range(5):
    carry = step(batch, jax.random.key(update), carry)
    added = (carry['puzzle'] > 0) & (batch['puzzle'] == 0)
    num_added.append(added.sum(1))
    given = carry['puzzle'] > 0
    np.testing.assert_array_equal(
      carry['puzzle'], np.where(given, batch['solution'], 0)
    )
  expected = np.tile([[0], [1], [1], [2], [2]], 8)
  np.testing.assert_array_equal(num_added, expected)


def test_boards_stay_until_they_are_solved_or_too_old(bases):
  """New boards replace solved boards and old ones; other boards stay."""
  config = sudoku.get_config('smoke,box=3x3')
  config.model.num_steps, config.model.max_steps = 2, 6
  experiment = task.make_task(config)
  model = experiment.make_model(nnx.Rngs(0))
  batch = {name: jnp.asarray(x[:4], int) for name, x in bases.items()}
  carry = experiment.init_carry(jax.random.key(0), 4)
  step = jax.jit(lambda *args: experiment.loss(model, *args)[1:])
  metrics, carry = step(batch, jax.random.key(0), carry)
  assert metrics['new_boards'].result() == 1
  np.testing.assert_array_equal(carry['puzzle'], batch['puzzle'])
  np.testing.assert_array_equal(carry['num_steps'], [2] * 4)
  full = batch['solution'][1]  # its answer is right from the first step on
  carry['puzzle'] = carry['puzzle'].at[1].set(full)
  carry['num_steps'] = carry['num_steps'].at[3].set(4)
  before = carry
  new = jax.tree.map(lambda x: x[::-1], batch)
  metrics, carry = step(new, jax.random.key(0), carry)
  assert metrics['new_boards'].result() == 0
  _, logits = model.advance(before['puzzle'], before['states'], num_steps=2)
  solved = (logits[-1].argmax(-1) == before['solution']).all(-1)
  expected = np.where(solved, 6, [4, 4, 4, 6])
  np.testing.assert_array_equal(carry['num_steps'], expected)
  metrics, carry = step(new, jax.random.key(0), carry)
  is_new = expected == 6
  assert is_new[3] and not is_new.all()
  assert metrics['new_boards'].result() == is_new.mean()
  np.testing.assert_array_equal(
    carry['puzzle'],
    np.where(is_new[:, None], new['puzzle'], before['puzzle']),
  )
  np.testing.assert_array_equal(
    carry['num_steps'][is_new], np.full(is_new.sum(), 2)
  )


@pytest.mark.parametrize('network', ['cells', 'candidates'])
def test_segments_of_steps_equal_one_run(network, bases):
  config = sudoku.get_config(f'smoke,box=3x3,network={network}')
  model = task.make_task(config).make_model(nnx.Rngs(0))
  puzzles = jnp.asarray(bases['puzzle'][:2], int)

  @jax.jit
  def both(puzzles):
    states, parts = model.init_states(puzzles), []
    for steps in (2, 1, 3):
      states, logits = model.advance(puzzles, states, num_steps=steps)
      parts.append(logits)
    return jnp.concatenate(parts), model(puzzles, num_steps=6)

  parts, whole = both(puzzles)
  np.testing.assert_allclose(parts, whole, atol=1e-5)


def move(boards, box, count):
  """Apply `count` symmetries to each of the boards [..., N]."""
  boards = jnp.asarray(boards, int)
  keys = jax.random.split(jax.random.key(0), count)
  moved = jax.vmap(
    lambda key: generate.transform(key, boards, box, digits_only=False)
  )
  return np.asarray(jax.jit(moved)(keys))


@pytest.mark.parametrize(
  'box',
  [
    *(
      pytest.param(b, marks=pytest.mark.slow) for b in ((2, 2), (3, 2), (3, 3))
    ),
    (2, 3),
  ],
)
def test_symmetries_keep_puzzles_and_solutions_valid(box):
  boards = np.stack(data.generate(np.random.default_rng(0), 1, *box))[:, 0]
  moved = move(boards, box, 50)
  puzzles, solutions = moved[:, 0], moved[:, 1]
  assert data.is_solution(solutions, puzzles, box=box).all()
  assert (data.solve(puzzles, box=box)[1] == 1).all()
  np.testing.assert_array_equal(
    (puzzles > 0).sum(1), np.full(50, (boards[0] > 0).sum())
  )


def test_symmetries_move_every_cell_and_transpose_half():
  board = np.arange(16) % 4 + 1  # rows are all 1 2 3 4
  rows = move(board, (2, 2), 400).reshape(-1, 4, 4)
  is_upright = (rows[:, :1] == rows).all((1, 2))
  assert 150 < is_upright.sum() < 250
  assert len({row.tobytes() for row in rows[is_upright, 0]}) == 24


def test_curriculum_goes_from_start_to_end():
  config = sudoku.get_config('cpu').data
  config.start_givens, config.givens = (40, 55), (17, 34)
  config.curriculum_steps = 100
  bounds = [generate.givens_range(config, step) for step in (0, 50, 100, 1000)]
  np.testing.assert_array_equal(
    bounds, [(40, 55), (28, 44), (17, 34), (17, 34)]
  )
  config.curriculum_steps = 0
  np.testing.assert_array_equal(generate.givens_range(config, 0), (17, 34))


def test_cross_entropy_is_the_negative_log_probability():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 16, 5))
  solution = np.random.default_rng(0).integers(1, 5, (3, 16))
  losses = layers.cross_entropy(logits, jnp.asarray(solution))
  p = np.asarray(jax.nn.softmax(logits))
  for t, b, n in [(0, 0, 0), (1, 2, 15), (0, 1, 7)]:
    expected = -np.log(p[t, b, n, solution[b, n]])
    np.testing.assert_allclose(losses[t, b, n], expected, rtol=1e-5)


class Oracle(nnx.Module):
  """Answers from a table, with one wrong digit before `from_step`."""

  def __init__(self, puzzles, solutions, from_step):
    self.table = nnx.data(jnp.asarray(np.stack([puzzles, solutions]), int))
    self.from_step = from_step

  def __call__(self, puzzles, *, num_steps):
    puzzle, solution = self.table
    row = (puzzles[:, None] == puzzle[None]).all(-1).argmax(1)
    right = jax.nn.one_hot(solution[row], 5)
    wrong = right.at[:, 0].set(jnp.roll(right[:, 0], 1, axis=-1))
    late = jnp.arange(num_steps)[:, None, None, None] + 1 >= self.from_step
    return jnp.where(late, right, wrong)


def test_measures_of_an_oracle(smoke):
  columns = smoke._evaluation_set('validation')
  oracle = Oracle(columns['puzzle'], columns['solution'], from_step=9)
  weight = np.ones(len(columns['puzzle']), np.float32)
  weight[::3] = 0
  batch = jax.tree.map(jnp.asarray, columns | {'weight': weight})
  measured = jax.jit(lambda x: smoke._measure('validation', oracle, x))(batch)
  values = {name: metric.result() for name, metric in measured.items()}
  assert values['steps_8/solved'] == 0 and values['steps_16/solved'] == 1
  assert values['steps_8/valid'] == 0 and values['steps_16/valid'] == 1
  assert values['steps_16/lost'] == 0
  np.testing.assert_allclose(values['steps_8/cells'], 15 / 16)
  assert measured['steps_8/solved'].weight == weight.sum()
  assert values['solved_by_step'].shape == (16, 7)
  # Each puzzle occurs with several numbers of givens, and cells share a board.
  assert measured['steps_8/solved_9_givens'].is_independent
  assert not measured['steps_8/solved'].is_independent
  assert not measured['steps_8/cells'].is_independent
  givens = (columns['puzzle'] > 0).sum(1)
  for count in range(4, 11):
    name = f'steps_16/solved_{count}_givens'
    assert measured[name].weight == weight[givens == count].sum()


def test_boards_that_become_unsolved_count_as_lost(smoke):
  columns = smoke._evaluation_set('validation')
  columns = {name: jnp.asarray(x[:8], int) for name, x in columns.items()}

  def model(puzzles, *, num_steps):
    right = jax.nn.one_hot(columns['solution'], 5)
    is_right = jnp.arange(num_steps)[:, None] < 9  # [T, B]
    is_right |= jnp.arange(8)[None] < 6
    return jnp.where(is_right[..., None, None], right, 0 * right)

  batch = columns | {'weight': jnp.ones(8)}
  measured = jax.jit(lambda x: smoke._measure('test', model, x))(batch)
  assert measured['steps_8/lost'].result() == 0
  assert measured['steps_16/lost'].result() == 2 / 8


def test_answers_by_the_rules_count_within_their_steps():
  """Boards of weight 0, which are padding, do not count."""
  config = sudoku.get_config('smoke')
  config.evals.within_steps = (16, 64)
  evaluator = task.make_task(config).evaluators()['test_by_rules']
  puzzles, solutions = data.generate(np.random.default_rng(2), 6, 2, 2)
  steps = np.array([1, 16, 17, 64, 65, 1])
  metrics = evaluator.measure(
    Slow(puzzles, solutions, steps),
    {
      'puzzle': jnp.asarray(puzzles),
      'solution': jnp.asarray(solutions),
      'weight': jnp.array([1.0, 1, 1, 1, 1, 0]),
    },
  )
  # The set has each puzzle with several numbers of givens.
  assert not metrics['within_16_steps/solved'].interval()
  assert metrics['within_16_steps/solved'].weight == 5
  shares = [metrics[f'within_{n}_steps/solved'].result() for n in (16, 64)]
  np.testing.assert_allclose(shares, [2 / 5, 4 / 5])


def test_settings_are_compared_without_the_test_set():
  for name, config in sudoku.sweep(
    'cpu,source=generated,table=ablations'
  ).items():
    assert list(task.make_task(config).evaluators()) == (
      ['validation', 'validation_hard']
      if config.data.hard_share
      else ['validation']
    ), name


def test_boards_with_other_rules_have_no_sets_of_standard_boards():
  config = sudoku.get_config('cpu,source=generated')
  config.evals.variant = 'diagonal'
  evaluators = task.make_task(config).evaluators()
  assert list(evaluators) == ['validation', 'test', 'test_by_rules']


def test_evaluation_sets_hold_each_number_of_givens(smoke):
  columns = smoke._evaluation_set('validation')
  assert data.is_solution(
    columns['solution'], columns['puzzle'], box=(2, 2)
  ).all()
  givens = np.bincount((columns['puzzle'] > 0).sum(1))
  assert (givens[6:11] == 64).all()  # minimal 4x4 puzzles have 4 to 6


def test_predict_answers_in_order_and_names_what_is_wrong(smoke):
  columns = smoke._evaluation_set('validation')
  puzzles, solutions = columns['puzzle'][-70:], columns['solution'][-70:]
  oracle = Oracle(puzzles, solutions, from_step=1)
  lines = [puzzle_text.format_board(puzzle) + '\n' for puzzle in puzzles]
  lines[3:3] = ['123\n', '11' + '.' * 14, 'x' + '.' * 15]
  answers = list(smoke.predict(oracle, lines))
  wrong, answers[3:6] = answers[3:6], []
  assert answers == [
    puzzle_text.format_board(solution) for solution in solutions
  ]
  assert all(isinstance(error, UserError) for error in wrong)
  for error, text in zip(wrong, ['16', 'twice in row 1', 'x'], strict=True):
    assert text in str(error)


def test_predict_names_wrong_grids_and_reports_the_accuracy(smoke, caplog):
  columns = smoke._evaluation_set('validation')
  puzzles, solutions = columns['puzzle'][-2:], columns['solution'][-2:]
  oracle = Oracle(puzzles, np.stack([solutions[0], puzzles[1]]), from_step=1)
  first, second = (
    [puzzle_text.format_board(board) for board in boards]
    for boards in zip(puzzles, solutions, strict=True)
  )
  answers = list(
    smoke.predict(oracle, ['# two', ','.join(first), ','.join(second)])
  )
  assert answers[:2] == ['', first[1]]
  wrong, _, accuracy = caplog.messages
  assert wrong.startswith('line 3: the answer breaks the rules after')
  assert accuracy.startswith('accuracy 50.0%') and '1 of 2' in accuracy
