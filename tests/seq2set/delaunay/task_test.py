"""The Delaunay task: orders of the output, metrics, and predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import delaunay
from core.answers import Answer
from core.errors import UserError
from seq2set import point_sets
from seq2set.delaunay import data, task
from tests import learning

ENCODERS = pytest.mark.parametrize(
  'encoder', ['pointer_network', 'read_process_write']
)
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], np.float32)


def make(arg='smoke', **changes):
  config = delaunay.get_config(arg)
  config.update_from_flattened_dict({'data.num_sets': 300} | changes)
  return task.make_task(config)


def draw(arg):
  batch = learning.draw(make(arg), 200)
  for points, targets in zip(*batch.values(), strict=True):
    end = int((targets == 5).argmax())
    assert (targets[end:] == 5).all() and end % 3 == 0
    yield np.asarray(points), np.asarray(targets[:end]).reshape(-1, 3)


@ENCODERS
@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_targets_are_triangles_of_the_points_in_their_order(encoder, inputs):
  for points, triangles in draw(f'smoke,inputs={inputs},encoder={encoder}'):
    true = data.triangulate(points)
    np.testing.assert_array_equal(np.sort(triangles, 1), true)
    if encoder == 'pointer_network':
      np.testing.assert_array_equal(triangles, true)
    else:  # from left to right
      assert (np.diff(points[triangles][..., 0]) > 0).all()
    order = point_sets.input_order(points, 'angle')
    is_sorted = np.array_equal(order, np.arange(5))
    assert is_sorted or inputs == 'random'


def test_random_outputs_are_the_same_triangles_in_all_orders():
  places, is_same = set(), []
  for points, triangles in draw('smoke,outputs=random'):
    true = data.triangulate(points)
    assert set(map(tuple, triangles)) == set(map(tuple, true))
    is_same.append(np.array_equal(triangles, true))
    places.add(int((triangles == true[0]).all(1).argmax()))
  assert {0, 1, 2, 3} <= places and 0 < np.mean(is_same) < 0.5


def test_outputs_are_compared_with_the_triangulation():
  answer = jnp.array([[[0, 1, 2], [1, 2, 3], [5, 5, 5]]])
  for outputs, found, is_exact in [
    ((0, 1, 2, 1, 2, 3), (1, 1, 0), True),
    ((3, 1, 2, 2, 1, 0), (1, 1, 0), True),  # any order
    ((0, 1, 2), (1, 0, 0), False),
    ((0, 1, 2, 1, 2), (1, 0, 0), False),
    ((0, 1, 2, 1, 2, 3, 4), (1, 1, 0), False),
    ((0, 1, 2, 1, 2, 3, 0, 1, 2), (1, 1, 0), False),  # twice
    ((0, 1, 2, 1, 2, 3, 0, 1, 4), (1, 1, 0), False),
    ((4, 0, 1, 2, 1, 2), (0, 0, 0), False),
    ((0, 1, 2, 1, 2, 2), (1, 0, 0), False),
    ((), (0, 0, 0), False),
  ]:
    written = jnp.array([[*outputs, *[5] * (10 - len(outputs))]])
    is_found, exact = task.compare(written, answer, 5)
    assert (tuple(is_found[0].tolist()), bool(exact[0])) == (found, is_exact)
  later = jnp.array([[0, 1, 2, 5, 1, 2, 3, 5, 5, 5]])  # nothing after the stop
  assert task.compare(later, answer, 5)[0].sum() == 1
  full = jnp.array([[0, 1, 2, 1, 2, 3, 0, 1, 3, 2]])  # never stops
  assert not task.compare(full, answer, 5)[1][0]


class Oracle(nnx.Module):
  """Knows the triangulations, or goes wrong after the first triangle."""

  def __init__(self, errs=False):
    self.errs = errs

  def decode(self, points, *, length, mask=None, **_):
    if mask is None:
      mask = jnp.ones(points.shape[:2], bool)

    def triangulate(points, mask):
      rows = np.full((len(points), length), points.shape[1], np.int32)
      for row, one, known in zip(rows, points, mask, strict=True):
        outputs = data.triangulate(np.asarray(one)[np.asarray(known)]).ravel()
        if self.errs:
          outputs = [*outputs[:3], *outputs[:3], 0, 0, 1, 2]
        row[: len(outputs)] = outputs
      return rows

    shape = jax.ShapeDtypeStruct((len(points), length), jnp.int32)
    return jax.pure_callback(triangulate, shape, points, mask), None


@pytest.mark.parametrize('errs', [False, True])
def test_measures_of_an_oracle(errs):
  made = make(**{'evals.num_sets': 60})
  columns = made.arrays('test')
  counts = (columns['answer'][..., 0] < 5).sum(1)
  assert set(counts) == {3, 4, 5}
  metrics = learning.compiled(
    made.measure, Oracle(errs), columns | {'weight': np.ones(60)}
  )
  assert float(metrics['accuracy'].result()) == (not errs)
  assert metrics['accuracy'].interval()['count'] == 60
  coverage = 60 / counts.sum() if errs else 1
  assert metrics['coverage'].result() == pytest.approx(coverage)


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_a_file_adds_an_evaluator(inputs, tmp_path):
  path = tmp_path / 'triangles.txt'
  made = make(f'smoke,inputs={inputs}', **{'evals.source': str(path)})
  lines = []
  for count in 5, 9, 3:
    points = np.random.default_rng(count).random((count, 2))
    answer = point_sets.format_answer(data.triangulate(points)[::-1].ravel())
    line = ' '.join(f'{x:.6f}' for x in points.ravel())
    lines.append(f'{line} output {answer}')
  path.write_text('\n'.join(lines))
  columns = dict(made.evaluators()['source'].arrays())
  metrics = learning.compiled(
    made.measure, Oracle(), columns | {'weight': np.ones(3)}
  )
  assert metrics['accuracy'].result() == metrics['coverage'].result() == 1
  assert 'source' not in make().evaluators()


def test_measures_and_answers_use_the_beam():
  made = make(**{'evals.num_sets': 4, 'evals.beam': 3})
  beams = []

  class Recorder(Oracle):
    def decode(self, points, *, beam, **options):
      beams.append(beam)
      return super().decode(points, **options)

  made.measure(Recorder(), made.arrays('test') | {'weight': np.ones(4)})
  list(made.predict(Recorder(), ['0 0 1 0 0 1']))
  assert beams == [3, 3]


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_predict_answers_in_the_order_of_the_line(inputs):
  made = make(f'smoke,inputs={inputs}')
  shuffled = SQUARE[[4, 2, 0, 3, 1]]
  line = ' '.join(f'{x}' for x in shuffled.ravel())
  good, bad = made.predict(Oracle(), [line, '1 2'])
  triples = {good[n : n + 5] for n in range(0, len(good), 6)}
  assert triples == {'1 3 4', '1 3 5', '1 2 4', '1 2 5'}
  assert isinstance(bad, UserError)


def test_predict_omits_invalid_triangles(caplog):
  made = make()
  (answer,) = made.predict(Oracle(errs=True), ['0 0 1 0 0 1 1 1.2'])
  assert len(answer.split()) == 3
  assert caplog.records[0].message == (
    'line 1: the answer does not cover the convex hull and leaves out 7 outputs'
    ' that are not new triangles'
  )
  none = made.finish(SQUARE.astype(float), np.array([], int))
  assert none == Answer('', 'has no triangles')


def test_predict_scores_lines_with_answers(caplog):
  line = '5e5 5e5 500001 5e5 5e5 500001 500001 500001.2 output {}'
  lines = [line.format(x) for x in ('1 2 3 2 3 4', '4 3 2 3 2 1', '1 2 3')]
  assert len(set(make().predict(Oracle(), lines))) == 1
  wrong, _, accuracy = caplog.messages
  assert wrong.startswith('line 3: ')
  assert accuracy.startswith('accuracy 66.7%') and '2 of 3' in accuracy


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='config.model.outputs'):
    make(**{'model.outputs': 'sorted'})
  with pytest.raises(
    UserError, match='num_points=2 is too small; use at least 3'
  ):
    make('smoke,num_points=2')


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
