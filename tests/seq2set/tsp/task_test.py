"""The tour task: orders of the output, metrics, and predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import tsp
from core.errors import UserError
from seq2set import cycles, point_sets
from seq2set.tsp import data, task
from tests import learning

ENCODERS = pytest.mark.parametrize(
  'encoder', ['pointer_network', 'read_process_write']
)
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], np.float32)


def make(arg='smoke', **changes):
  config = tsp.get_config(arg)
  config.update_from_flattened_dict({'data.num_sets': 300} | changes)
  return task.make_task(config)


def draw(arg):
  batch = learning.draw(make(arg), 200)
  points, targets = (np.asarray(x) for x in batch.values())
  assert targets.shape == (200, 5)
  return points, targets


@ENCODERS
@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_fixed_targets_are_counterclockwise(encoder, inputs):
  points, targets = draw(f'smoke,inputs={inputs},encoder={encoder}')
  tours = data.shortest_tours(points)
  if encoder == 'pointer_network':
    np.testing.assert_array_equal(targets, tours)
  else:
    first = np.take_along_axis(points[..., 0], targets, 1)[:, 0]
    np.testing.assert_array_equal(first, points[..., 0].min(1))
    assert cycles.are_same_cycles(targets, tours, 5).all()
    assert (cycles.signed_area(points, targets) > 0).all()
  order = point_sets.input_order(points, 'angle')
  is_sorted = (order == np.arange(5)).all()
  assert is_sorted == (inputs == 'angle')


@ENCODERS
def test_random_targets_are_the_same_tours_in_all_orders(encoder):
  points, targets = draw(f'smoke,outputs=random,encoder={encoder}')
  assert cycles.are_same_cycles(targets, data.shortest_tours(points), 5).all()
  assert set(targets[:, 0]) == set(range(5))
  assert (
    0.4 < (np.asarray(cycles.signed_area(points, targets)) > 0).mean() < 0.6
  )


def test_padding_has_no_effect_on_the_loss():
  made = make('smoke,min_points=3')
  model = made.make_model(nnx.Rngs(0))
  batch = learning.draw(made, 20)
  row = int(batch['mask'].sum(1).argmin())
  batch = jax.tree.map(lambda x: x[row : row + 1], batch)
  count = int(batch['mask'].sum())
  assert count < 5
  alone = {
    'points': batch['points'][:, :count],
    'targets': batch['targets'][:, :count],
  }
  losses = [made.loss(model, x, jax.random.key(0))[0] for x in (batch, alone)]
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


class Oracle(nnx.Module):
  """Knows the tours; 'error' swaps two points, 'repeat' visits one twice."""

  def __init__(self, failure=''):
    self.failure = failure

  def decode(self, points, *, length, mask=None, avoid_repeats=False, **_):
    if mask is None:
      mask = jnp.ones(points.shape[:2], bool)

    def solve(points, mask):
      rows = np.zeros((len(points), length), np.int32)
      for row, one, known in zip(rows, points, mask, strict=True):
        one = np.asarray(one)[np.asarray(known)]
        tour = data.shortest_tours(one[None])[0]
        if self.failure == 'error' and len(tour) > 3:
          tour[[1, 2]] = tour[[2, 1]]
        if self.failure == 'repeat' and not avoid_repeats:
          tour[2] = tour[1]
        row[: len(tour)] = tour
      return rows

    shape = jax.ShapeDtypeStruct((len(points), length), jnp.int32)
    return jax.pure_callback(solve, shape, points, mask), None


@pytest.mark.parametrize('failure', ['', 'error', 'repeat'])
def test_measures_of_an_oracle(failure):
  made = make(**{'evals.num_sets': 60})
  columns = made.arrays('test')
  metrics = learning.compiled(
    made.measure, Oracle(failure), columns | {'weight': np.ones(60)}
  )
  values = {name: float(metric.result()) for name, metric in metrics.items()}
  optimal = data.tour_lengths(columns['points'], columns['answer']).mean()
  assert values['accuracy'] == (not failure)
  assert values['valid'] == (failure != 'repeat')
  assert values['optimal_length'] == pytest.approx(optimal, rel=1e-5)
  if failure == 'error':
    assert values['length'] > 1.05 * optimal
    assert values['excess'] > 0.05
  else:
    assert values['length'] == pytest.approx(optimal, rel=1e-5)
    assert values['excess'] == pytest.approx(0, abs=1e-5)
  assert metrics['accuracy'].interval()['count'] == 60
  assert not metrics['length'].interval()


def test_padding_of_a_batch_has_no_weight():
  made = make(**{'evals.num_sets': 4})
  columns = {
    name: np.concatenate([column, np.zeros_like(column)])
    for name, column in made.arrays('test').items()
  }
  weight = np.repeat([1.0, 0.0], 4)
  model = made.make_model(nnx.Rngs(0))
  columns = jax.tree.map(jnp.asarray, columns | {'weight': weight})
  metrics = learning.compiled(made.measure, model, columns)
  for metric in metrics.values():
    assert metric.weight == 4 and np.isfinite(metric.result())


@ENCODERS
def test_an_untrained_network_writes_tours(encoder):
  made = make(f'smoke,encoder={encoder}', **{'evals.num_sets': 50})
  model = made.make_model(nnx.Rngs(0))
  columns = made.arrays('test') | {'weight': np.ones(50)}
  columns = jax.tree.map(jnp.asarray, columns)
  metrics = learning.compiled(made.measure, model, columns)
  assert metrics['valid'].result() < 1
  # Tours visit all points, so none is shorter than the shortest one.
  assert metrics['excess'].result() > 0
  line = ' '.join(f'{x:.3f}' for x in np.random.default_rng(0).random(14))
  (answer,) = made.predict(model, [line])
  *tour, last = map(int, answer.split())
  assert sorted(tour) == list(range(1, 8)) and tour[0] == last == 1


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_a_file_adds_an_evaluator(inputs, tmp_path):
  path = tmp_path / 'tours.txt'
  made = make(f'smoke,inputs={inputs}', **{'evals.source': str(path)})
  lines = []
  for count in 5, 9, 3:
    points = np.random.default_rng(count).random((1, count, 2))
    tour = data.shortest_tours(points)[0, ::-1]  # clockwise
    line = ' '.join(f'{x:.6f}' for x in points.ravel())
    answer = point_sets.format_answer(cycles.to_closed_cycle(tour))
    lines.append(f'{line} output {answer}')
  lines.append('0 0 1 1 0.5 0.5 output 1 2 3 1')  # on one line
  path.write_text('\n'.join(lines))
  columns = dict(made.evaluators()['source'].arrays())
  metrics = learning.compiled(
    made.measure, Oracle(), columns | {'weight': np.ones(4)}
  )
  assert metrics['accuracy'].result() == metrics['valid'].result() == 1
  assert metrics['excess'].result() == pytest.approx(0, abs=1e-5)
  path.write_text('0 0 1 0 0 1 1 1 output 1 2 3 1')
  with pytest.raises(UserError, match='line 1: .* leaves out 1 of 4 points'):
    made.evaluators()['source'].arrays()


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_predict_answers_in_the_order_of_the_line(inputs):
  made = make(f'smoke,inputs={inputs}')
  shuffled = 100 * SQUARE[[4, 2, 0, 3, 1]] - 7
  lines = [' '.join(f'{x}' for x in shuffled.ravel())]
  lines += ['0 0 2 2 1 1', '1 2', '1 1 1 1 1 1', '0 0 1 0 0 1 output 1 2 1']
  good, line, *bad = made.predict(Oracle(), lines)
  tour = np.array(list(map(int, good.split()))) - 1
  assert (tour[0], tour[-1]) == (0, 0)
  found, best = (
    data.tour_lengths(shuffled[None], x[None])
    for x in (tour[:-1], data.shortest_tours(shuffled[None])[0])
  )
  assert found == pytest.approx(best)
  assert line in ('1 2 3 1', '1 3 2 1')
  for error, why in zip(
    bad, ['2 numbers', 'points are the same', 'at least 3 points'], strict=True
  ):
    assert isinstance(error, UserError) and why in str(error)


def test_predict_compares_lengths(caplog):
  points = '0 0 3 0 3 1 0 1'
  lines = [f'{points} output 2 1 4 3 2', f'{points} output 1 3 2 4 1']
  assert set(make().predict(Oracle(), lines)) == {'1 2 3 4 1'}
  shorter, _, accuracy = caplog.messages
  assert shorter == ('line 2: the answer is 3.90% shorter than the known tour')
  assert accuracy.startswith('accuracy 50.0%')
  caplog.clear()
  list(make().predict(Oracle('error'), lines[:1]))
  assert 'longer than the known tour' in caplog.messages[0]


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='config.model.outputs'):
    make(**{'model.outputs': 'sorted'})
  with pytest.raises(
    UserError, match='num_points=2 is too small; use at least 3'
  ):
    make('smoke,num_points=2')


@pytest.mark.slow
@ENCODERS
def test_learns_one_batch(encoder):
  made = make(f'smoke,encoder={encoder}')
  without_gradient, _, metrics = learning.learn(made, learning.draw(made))
  assert not without_gradient
  assert metrics['accuracy_given_prefix'] == 1
