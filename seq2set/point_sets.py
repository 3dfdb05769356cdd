"""Sets of points in the plane, in NumPy: drawn, or read from text.

A line of text is a set: coordinates, and where it is known `output` and the
answer, indices of points from 1. It is the format of the Pointer Networks'
authors (Vinyals, Fortunato, Jaitly 2015); an experiment says what the indices
mean, here the corners of the convex hull:

  0.1 0.2 0.9 0.1 0.5 0.8 0.5 0.3 output 1 2 3 1
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from core.errors import UserError

MAX_POINTS = 500
DISTRIBUTIONS = 'uniform', 'normal'  # in the unit square; around 0
INPUTS = 'random', 'angle'  # order of the points: none; around their mean


def draw(
  rng: np.random.Generator, count: int, num_points: int, distribution: str
) -> np.ndarray:
  """Draws sets of points, float32 [count, N, 2]."""
  shape = count, num_points, 2
  if distribution == 'uniform':
    return rng.random(shape, np.float32)
  return rng.standard_normal(shape, np.float32)


def input_order(points: np.ndarray, inputs: str) -> np.ndarray:
  """The indices of points [..., N, 2] in the order of `INPUTS` to read them."""
  if inputs == 'random':
    return np.broadcast_to(np.arange(points.shape[-2]), points.shape[:-1])
  x, y = np.moveaxis(points - points.mean(-2, keepdims=True), -1, 0)
  return np.argsort(np.arctan2(y, x))


def spread(
  points: np.ndarray, distribution: str, *, keep_angles: bool
) -> np.ndarray:
  """Maps points [N, 2] to where networks are trained, in float32.

  Unless angles are kept, each axis is scaled by itself.
  """
  if distribution == 'uniform':
    middle, scale = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0)
    centre = 0.5
  else:
    middle, scale, centre = points.mean(0), points.std(0), 0.0
  if keep_angles:
    scale = scale.max()
  return ((points - middle) / scale + centre).astype(np.float32)


def pad(rows: Sequence[np.ndarray], value: int | float, dtype) -> np.ndarray:
  """Stacks rows [k, ...] of several lengths, filled up with `value`."""
  shape = len(rows), max(map(len, rows)), *rows[0].shape[1:]
  padded = np.full(shape, value, dtype)
  for row, values in zip(padded, rows, strict=True):
    row[: len(values)] = values
  return padded


def pad_answers(answers: Sequence[np.ndarray], num_points: int) -> np.ndarray:
  """Stacks answers, filled up with N; of the smallest unsigned type."""
  return pad(answers, num_points, np.min_scalar_type(num_points))


def parse(line: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads a line: points, float32 [N, 2], and indices from 0 if it has any.

  Raises:
    UserError: it is no such line; the text says what is wrong.
  """
  before, has_output, after = line.partition('output')
  numbers = [_number(word) for word in before.split()]
  if len(numbers) % 2 or not 6 <= len(numbers) <= 2 * MAX_POINTS:
    raise UserError(
      f'{len(numbers)} numbers; x and y of 3 to {MAX_POINTS} points expected'
    )
  points = np.array(numbers, np.float32).reshape(-1, 2)
  if np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2:
    raise UserError('the points are all on one line')
  if not has_output:
    return points, None
  known = {str(1 + index): index for index in range(len(points))}
  words = after.split()
  if not words or not known.keys() >= set(words):
    raise UserError(
      f'output {after.strip()[:40]!r}: indices from 1 to {len(points)} expected'
    )
  return points, np.array([known[word] for word in words])


def format_answer(indices: Iterable[int]) -> str:
  """Indices of points as in the text format: from 1."""
  return ' '.join(str(1 + index) for index in indices)


def load(
  path: str, read_answer: Callable[[np.ndarray], np.ndarray], inputs: str
) -> dict[str, np.ndarray]:
  """Reads a file of sets of any sizes, all with answers, points as they stand.

  Args:
    path: of the file.
    read_answer: an answer, indices of points in any shape, from those of a
      line; raises UserError.
    inputs: one of `INPUTS`.

  Returns:
    'points' [n, N, 2], N the most of a set; 'mask' [n, N], False where there is
    no point; 'answer' [n, ...], filled up with N.

  Raises:
    UserError: no such file, no line in it, or a bad one, which is named.
  """
  sets, answers = [], []
  try:
    lines = pathlib.Path(path).expanduser().read_text('utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'config.evals.source={path!r}: {error}') from error
  for number, line in enumerate(lines, start=1):
    try:
      points, indices = parse(line)
      if indices is None:
        raise UserError("no 'output' and answer behind the points")
      answer = read_answer(indices)
    except UserError as error:
      raise UserError(f'{path}, line {number}: {error}') from error
    order = input_order(points, inputs)
    sets.append(points[order])
    answers.append(np.argsort(order)[answer])
  if not sets:
    raise UserError(f'{path} has no lines')
  sizes = np.array([len(points) for points in sets])
  return {
    'points': pad(sets, 0, np.float32),
    'mask': np.arange(sizes.max()) < sizes[:, None],
    'answer': pad_answers(answers, sizes.max()),
  }


def _number(word: str) -> float:
  try:
    number = float(word)
  except ValueError:
    raise UserError(f'{word[:40]!r} is no number') from None
  if not abs(number) < 1e6:
    raise UserError(f'{word[:40]!r} is too large, or not finite')
  return number
