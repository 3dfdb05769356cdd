"""Tests of parsing and answering Pretty-CLEVR questions."""

import json

import numpy as np
import pytest

from core.errors import UserError
from rrn.pretty_clevr import data


def scene(**changes):
  objects = [
    {'x': k / 10, 'y': 0.5, 'color': color, 'shape': shape}
    for k, (color, shape) in enumerate(
      zip(data.COLORS, data.SHAPES[::-1], strict=True)
    )
  ]
  return {'objects': objects, 'question': ['red', 3]} | changes


def test_parse_sorts_objects_by_shape():
  parsed = data.parse(json.dumps(scene()))
  np.testing.assert_array_equal(parsed['colors'], np.arange(8)[::-1])
  np.testing.assert_allclose(parsed['positions'][:, 0], np.arange(8)[::-1] / 10)
  assert parsed['anchor'] == 2 and parsed['jumps'] == 3
  shape = data.parse(json.dumps(scene(question=['cross', 0])))
  assert shape['anchor'] == 15


def test_answer_by_hand():
  positions = np.stack([np.arange(8.0) ** 2, np.zeros(8)], -1)  # 0 1 4 9 ...
  colors = np.arange(8)[::-1]
  assert [data.answer(positions, colors, 8, n) for n in range(8)] == [
    *range(7, -1, -1)
  ]
  assert data.answer(positions, colors, 2, 0) == 8 + 5
  # From 9 to 4, 1, and 0, and only then all the way back to 16.
  assert data.answer(positions, colors, 8 + 3, 4) == colors[4]


def test_a_given_answer_overrides_the_rules():
  # From red (0.2) to green (0.1), blue (0.0), and cyan (0.3).
  assert data.parse(json.dumps(scene()))['answer'] == data.SYMBOLS.index(
    data.SHAPES[7 - 3]
  )
  given = data.parse(json.dumps(scene(answer='circle')))
  assert given['answer'] == data.SYMBOLS.index('circle')


def test_both_spellings_of_color():
  british = json.dumps(scene()).replace('"color"', '"colour"')
  for name, value in data.parse(british).items():
    np.testing.assert_array_equal(value, data.parse(json.dumps(scene()))[name])


def test_corners_of_the_unit_square():
  parsed = data.parse(json.dumps(changed(0, x=1, y=0)))
  np.testing.assert_array_equal(parsed['positions'][-1], [1, 0])


def changed(index, **changes):
  objects = scene()['objects']
  objects[index] |= changes
  return scene(objects=objects)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ('{"objects": [', 'not JSON'),
    ('[' * 100_000, 'not JSON'),
    (f'[{"9" * 5000}]', 'not JSON'),
    ([], 'expected {"objects"'),
    ({'objects': []}, 'expected {"objects"'),
    (
      scene(objects=scene()['objects'][:7]),
      'has 7 objects; expected a list of 8',
    ),
    (scene(objects=3), 'is not a list; expected a list of 8'),
    (scene(objects=[1] * 8), 'object 1 is not an object'),
    (
      changed(2, color='pink'),
      "object 3: color is 'pink'; expected one of blue",
    ),
    (changed(2, shape=['plus']), r"object 3: shape is \['plus'\]; expected"),
    (changed(2, color='blue'), 'object 3 is a second blue object'),
    (changed(2, shape='cross'), 'object 3 is a second cross'),
    (
      changed(2, x='left'),
      "object 3: x is 'left'; expected a number from 0 to 1",
    ),
    (changed(2, y=float('nan')), 'object 3: y is nan'),
    (changed(2, y=None), 'object 3: y is None'),
    (
      scene(question=['red', 8]),
      'has 8 jumps; expected a whole number from 0 to 7',
    ),
    (scene(question=['red', 1.0]), 'has 1.0 jumps; expected a whole number'),
    (scene(question=['pink', 1]), "anchor is 'pink'; expected one of"),
    (scene(question='red'), '"question" is red; expected an anchor'),
    (changed(2, x=12.8), r'x is 12.8; .* divide pixels by the longer side'),
    (changed(2, y=-0.5), r'y is -0.5; .* from -1 to 1 by .x \+ 1. / 2'),
    (changed(2, y=1.5), 'y is 1.5; expected a number from 0 to 1'),
    (scene(answer='red'), '"answer" is \'red\'; expected one of circle'),
  ],
)
def test_parse_says_what_is_wrong(value, message):
  line = value if isinstance(value, str) else json.dumps(value)
  with pytest.raises(UserError, match=message) as error:
    data.parse(line)
  assert '\n' not in str(error.value)
