"""Scenes as text: what is read, and what is refused."""

import json

import numpy as np
import pytest

from core.errors import UserError
from rrn.pretty_clevr import data


def scene(**changes):
  objects = [
    {'x': k / 10, 'y': 0.5, 'colour': colour, 'shape': shape}
    for k, (colour, shape) in enumerate(
      zip(data.COLOURS, data.SHAPES[::-1], strict=True)
    )
  ]
  return {'objects': objects, 'question': ['red', 3]} | changes


def test_parse_sorts_objects_by_shape():
  parsed = data.parse(json.dumps(scene()))
  np.testing.assert_array_equal(parsed['colours'], np.arange(8)[::-1])
  np.testing.assert_allclose(parsed['positions'][:, 0], np.arange(8)[::-1] / 10)
  assert parsed['anchor'] == 2 and parsed['jumps'] == 3
  shape = data.parse(json.dumps(scene(question=['cross', 0])))
  assert shape['anchor'] == 15


def test_answer_by_hand():
  positions = np.stack([np.arange(8.0) ** 2, np.zeros(8)], -1)  # 0 1 4 9 ...
  colours = np.arange(8)[::-1]
  assert [data.answer(positions, colours, 8, n) for n in range(8)] == [
    *range(7, -1, -1)
  ]
  assert data.answer(positions, colours, 2, 0) == 8 + 5
  # From 9 to 4 to 1 to 0, and only then back over all to 16.
  assert data.answer(positions, colours, 8 + 3, 4) == colours[4]


def changed(index, **changes):
  objects = scene()['objects']
  objects[index] |= changes
  return scene(objects=objects)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ('{"objects": [', 'no JSON'),
    ('[' * 100_000, 'no JSON'),
    (f'[{"9" * 5000}]', 'no JSON'),
    ([], 'expected {"objects"'),
    ({'objects': []}, 'expected {"objects"'),
    (scene(objects=scene()['objects'][:7]), '8 expected, 7 found'),
    (scene(objects=3), '8 expected, no list found'),
    (scene(objects=[1] * 8), 'object 1: expected as in'),
    (changed(2, colour='pink'), "object 3: colour 'pink' is none of blue, "),
    (changed(2, shape=['plus']), r"object 3: shape \['plus'\] is none of"),
    (changed(2, colour='blue'), 'object 3: a second blue object'),
    (changed(2, shape='cross'), 'object 3: a second cross'),
    (changed(2, x='left'), "object 3: x is 'left'; a number expected"),
    (changed(2, y=float('nan')), 'object 3: y is nan'),
    (changed(2, y=None), 'object 3: y is None'),
    (scene(question=['red', 8]), '0 to 7 jumps expected, not 8'),
    (scene(question=['red', 1.0]), '0 to 7 jumps expected, not 1.0'),
    (scene(question=['pink', 1]), "anchor 'pink' is none of"),
    (scene(question='red'), '"question": expected as in'),
  ],
)
def test_parse_says_what_is_wrong(value, message):
  line = value if isinstance(value, str) else json.dumps(value)
  with pytest.raises(UserError, match=message) as error:
    data.parse(line)
  assert '\n' not in str(error.value)
