"""The hull task: orders of input and output, and what counts as a hull."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import convex_hull
from core.errors import UserError
from seq2set import cycles, point_sets
from seq2set.convex_hull import data, task
from tests import learning

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], np.float32)


def make(arg='smoke', **changes):
  config = convex_hull.get_config(arg)
  config.update_from_flattened_dict({'data.num_sets': 300} | changes)
  return task.make_task(config)


def draw(made, size=200):
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  batch = made.batch(jax.random.key(0), arrays, size=size, step=0)
  return jax.tree.map(np.asarray, batch)


def corners_of(targets):
  return targets[: (targets == 5).argmax()]


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_targets_are_hulls_of_the_points_in_their_order(inputs):
  batch = draw(make(f'smoke,inputs={inputs}'))
  for points, targets in zip(*batch.values(), strict=True):
    corners = corners_of(targets)
    assert (targets[len(corners) :] == 5).all() and len(targets) == 6
    np.testing.assert_array_equal(corners, data.convex_hull(points))
    if inputs == 'angle':
      x, y = (points - points.mean(0)).T
      assert (np.diff(np.arctan2(y, x)) > 0).all()


def test_random_starts_give_the_same_hulls_from_all_corners():
  batch = draw(make('smoke,start=random'))
  starts, directions = set(), set()
  for points, targets in zip(*batch.values(), strict=True):
    corners, hull = corners_of(targets), data.convex_hull(points)
    place = np.argmax(corners == hull[0])
    forward = np.roll(corners, -place)
    backward = np.roll(corners[::-1], -np.argmax(corners[::-1] == hull[0]))
    is_forward = np.array_equal(forward, hull)
    assert is_forward or np.array_equal(backward, hull)
    starts.add(int(place))
    directions.add(is_forward)
  assert len(starts) >= 4 and directions == {True, False}


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_a_leftmost_start_is_geometric(inputs):
  batch = draw(make(f'smoke,inputs={inputs},start=leftmost'))
  for points, targets in zip(*batch.values(), strict=True):
    corners = corners_of(targets)
    assert points[corners[0], 0] == points[:, 0].min()
    hull = data.convex_hull(points)
    place = np.argmax(hull == corners[0])
    np.testing.assert_array_equal(corners, np.roll(hull, -place))


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_sets_may_differ_in_size(inputs):
  made = make(f'smoke,inputs={inputs},min_points=3,num_points=9')
  batch = draw(made)
  for mask, points, targets in zip(*batch.values(), strict=True):
    count = mask.sum()
    assert mask[:count].all() and (points[~mask] == 0).all()
    corners = targets[: (targets == 9).argmax()]
    np.testing.assert_array_equal(corners, data.convex_hull(points[:count]))
  assert set(batch['mask'].sum(1)) == set(range(3, 10))
  evaluators = made.evaluators()
  assert list(evaluators) == ['validation', 'test', 'test_5_points']
  columns = evaluators['test_5_points'].arrays()
  assert columns['points'].shape[1] == 5 and 'mask' not in columns


def test_padding_has_no_effect_on_the_loss():
  made = make('smoke,encoder=set_transformer,min_points=3,num_points=9')
  model = made.make_model(nnx.Rngs(0))
  batch = jax.tree.map(lambda x: jnp.asarray(x[:1]), draw(made))
  count = batch['mask'].sum()
  assert count < 9
  targets = batch['targets']
  alone = {
    'points': batch['points'][:, :count],
    'targets': jnp.where(targets == 9, count, targets),
  }
  losses = [made.loss(model, x, jax.random.key(0))[0] for x in (batch, alone)]
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def outputs(*corners):
  return jnp.array([[*corners, *[5] * (6 - len(corners))]])


def test_area_and_simple_polygons():
  points = SQUARE[None]
  for corners, area, simple in [
    ((0, 1, 2, 3), 1, True),
    ((3, 2, 1, 0), -1, True),
    ((0, 1, 2), 0.5, True),
    ((0, 1, 4, 2, 3), 0.75, True),
    ((0, 2, 1, 3), 0, False),  # crosses itself
    ((0, 1, 2, 2), 0.5, False),
    ((0, 1), 0, False),
  ]:
    given = outputs(*corners)
    assert cycles.signed_area(points, given)[0] == pytest.approx(area)
    assert task.is_simple_polygon(points, given)[0] == simple


class Oracle(nnx.Module):
  """Knows the hulls, or leaves out their last corner."""

  def __init__(self, forgets=False):
    self.forgets = forgets

  def decode(self, points, *, length, mask=None, **_):
    if mask is None:
      mask = jnp.ones(points.shape[:2], bool)

    def hulls(points, mask):
      rows = np.full((len(points), length), length - 1, np.int32)
      for row, one, known in zip(rows, points, mask, strict=True):
        one = np.asarray(one)[np.asarray(known)]
        corners = data.convex_hull(one)[: -1 if self.forgets else None]
        row[: len(corners)] = corners
      return rows

    shape = jax.ShapeDtypeStruct((len(points), length), jnp.int32)
    return jax.pure_callback(hulls, shape, points, mask), None


def test_measures_of_an_oracle():
  made = make(**{'evals.num_sets': 60})
  columns = made.arrays('test')
  batch = columns | {'weight': np.ones(60)}
  for forgets in False, True:
    metrics = learning.compiled(made.measure, Oracle(forgets), batch)
    values = {name: m.result() for name, m in metrics.items()}
    assert float(values['accuracy']) == (not forgets)
    if forgets:
      assert values['simple'] < 1 and 0.2 < values['area'] < 0.9
    else:
      assert values['simple'] == 1
      assert values['area'] == pytest.approx(1, abs=1e-4)


def test_answers_of_a_file_may_be_clockwise_or_without_area():
  line = np.array([[0, 0], [0.5, 0.5], [1, 1], [0, 1], [0.2, 0.8]], np.float32)
  answers = (3, 2, 1, 0), (0, 1, 2)
  batch = {
    'points': jnp.stack([SQUARE, line]),
    'answer': jnp.concatenate([outputs(*corners) for corners in answers]),
    'weight': jnp.ones(2),
  }
  area = learning.compiled(make().measure, Oracle(), batch)['area']
  assert area.result() == pytest.approx(1) and area.weight == 1


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_a_file_adds_an_evaluator(inputs, tmp_path):
  path = tmp_path / 'hulls.txt'
  made = make(f'smoke,inputs={inputs}', **{'evals.source': str(path)})
  lines = []
  for count in 5, 9, 3:
    points = np.random.default_rng(count).random((count, 2))
    hull = data.convex_hull(points)
    line = ' '.join(f'{x:.6f}' for x in points.ravel())
    answer = point_sets.format_answer([*hull, hull[0]])
    lines.append(f'{line} output {answer}')
  path.write_text('\n'.join(lines))
  columns = dict(made.evaluators()['source'].arrays())
  metrics = learning.compiled(
    made.measure, Oracle(), columns | {'weight': np.ones(3)}
  )
  assert metrics['accuracy'].result() == 1
  assert metrics['area'].result() == pytest.approx(1, abs=1e-4)
  assert 'source' not in make().evaluators()


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_predict_answers_in_the_order_of_the_line(inputs):
  made = make(f'smoke,inputs={inputs}')
  shuffled = SQUARE[[4, 2, 0, 3, 1]]
  line = ' '.join(f'{x}' for x in shuffled.ravel())
  good, bad = made.predict(Oracle(), [line, '1 2'])
  assert good == '2 4 3 5 2'
  assert isinstance(bad, UserError)


def test_predict_rescales_points_and_names_failures(caplog):
  made = make()
  model = made.make_model(nnx.Rngs(0))
  lines = [
    ' '.join(f'{x:.4f}' for x in points.ravel())
    for points in (SQUARE, 100 * SQUARE - 7, SQUARE * [3, 1])
  ]
  assert len(set(made.predict(model, lines))) == 1
  caplog.clear()
  list(made.predict(Oracle(forgets=True), ['', '0 0 1 0 0 1', *lines]))
  assert 'line 2: the answer has fewer than 3 corners' in caplog.text
  assert 'line 3: the answer leaves 1 of 5 points outside' in caplog.text
  assert '4 of 4 answers' in caplog.text


def test_predict_scores_lines_with_answers(caplog):
  triangle = '0 0 1e-7 0 0 1e-7 output {}'
  lines = [triangle.format('2 3 1 2'), '# none', triangle.format('1 3 2 1')]
  lines.append('0 0 9 0 9 9 0 9 output 1 2 3 1')
  answers = list(make().predict(Oracle(), lines))
  assert answers == ['1 2 3 1', '', '1 2 3 1', '1 2 3 4 1']
  wrong, _, accuracy = caplog.messages
  assert wrong.startswith('line 4: ')
  assert accuracy.startswith('accuracy 66.7%') and '2 of 3' in accuracy


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='config.model.inputs'):
    make(**{'model.inputs': 'sorted'})
  with pytest.raises(UserError, match='config.data.distribution'):
    make(**{'data.distribution': 'gaussian'})
  with pytest.raises(
    UserError, match='num_points=2 is too small; use at least 3'
  ):
    make('smoke,num_points=2')
  with pytest.raises(UserError, match='min_points=6: expected at least 3 and'):
    make('smoke,min_points=6')
  with pytest.raises(UserError, match='config.evals.beam=0'):
    make(**{'evals.beam': 0})


@pytest.mark.slow
@pytest.mark.parametrize(
  'encoder',
  [
    'pointer_network',
    'read_process_write',
  ],
)
def test_learns_one_batch(encoder):
  made = make(f'smoke,encoder={encoder}')
  without_gradient, _, metrics = learning.learn(made, learning.draw(made))
  assert not without_gradient
  assert metrics['accuracy_given_prefix'] == 1
