"""Grids, shortest paths, and mazes as text, with NumPy and SciPy.

A maze is a grid of cells. Two adjacent cells are connected if there is a
passage between them; otherwise, a wall separates them. 'passages' bool
[H, W, 2] tells for each cell whether there is a passage to the cell on its
right (0) and to the cell below (1). 'ends' bool [H, W] marks two cells, the
start and the goal. 'path' bool [H, W] marks the cells on a shortest path
between them, including both ends. Drawn mazes have exactly one path.

As text, a maze of H x W cells has 2 H + 1 rows of 2 W + 1 characters. `#` is a
wall, a space or `.` is open, and `S` and `G` are the start and the goal:

  #######
  #S  # #
  ### # #
  #     #
  # #####
  #    G#
  #######
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from core.errors import UserError

WALL, OPEN, MARK = '#', ' ', '.'
_CHARACTERS = '# .SG'
_FORMAT = 'expected 2 H + 1 rows of 2 W + 1 characters for H x W cells'


@dataclasses.dataclass(frozen=True, eq=False)
class Maze:
  """A maze, and how the input writes it.

  Attributes:
    line: number of its first line, from 1.
    rows: the lines, with a space in place of each `.`.
    passages: bool [H, W, 2], see the module docstring.
    ends: bool [H, W].
    length: number of moves on a shortest path.
  """

  line: int
  rows: tuple[str, ...]
  passages: np.ndarray
  ends: np.ndarray
  length: int


def neighbors(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Return the cells above, left, right, and below of each cell of a grid.

  Returns:
    int [N, 4], with cells numbered row by row, and bool [N, 4], which is False
    outside of the grid. There, the cell is 0.
  """
  row, column = np.divmod(np.arange(height * width), width)
  is_inside = np.stack(
    [row > 0, column > 0, column < width - 1, row < height - 1], -1
  )
  shifts = np.array([-width, -1, 1, width])
  cells = np.arange(height * width)[:, None] + shifts
  return np.where(is_inside, cells, 0), is_inside


def shortest_path(
  passages: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, int]:
  """Return 'path', bool [H, W], with all cells on any shortest path.

  Also return the number of moves. If the ends are not connected, no cell is on
  a path, and the number is -1.
  """
  start, goal = np.flatnonzero(ends)
  from_start, from_goal = csgraph.dijkstra(
    _graph(passages), directed=False, unweighted=True, indices=[start, goal]
  )
  length = from_start[goal]
  if np.isinf(length):
    return np.zeros_like(ends), -1
  return (from_start + from_goal == length).reshape(ends.shape), int(length)


def _graph(passages: np.ndarray) -> sparse.csr_array:
  """Return the adjacency matrix [N, N], with one entry for each passage."""
  height, width, _ = passages.shape
  first, side = np.nonzero(passages.reshape(-1, 2))
  second = first + np.where(side == 0, 1, width)
  ones = np.ones(len(first))
  return sparse.csr_array((ones, (first, second)), shape=(height * width,) * 2)


def read_mazes(lines: Iterable[str]) -> Iterator[Maze | UserError | None]:
  """Read mazes, which blank lines separate.

  Yields:
    For the first line of a maze, a Maze or a UserError with the number of a
    bad line. For each further line of a bad maze, each blank line, and each
    comment, None. A comment starts with `#`, has characters that no maze has,
    and stands outside of mazes.
  """
  rows, first = [], 1
  for number, line in enumerate(lines, start=1):
    row = line.rstrip()
    is_comment = not rows and _is_comment(row)
    if row and not is_comment:
      rows.append(row)
      continue
    yield from _finish(rows, first)
    yield None
    rows, first = [], number + 1
  yield from _finish(rows, first)


def _is_comment(row: str) -> bool:
  return row.startswith('#') and not set(row) <= set(_CHARACTERS)


def _finish(rows: list[str], first: int) -> Iterator[Maze | UserError | None]:
  if not rows:
    return
  try:
    yield parse(rows, first)
  except UserError as error:
    yield error
    yield from [None] * (len(rows) - 1)


def parse(rows: Iterable[str], line: int = 1) -> Maze:
  """Read one maze; see the module docstring.

  Args:
    rows: its lines, without line ends.
    line: number of its first line, for errors.

  Raises:
    UserError: the rows are not a maze with a path.
  """
  rows = tuple(row.replace(MARK, OPEN) for row in rows)
  _check_rows(rows, line)
  text = np.array([list(row) for row in rows])
  is_open = text != WALL
  ends = (text == 'S') | (text == 'G')
  counts = [int((text == letter).sum()) for letter in 'SG']
  if counts != [1, 1] or ends[1::2, 1::2].sum() != 2:
    raise UserError(
      f'the maze has {counts[0]} S and {counts[1]} G; expected one of each, in'
      ' cells: characters 2, 4, 6, ... of rows 2, 4, 6, ...',
      line=line,
    )
  inner = is_open[1:-1, 1:-1]
  passages = np.zeros((*inner[::2, ::2].shape, 2), bool)
  passages[:, :-1, 0] = inner[::2, 1::2]
  passages[:-1, :, 1] = inner[1::2, ::2]
  ends = ends[1::2, 1::2]
  _, length = shortest_path(passages, ends)
  if length < 0:
    raise UserError('no path connects S and G', line=line)
  return Maze(line, rows, passages, ends, length)


def _check_rows(rows: tuple[str, ...], line: int):
  """Raise UserError unless the rows have walls and cells in their places."""
  width = len(rows[0])
  for number, row in enumerate(rows, start=line):
    if len(row) != width:
      raise UserError(
        f'the row has {len(row)} characters, and the first row has {width};'
        f' {_FORMAT}',
        line=number,
      )
    if bad := sorted(set(row) - set(_CHARACTERS)):
      raise UserError(
        f'character {bad[0]!r}; expected # for a wall, a space, S, or G',
        line=number,
      )
  height = len(rows)
  if min(height, width) < 3 or height % 2 == 0 or width % 2 == 0:
    raise UserError(
      f'{height} rows of {width} characters; {_FORMAT}', line=line
    )
  for y, row in enumerate(rows):
    for x, character in enumerate(row):
      is_border = y in (0, height - 1) or x in (0, width - 1)
      is_cell = y % 2 == x % 2 == 1
      is_post = y % 2 == x % 2 == 0
      if (is_border or is_post) and character != WALL:
        what = 'the border' if is_border else 'a corner of four cells'
        raise UserError(
          f'character {x + 1} is {character!r}; expected #, because it is in'
          f' {what}',
          line=line + y,
        )
      if is_cell and character == WALL:
        raise UserError(
          f'character {x + 1} is #; expected a space, because it is a cell',
          line=line + y,
        )


def to_rows(passages: np.ndarray, ends: np.ndarray) -> list[str]:
  """Write a maze as text; the first end is the start."""
  height, width = ends.shape
  text = np.full((2 * height + 1, 2 * width + 1), WALL)
  text[1::2, 1::2] = OPEN
  inner = text[1:-1, 1:-1]
  inner[::2, 1::2][passages[:, :-1, 0]] = OPEN
  inner[1::2, ::2][passages[:-1, :, 1]] = OPEN
  for letter, (row, column) in zip('SG', np.argwhere(ends), strict=True):
    inner[2 * row, 2 * column] = letter
  return [''.join(row) for row in text]


def mark(maze: Maze, path: np.ndarray) -> list[str]:
  """Return the rows of a maze with dots on a path, bool [H, W]."""
  text = np.array([list(row) for row in maze.rows])
  is_marked = np.zeros(text.shape, bool)
  inner = is_marked[1:-1, 1:-1]
  inner[::2, ::2] = path
  inner[::2, 1::2] = path[:, :-1] & path[:, 1:]
  inner[1::2, ::2] = path[:-1] & path[1:]
  text[is_marked & (text == OPEN)] = MARK
  return [''.join(row) for row in text]


def find_failure(maze: Maze, marked: np.ndarray) -> str:
  """Return what is wrong with marked cells, bool [H, W], as a verb phrase.

  Returns:
    '' if they are the cells of one shortest path.
  """
  passages = maze.passages & marked[..., None]
  passages[:, :-1, 0] &= marked[:, 1:]
  passages[:-1, :, 1] &= marked[1:]
  path, length = shortest_path(passages, maze.ends)
  if length < 0:
    return 'does not connect S and G'
  if marked.sum() > path.sum() or path.sum() > length + 1:
    return 'has cells that are not on its path'
  if length > maze.length:
    return f'has {length} moves; the shortest path has {maze.length}'
  return ''
