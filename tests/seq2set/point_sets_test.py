"""Points are sampled, ordered, rescaled and padded; lines are parsed."""

import numpy as np
import pytest

from core.errors import UserError
from seq2set import point_sets

LINE = '0.1 0.2 0.9 0.1 0.5 0.8 0.5 0.3 output 1 2 3 1'


def load(path, read_answer=lambda indices, count: indices, inputs='random'):
  return point_sets.load(
    str(path), read_answer, inputs, distribution='uniform', keep_angles=False
  )


def test_points_are_drawn_by_seed():
  for distribution, low in ('uniform', 0), ('normal', -1):
    a, b, c = (
      point_sets.draw(np.random.default_rng(seed), 50, 7, distribution)
      for seed in (0, 0, 1)
    )
    assert a.shape == (50, 7, 2) and a.dtype == np.float32
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert (a.min() < low) == (distribution == 'normal')


def test_angles_increase_around_the_mean():
  points = point_sets.draw(np.random.default_rng(0), 1, 9, 'normal')[0]
  order = point_sets.input_order(points, 'angle')
  x, y = (points[order] - points.mean(0)).T
  assert (np.diff(np.arctan2(y, x)) > 0).all()
  np.testing.assert_array_equal(
    point_sets.input_order(points, 'random'), np.arange(9)
  )


@pytest.mark.parametrize('keep_angles', [False, True])
def test_rescale_removes_position_and_scale(keep_angles):
  points = point_sets.draw(np.random.default_rng(0), 1, 9, 'uniform')[0]
  for distribution in point_sets.DISTRIBUTIONS:
    one, other, wide = (
      point_sets.rescale(x, distribution, keep_angles=keep_angles)
      for x in (points, 50 * points - 7, points * [3, 1])
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.allclose(one, wide, atol=1e-5) != keep_angles
  one = point_sets.rescale(points, 'uniform', keep_angles=keep_angles)
  assert one.min() >= 0 and one.max() == pytest.approx(1)
  if keep_angles:  # the figures are geometrically similar
    ratio = (one - one[0])[1:] / (points - points[0])[1:]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_text_format_round_trips():
  points, indices = point_sets.parse(LINE)
  np.testing.assert_allclose(points[1], [0.9, 0.1])
  assert points.shape == (4, 2)
  np.testing.assert_array_equal(indices, [0, 1, 2, 0])
  assert point_sets.format_answer(indices) == '1 2 3 1'
  assert point_sets.parse(LINE.partition('output')[0])[1] is None


@pytest.mark.parametrize(
  'line, why',
  [
    ('', '0 numbers'),
    ('1 2 3 4', '4 numbers'),
    ('1 2 3 4 5 6 7', '7 numbers'),
    ('0 0 1 1 x 1', "'x' is not a number"),
    ('0 0 1 1 nan 1', 'not finite'),
    ('0 0 1e300 1 0 1', 'too large'),
    ('0 0 1 0 0 1 output 1 2 4 1', 'indices from 1 to 3'),
    ('0 0 1 0 0 1 output 0 1 2', 'indices from 1 to 3'),
    ('0 0 1 0 0 1 output', 'indices from 1 to 3'),
  ],
)
def test_bad_lines(line, why):
  with pytest.raises(UserError, match=why):
    point_sets.parse(line)


@pytest.mark.parametrize('inputs', point_sets.INPUTS)
def test_files_may_mix_set_sizes(tmp_path, inputs):
  path = tmp_path / 'sets.txt'
  path.write_text(f'{LINE}\n0 1 0 0 1 0 output 2 3 1 2\n')
  columns = load(path, lambda indices, count: indices[:-1], inputs)
  points, mask, answer = (columns[x] for x in ('points', 'mask', 'answer'))
  assert points.shape == (2, 4, 2) and answer.dtype == np.uint8
  np.testing.assert_array_equal(mask.sum(1), [4, 3])
  assert mask[1, :3].all()
  # The answers select the same points in the new order.
  np.testing.assert_allclose(
    points[0][answer[0]], [[0.1, 0.2], [0.9, 0.1], [0.5, 0.8]]
  )
  np.testing.assert_allclose(points[1][answer[1]], [[0, 0], [1, 0], [0, 1]])
  if inputs == 'random':
    np.testing.assert_array_equal(answer, [[0, 1, 2], [1, 2, 0]])


def test_answers_are_padded_with_the_stop():
  padded = point_sets.pad_answers([np.array([0, 1]), np.array([2, 1, 0])], 300)
  assert padded.dtype == np.uint16
  np.testing.assert_array_equal(padded, [[0, 1, 300], [2, 1, 0]])


def test_bad_files_are_named(tmp_path):
  path = tmp_path / 'sets.txt'
  for text, why in [
    (f'{LINE}\n0 0 1\n', 'sets.txt, line 2: 3 numbers'),
    ('0 1 0 0 1 0', "line 1: .* not followed by 'output'"),
    ('', 'has no sets'),
    ('# comment\n\n', 'has no sets'),
  ]:
    path.write_text(text)
    with pytest.raises(UserError, match=why):
      load(path)
  with pytest.raises(UserError, match='config.evals.source=.*No such file'):
    load(tmp_path / 'none')


TRIANGLE = np.array([[0.0, 0], [3, 0], [1, 2]])
LARGE = np.array([649776.2, 4649776.2])


@pytest.mark.parametrize(
  'scale, offset',
  [(1, 0), (1e-7, 0), (0.01, 5e5), (1, LARGE), (1e90, 0), (1e-90, 0)],
)
def test_collinearity_depends_on_neither_unit_nor_position(scale, offset):
  for points, is_on_line in (
    (TRIANGLE, False),
    (np.array([[0.0, 0], [1, 3], [2, 6], [5, 15]]), True),
    (np.array([[0.0, 0], [1, 1], [1, 1]]), True),
  ):
    words = (scale * points + offset).ravel().astype(str)
    assert point_sets.is_collinear(scale * points + offset) == is_on_line
    if is_on_line:
      with pytest.raises(UserError, match='lie on one line'):
        point_sets.parse(' '.join(words))
    else:
      point_sets.parse(' '.join(words))


def test_thin_triangles_are_not_collinear():
  point_sets.parse('0 0 1 0 0 0.0000005')
  with pytest.raises(UserError, match='lie on one line'):
    point_sets.parse('0 0 1 0 0 1e-15')
  with pytest.raises(UserError, match='lie on one line'):
    point_sets.parse('0.1 0.3 0.2 0.6 0.3 0.9')  # up to rounding


@pytest.mark.parametrize('keep_angles', [False, True])
def test_large_coordinates_are_rescaled_without_loss(keep_angles):
  near, far = (
    point_sets.rescale(x, 'uniform', keep_angles=keep_angles)
    for x in (TRIANGLE, TRIANGLE + LARGE)
  )
  np.testing.assert_allclose(near, far, atol=1e-5)


def test_files_outside_of_the_training_range_are_rescaled(tmp_path):
  path = tmp_path / 'sets.txt'
  inside = '0.1 0.2 0.9 0.1 0.5 0.8'
  path.write_text(f'{inside} output 1 2 3 1')
  points = load(path)['points'][0]
  np.testing.assert_allclose(points.ravel(), np.array(inside.split(), float))
  corner = np.tile([0.9, 0.1], 3)  # tiny sets lie far from the diagonal
  for scale, offset in (1e-6, 0), (1e-2, corner), (1000, 0), (1, 649776):
    numbers = scale * np.array(inside.split(), float) + offset
    words = ' '.join(f'{x:.9f}' for x in numbers)
    path.write_text(f'{words} output 1 2 3 1')
    points = load(path)['points'][0]
    assert points.min() == pytest.approx(0, abs=1e-6)
    assert points.max() == pytest.approx(1)


def test_files_may_have_a_bom_comments_and_odd_separators(tmp_path):
  path = tmp_path / 'sets.txt'
  text = f'\ufeff# hulls\x85 of mine\r\n{LINE}\r\n\n# end \u2028'
  path.write_bytes(text.encode())
  assert load(path)['points'].shape == (1, 4, 2)
  path.write_text(f'# one\n\n{LINE}\n0 0 1\n')
  with pytest.raises(UserError, match='line 4: 3 numbers'):
    load(path)
