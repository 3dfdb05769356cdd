"""Pretty-CLEVR in NumPy: names, scenes as text, and questions answered plainly.

A scene has eight objects, one of each shape and one of each colour: object k
has shape k. A question names an object by its colour or its shape, the anchor,
and a number of jumps; each jump goes to the nearest object not yet visited.
The answer is the object reached: its shape if the anchor is a colour, its
colour if the anchor is a shape.

Symbols: 0 to 7 are the colours, 8 to 15 the shapes.
"""

import json

import numpy as np

from core.errors import UserError

# matplotlib's 'b g r c m y k gray' and 'o v ^ < > s P X', in the paper's order.
COLOURS = (
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
SYMBOLS = COLOURS + SHAPES
NUM_OBJECTS = 8
MAX_JUMPS = NUM_OBJECTS - 1
MIN_DISTANCE = 0.1  # between any two objects of a scene

_EXAMPLE = '{"objects": [{"x": 0.1, "y": 0.9, "colour": "red", "shape":'
_EXAMPLE += ' "circle"}, ...], "question": ["red", 3]}'


def answer(positions, colours, anchor, jumps) -> int:
  """Answers one question, as the module says.

  Args:
    positions: [8, 2].
    colours: [8], the colour of each object.
    anchor: a symbol.
    jumps: 0 to 7.

  Returns:
    A symbol.
  """
  is_colour = anchor < NUM_OBJECTS
  here = list(colours).index(anchor) if is_colour else anchor - NUM_OBJECTS
  left = set(range(NUM_OBJECTS)) - {here}
  for _ in range(jumps):
    here = min(left, key=lambda k: np.hypot(*(positions[k] - positions[here])))
    left.remove(here)
  return NUM_OBJECTS + here if is_colour else int(colours[here])


def parse(line: str) -> dict[str, np.ndarray]:
  """Reads a scene and a question from one line of JSON.

  The objects may come in any order; they may lie closer than `MIN_DISTANCE`
  and outside the unit square.

  Returns:
    'positions' float32 [8, 2] and 'colours' int32 [8], objects sorted by shape;
    'anchor' and 'jumps', int32 scalars.

  Raises:
    UserError: it is no such line; the text says what is wrong.
  """
  try:
    scene = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise UserError(f'no JSON ({error}); expected {_EXAMPLE}') from None
  if not isinstance(scene, dict) or not {'objects', 'question'} <= set(scene):
    raise UserError(f'expected {_EXAMPLE}')
  objects = scene['objects']
  if not isinstance(objects, list) or len(objects) != NUM_OBJECTS:
    found = len(objects) if isinstance(objects, list) else 'no list'
    raise UserError(f'"objects": {NUM_OBJECTS} expected, {found} found')
  positions = np.empty((NUM_OBJECTS, 2), np.float32)
  colours = np.full(NUM_OBJECTS, -1, np.int32)
  for number, item in enumerate(objects, start=1):
    place = f'object {number}'
    if not isinstance(item, dict):
      raise UserError(f'{place}: expected as in {_EXAMPLE}')
    shape = _index(item.get('shape'), SHAPES, f'{place}: shape')
    colour = _index(item.get('colour'), COLOURS, f'{place}: colour')
    if colours[shape] >= 0:
      raise UserError(f'{place}: a second {SHAPES[shape]}')
    if colour in colours:
      raise UserError(f'{place}: a second {COLOURS[colour]} object')
    colours[shape] = colour
    positions[shape] = [_coordinate(item.get(c), c, place) for c in 'xy']
  return {
    'positions': positions,
    'colours': colours,
    **_parse_question(scene['question']),
  }


def _parse_question(question) -> dict[str, np.ndarray]:
  if not isinstance(question, list) or len(question) != 2:
    raise UserError('"question": expected as in ["red", 3]')
  anchor, jumps = question
  if type(jumps) is not int or not 0 <= jumps <= MAX_JUMPS:
    raise UserError(f'"question": 0 to {MAX_JUMPS} jumps expected, not {jumps}')
  return {
    'anchor': np.array(_index(anchor, SYMBOLS, '"question": anchor'), np.int32),
    'jumps': np.array(jumps, np.int32),
  }


def _index(name, names: tuple[str, ...], what: str) -> int:
  if name not in names:
    raise UserError(f'{what} {name!r} is none of {", ".join(names)}')
  return names.index(name)


def _coordinate(value, name: str, place: str) -> float:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not abs(value) < 1e3:  # false for NaN as well
    raise UserError(f'{place}: {name} is {value!r}; a number expected')
  return value
