"""Tests of the maze task: batches, carried mazes, measures, predictions."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.rrn import mazes
from core import step
from core.errors import UserError
from rrn.mazes import data, predict, task
from tests import learning
from tests.rrn.mazes.data_test import MAZE, SOLVED


def make(**changes):
  config = mazes.get_config('smoke')
  config.update_from_flattened_dict(
    {'evals.num_mazes': 8, 'model.width': 8} | changes
  )
  return task.make_task(config)


def draw(made, size=8, seed=0):
  return made.batch(jax.random.key(seed), {}, size=size, step=jnp.asarray(0))


class Oracle(nnx.Module):
  """Fills dead ends, one cell per step, so that only the path remains."""

  def init_states(self, ends):
    return jnp.ones(ends.shape, bool)

  def advance(self, passages, ends, states, *, num_steps):
    def step(marked, _):
      senders = predict.make_graph(*ends.shape[1:]).senders
      flat = marked.reshape(len(marked), -1)
      count = (flat[:, senders] & predict.passage_mask(passages)).sum(-1)
      marked &= (count.reshape(marked.shape) > 1) | ends
      return marked, jnp.where(marked, 1.0, -1.0)

    return jax.lax.scan(step, states, length=num_steps)


def test_the_sets_differ():
  evaluators = make(**{'evals.maze_sizes': (5, 7)}).evaluators()
  assert list(evaluators) == ['test/size_5', 'test/size_7', 'validation']
  sets = {name: e.arrays() for name, e in evaluators.items()}
  assert sets['test/size_7']['ends'].shape == (8, 7, 7)
  trained = draw(make(), size=200)
  names = set()
  for columns in trained, sets['validation'], sets['test/size_5']:
    flat = np.concatenate(
      [np.reshape(columns[k], (len(columns[k]), -1)) for k in sorted(columns)],
      axis=1,
    )
    names |= {row.tobytes() for row in flat}
  assert len(names) == 216


def test_measures_of_an_oracle():
  made = make(**{'evals.max_steps': (8, 64)})
  for name, evaluator in made.evaluators().items():
    columns = evaluator.arrays() | {'weight': np.ones(8, np.float32)}
    measured = learning.compiled(
      lambda model, batch, e=evaluator: e.measure(model, batch),
      Oracle(),
      jax.tree.map(jnp.asarray, columns),
    )
    last = 64 if name == 'test/size_7' else 8
    assert f'steps_{2 * last}/solved' not in measured
    values = {k: float(m.result()) for k, m in measured.items()}
    if last == 64:
      assert values['steps_64/solved'] == values['steps_64/cells'] == 1
      assert values['steps_8/solved'] < values['steps_16/solved']
      assert measured['steps_64/solved'].interval()['count'] == 8
    assert values['steps_8/cells'] > 0.5


def test_mazes_are_carried_until_they_are_done():
  made = make(**{'model.num_steps': 2, 'model.mean_steps': 4})
  model = made.make_model(nnx.Rngs(0))
  carry, ages = made.init_carry(jax.random.key(0), 8), np.zeros(8, int)
  assert carry['is_done'].all()
  loss = jax.jit(made.loss)
  for seed in range(6):
    batch = draw(made, seed=seed)
    value, metrics, after = loss(model, batch, jax.random.key(seed), carry)
    assert np.isfinite(value) and metrics['cells'].weight == 8 * 25
    is_done = np.asarray(carry['is_done'])
    ages = np.where(is_done, 2, ages + 2)
    for name in 'passages', 'ends', 'path':
      for row in range(8):
        source = batch if is_done[row] else carry
        np.testing.assert_array_equal(after[name][row], source[name][row])
    carry = after
  assert ages.max() > 4 > ages.min()
  for age in set(ages.tolist()):
    states, _ = jax.jit(model.advance, static_argnames='num_steps')(
      carry['passages'],
      carry['ends'],
      model.init_states(carry['ends']),
      num_steps=age,
    )
    np.testing.assert_allclose(
      carry['states'][0][ages == age], states[0][ages == age], atol=1e-5
    )


def test_figures_show_all_sizes():
  made = make(**{'evals.maze_sizes': (5, 7), 'evals.max_steps': (16, 32)})
  values = {
    f'test/size_{size}/steps_{steps}/solved': steps / 32
    for size, last in ((5, 16), (7, 32))
    for steps in task.step_counts(last)
  }
  (figure,) = made.figures(values).values()
  (axes,) = figure.axes
  assert [line.get_label() for line in axes.lines] == ['5 x 5', '7 x 7']
  assert list(axes.lines[1].get_xdata()) == [8, 16, 32]


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'evals.max_steps': (8,)}, 'evals.max_steps=.*expected 2 numbers'),
    ({'evals.max_steps': (4, 8)}, 'whole numbers of at least 8'),
    ({'evals.maze_sizes': (1, 5)}, 'evals.maze_sizes=.*at least 2'),
    ({'data.maze_size': 1}, 'data.maze_size=1: expected at least 2'),
    ({'model.num_steps': 0}, 'num_steps=0'),
  ],
)
def test_settings_out_of_range(changes, message):
  with pytest.raises(UserError, match=message):
    make(**changes)


def test_predict_marks_paths_line_by_line():
  bad = MAZE.replace('S', ' ')
  square = '#####\n#S G#\n# ###\n#   #\n#####'
  text = f'# Mazes.\n{MAZE}\n{bad}\n\n{square}\n\n{MAZE}'
  lines = text.splitlines(keepends=True)
  answers = list(make().predict(Oracle(), lines))
  assert len(answers) == len(lines)
  error = answers.pop(9)
  assert isinstance(error, UserError) and error.line == 10
  assert '0 S' in str(error)
  dotted = square.replace('S G', 'S.G')
  expected = '\n'.join(['', SOLVED, *[''] * 8, dotted, '', SOLVED.strip()])
  assert '\n'.join(answers) == expected
  again = make().predict(Oracle(), SOLVED.splitlines())
  assert '\n'.join(again) == SOLVED.strip()


def test_predict_names_wrong_answers(caplog):
  ring = ['#######', '#S   G#', '# ### #', '#     #', '#######']
  with caplog.at_level(logging.WARNING):
    answers = list(make().predict(Oracle(), ring))
  assert answers[1] == '#S...G#' and answers[3] == '#.....#'
  assert caplog.messages[0] == (
    'line 1: the answer has cells that are not on its path'
  )
  assert caplog.messages[-1].startswith('accuracy 0.0%')


def test_paths_are_recognized():
  maze = data.parse(MAZE.splitlines())
  path, _ = data.shortest_path(maze.passages, maze.ends)
  marked = np.stack([path, path, path, ~path])
  marked[1, 1, 1] = False
  marked[2, 0, 2] = True
  is_path = predict.is_path(
    *(
      jnp.asarray(x)
      for x in (
        marked,
        np.stack(4 * [maze.passages]),
        np.stack(4 * [maze.ends]),
      )
    )
  )
  assert is_path.tolist() == [True, False, False, False]


def test_every_parameter_has_a_gradient():
  made = make()
  merge = step.make_merge(made)
  params = nnx.to_pure_dict(nnx.state(made.make_model(nnx.Rngs(0)), nnx.Param))
  batch, carry = draw(made), made.init_carry(jax.random.key(0), 8)

  def loss(params):
    return made.loss(merge(params), batch, jax.random.key(0), carry)[0]

  for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params)):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
