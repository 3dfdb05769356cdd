"""Tests of grids, shortest paths, and mazes as text."""

import numpy as np
import pytest
from scipy.sparse import csgraph

from core.errors import UserError
from rrn.mazes import data

MAZE = """\
#######
#S  # #
### # #
#     #
# #####
#    G#
#######
"""
SOLVED = """\
#######
#S..# #
###.# #
#...  #
#.#####
#....G#
#######
"""


def parse(text=MAZE):
  return data.parse(text.splitlines())


def to_matrix(passages):
  """Return the distances of adjacent cells, [N, N], and 0 for all others."""
  height, width, _ = passages.shape
  cells = np.arange(height * width).reshape(height, width)
  matrix = np.zeros((cells.size, cells.size))
  for first, second, is_open in (
    (cells[:, :-1], cells[:, 1:], passages[:, :-1, 0]),
    (cells[:-1], cells[1:], passages[:-1, :, 1]),
  ):
    matrix[first[is_open], second[is_open]] = 1
  return matrix + matrix.T


def draw_with_cycles(rng, height=5, width=6):
  """Draw passages with probability 0.7, and two ends."""
  passages = rng.random((height, width, 2)) < 0.7
  passages[:, -1, 0] = passages[-1, :, 1] = False
  ends = np.zeros(height * width, bool)
  ends[rng.choice(height * width, 2, replace=False)] = True
  return passages, ends.reshape(height, width)


def test_parse_by_hand():
  maze = parse()
  np.testing.assert_array_equal(
    maze.passages[..., 0], [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
  )
  np.testing.assert_array_equal(
    maze.passages[..., 1], [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
  )
  np.testing.assert_array_equal(np.argwhere(maze.ends), [[0, 0], [2, 2]])
  path, length = data.shortest_path(maze.passages, maze.ends)
  assert length == maze.length == 6
  assert '\n'.join(data.mark(maze, path)) == SOLVED.strip()
  assert parse(SOLVED).rows == maze.rows


def test_neighbors_by_hand():
  cells, is_inside = data.neighbors(2, 3)
  inside = [list(row[keep]) for row, keep in zip(cells, is_inside, strict=True)]
  assert inside == [[1, 3], [0, 2, 4], [1, 5], [0, 4], [1, 3, 5], [2, 4]]
  assert (cells[~is_inside] == 0).all()


def test_shortest_paths_match_scipy():
  rng = np.random.default_rng(0)
  lengths = []
  for _ in range(100):
    passages, ends = draw_with_cycles(rng)
    path, length = data.shortest_path(passages, ends)
    start, goal = np.flatnonzero(ends)
    distances = csgraph.shortest_path(
      to_matrix(passages), unweighted=True, indices=[start, goal]
    )
    lengths.append(length)
    if length < 0:
      assert np.isinf(distances[0, goal]) and not path.any()
    else:
      assert length == distances[0, goal]
      np.testing.assert_array_equal(path.ravel(), distances.sum(0) == length)
  assert min(lengths) == -1 and max(lengths) > 6


def test_text_round_trip():
  rng = np.random.default_rng(0)
  for _ in range(20):
    passages, ends = draw_with_cycles(rng)
    if data.shortest_path(passages, ends)[1] < 0:
      continue
    maze = data.parse(data.to_rows(passages, ends))
    np.testing.assert_array_equal(maze.passages, passages)
    np.testing.assert_array_equal(maze.ends, ends)


@pytest.mark.parametrize(
  ('old', 'new', 'line', 'message'),
  [
    ('#S  # #', '#S  # ', 2, 'the row has 6 characters, and the first row has'),
    ('#S  # #', '#S x# #', 2, "character 'x'; expected # for a wall, a space"),
    ('#S  # #\n', '', 1, '6 rows of 7 characters; expected 2 H [+] 1 rows'),
    ('S', ' ', 1, 'the maze has 0 S and 1 G; expected one of each, in cells'),
    ('S', 'G', 1, 'the maze has 0 S and 2 G'),
    ('#S  # #', '# S # #', 1, 'the maze has 1 S and 1 G; expected one'),
    ('#S  # #', '#S  #  ', 2, "character 7 is ' '; expected #, .* the border"),
    ('### # #', '##  # #', 3, 'character 3 .* a corner of four cells'),
    ('#S  # #', '#S# # #', 1, 'no path connects S and G'),
    ('#S  # #', '#S ## #', 2, 'character 4 is #; expected a space, .* a cell'),
  ],
)
def test_parse_says_what_is_wrong(old, new, line, message):
  assert old in MAZE
  with pytest.raises(UserError, match=message) as error:
    parse(MAZE.replace(old, new, 1))
  assert '\n' not in str(error.value) and error.value.line == line


def test_lines_become_mazes_errors_and_nothing():
  bad = MAZE.replace('G', ' ')
  text = f'# A comment.\n\n{MAZE}\n{bad}\n\n# Wider mazes: none.\n{MAZE}'
  read = list(data.read_mazes(text.splitlines(keepends=True)))
  kinds = [type(item).__name__ for item in read]
  nothing = ['NoneType']
  assert kinds == (
    2 * nothing + ['Maze'] + nothing + ['UserError'] + 9 * nothing + ['Maze']
  )
  assert [read[k].line for k in (2, 4, -1)] == [3, 11, 21]


def test_failures_name_what_is_wrong():
  maze = parse(MAZE.replace('# #####', '# # ###'))  # with a cycle
  path, _ = data.shortest_path(maze.passages, maze.ends)
  assert data.find_failure(maze, path) == ''
  extra, missing, longer = path.copy(), path.copy(), np.ones((3, 3), bool)
  extra[0, 2] = True
  missing[1, 1] = False
  assert 'has cells that are not' in data.find_failure(maze, extra)
  assert data.find_failure(maze, missing) == 'does not connect S and G'
  longer[0, 2] = longer[1, 2] = False
  assert 'has cells that are not' in data.find_failure(maze, longer)
  longer[1, 1] = False
  assert data.find_failure(maze, longer) == 'does not connect S and G'


def test_longer_paths_are_a_failure():
  open_maze = data.parse(['#####', '#S G#', '# # #', '#   #', '#####'])
  square = np.ones((2, 2), bool)
  assert 'has cells' in data.find_failure(open_maze, square)
  ring = data.parse(['#######', '#S   G#', '# ### #', '#     #', '#######'])
  around = np.array([[1, 0, 1], [1, 1, 1]], bool)
  assert data.find_failure(ring, around) == (
    'has 4 moves; the shortest path has 2'
  )
