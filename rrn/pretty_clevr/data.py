"""Parse and answer Pretty-CLEVR questions with NumPy.

A scene has eight objects with different shapes and different colors; object k
has shape k. A question names one object, the anchor, by its color or its shape,
and a number of jumps. Each jump leads to the nearest object that has not been
visited yet. The answer describes the object at the end: by its shape if the
anchor is a color, by its color if the anchor is a shape.

Positions lie in the unit square, 0 to 1, with y pointing up. Symbols 0 to 7 are
the colors, and 8 to 15 the shapes.
"""

import json

import numpy as np

from core.errors import UserError

# In the paper's order: matplotlib's 'b g r c m y k gray' and 'o v ^ < > s P X'.
COLORS = (
  'blue',
  'green',
  'red',
  'cyan',
  'magenta',
  'yellow',
  'black',
  'gray',
)
SHAPES = (
  'circle',
  'triangle_down',
  'triangle_up',
  'triangle_left',
  'triangle_right',
  'square',
  'plus',
  'cross',
)
SYMBOLS = COLORS + SHAPES
NUM_OBJECTS = 8
MAX_JUMPS = NUM_OBJECTS - 1
MIN_DISTANCE = 0.1  # between any two objects of a scene

_EXAMPLE = (
  '{"objects": [{"x": 0.1, "y": 0.9, "color": "red", "shape": "circle"}, ...],'
  ' "question": ["red", 3]}'
)


def answer(positions, colors, anchor, jumps) -> int:
  """Answer one question by the rules in the module docstring.

  Args:
    positions: coordinates of the objects, [8, 2].
    colors: color of each object, [8].
    anchor: symbol of the anchor.
    jumps: number of jumps, 0 to 7.

  Returns:
    The symbol of the answer.
  """
  is_color = anchor < NUM_OBJECTS
  here = list(colors).index(anchor) if is_color else anchor - NUM_OBJECTS
  unvisited = set(range(NUM_OBJECTS)) - {here}
  for _ in range(jumps):
    here = min(
      unvisited, key=lambda k: np.hypot(*(positions[k] - positions[here]))
    )
    unvisited.remove(here)
  return NUM_OBJECTS + here if is_color else int(colors[here])


def parse(line: str) -> dict[str, np.ndarray]:
  """Parse a scene and a question from one line of JSON.

  The objects may come in any order and may be closer than `MIN_DISTANCE`.

  Returns:
    'positions' float32 [8, 2] and 'colors' int32 [8], sorted by shape; 'anchor'
    and 'jumps', int32 scalars; and 'answer', an int32 scalar: the symbol that
    the line gives as "answer", or else the one that the rules give.

  Raises:
    UserError: the line does not describe a scene and a question.
  """
  try:
    scene = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise UserError(f'not JSON ({error}); expected {_EXAMPLE}') from None
  if not isinstance(scene, dict) or not {'objects', 'question'} <= set(scene):
    raise UserError(f'expected {_EXAMPLE}')
  objects = scene['objects']
  if not isinstance(objects, list) or len(objects) != NUM_OBJECTS:
    is_list = isinstance(objects, list)
    found = f'has {len(objects)} objects' if is_list else 'is not a list'
    raise UserError(
      f'"objects" {found}; expected a list of {NUM_OBJECTS} objects, one of'
      ' each shape'
    )
  positions = np.empty((NUM_OBJECTS, 2), np.float32)
  colors = np.full(NUM_OBJECTS, -1, np.int32)
  for number, item in enumerate(objects, start=1):
    place = f'object {number}'
    if not isinstance(item, dict):
      raise UserError(f'{place} is not an object; expected {_EXAMPLE}')
    shape = _index(item.get('shape'), SHAPES, f'{place}: shape')
    name = item.get('color', item.get('colour'))
    color = _index(name, COLORS, f'{place}: color')
    if colors[shape] >= 0:
      raise UserError(
        f'{place} is a second {SHAPES[shape]}; expected eight different shapes'
      )
    if color in colors:
      raise UserError(
        f'{place} is a second {COLORS[color]} object; expected eight different'
        ' colors'
      )
    colors[shape] = color
    positions[shape] = [_coordinate(item.get(c), c, place) for c in 'xy']
  question = _parse_question(scene['question'])
  expected = answer(positions, colors, **question)
  if 'answer' in scene:
    names = SHAPES if question['anchor'] < NUM_OBJECTS else COLORS
    _index(scene['answer'], names, '"answer"')
    expected = SYMBOLS.index(scene['answer'])
  return {
    'positions': positions,
    'colors': colors,
    **question,
    'answer': np.array(expected, np.int32),
  }


def _parse_question(question) -> dict[str, np.ndarray]:
  if not isinstance(question, list) or len(question) != 2:
    raise UserError(
      f'"question" is {str(question)[:40]}; expected an anchor and a number of'
      ' jumps, such as ["red", 3]'
    )
  anchor, jumps = question
  if type(jumps) is not int or not 0 <= jumps <= MAX_JUMPS:
    raise UserError(
      f'"question" has {str(jumps)[:40]} jumps; expected a whole number from 0'
      f' to {MAX_JUMPS}'
    )
  return {
    'anchor': np.array(_index(anchor, SYMBOLS, '"question": anchor'), np.int32),
    'jumps': np.array(jumps, np.int32),
  }


def _index(name, names: tuple[str, ...], what: str) -> int:
  if name not in names:
    raise UserError(
      f'{what} is {repr(name)[:40]}; expected one of {", ".join(names)}'
    )
  return names.index(name)


def _coordinate(value, name: str, place: str) -> float:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not 0 <= value <= 1:  # also rejects NaN
    raise UserError(
      f'{place}: {name} is {repr(value)[:40]}; expected a number from 0 to 1:'
      ' divide pixels by the longer side of the picture, and replace'
      ' coordinates from -1 to 1 by (x + 1) / 2'
    )
  return float(value)
