"""Read Sudoku puzzles in common text formats.

A puzzle of side n is one line of n * n symbols, or n lines of n symbols. The
reader detects the format, and one input may mix several:

- One puzzle per line (`.sdm`, benchmark lists), with or without other fields
  such as a rating, and CSV with or without a header and solutions.
- Grids of n lines, with or without rulers, bars, and blank lines between bands
  of boxes. In `.sdk` files, only the section [Puzzle] is read.

An empty cell is one of `0.*_-`, or a space in a line of exactly n * n
characters. Boards over 9 x 9 have symbols such as 1-9A-G, A-P, or 0-9A-F (for
16 x 16). A board that fits several of these is an error.
"""

import dataclasses
import math
import re
import statistics
import string
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from core.errors import UserError, check_choice
from rrn.sudoku import data

# Named after boards of 16 x 16; a board of side n has the first n symbols.
ALPHABETS = {
  '1-G': '123456789' + string.ascii_uppercase,
  'A-P': string.ascii_uppercase,
  '0-F': string.digits + string.ascii_uppercase,
}
SYMBOLS = 'auto', *ALPHABETS  # values of config.evals.symbols

_SIDES = range(4, 26)
_EMPTY = frozenset('.*_-')
_EMPTY_OR_0 = _EMPTY | {'0'}  # 0 can be a symbol
_SECTION = re.compile(r'\s*\[\s*([A-Za-z]+)\s*\]\s*')
_HEADER = re.compile(
  r'(?!.*[\d.*_-]{10}).*\b(puzzle|quiz|question|sudoku|board|grid|problem'
  r'|solution|answer)(s|zes)?\b',
  re.IGNORECASE,
)
_DAMAGED_ROW = re.compile('[0-9A-Za-z.*_-]{2,25}')
_SEPARATORS = re.compile('[\\s|,;"\'()\\[\\]\u2502\u2503\u2551]+')
# Only marks: at least one that no row has, or dashes with dots or stars.
_RULER = re.compile(
  r"(?=.*([+=:'\u2500\u2501\u2504-\u2550\u2552-\u257f]|-.*[.*]|[.*].*-))"
  r"[-+=:'.*|\s\u2500-\u257f]+"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """A puzzle, and how the input writes it."""

  line: int  # its first line, from 1
  puzzle: np.ndarray  # int8 [N]; 0 is an empty cell
  box: data.Box
  units: np.ndarray  # int [U, n], the cells of each unit
  symbols: str  # the symbols of the digits 1 to n
  solution: np.ndarray | None = None  # int8 [N], if the input has it


def read_puzzles(
  lines: Iterable[str],
  *,
  box: data.Box | None = None,
  units: np.ndarray | None = None,
  symbols: str = 'auto',
) -> Iterator[Problem | UserError | None]:
  """Read puzzles; yield each one as soon as its last line is read.

  Args:
    lines: lines of text, with or without line ends.
    box: the boxes of every puzzle. None allows all sizes: a line of 16 symbols
      is a 4 x 4 puzzle if it fits 1 to 4, otherwise a row; likewise for 25.
    units: cells of each unit. None selects rows, columns, and boxes.
    symbols: symbols of boards over 9 x 9, one of `SYMBOLS`.

  Yields:
    A Problem for each puzzle, or a UserError with its line; None for a line
    outside of puzzles (comment, header, blank), and nothing for rulers.
  """
  check_choice('config.evals.symbols', symbols, SYMBOLS)
  reader = _Reader(box, units, symbols)
  for number, line in enumerate(lines, start=1):
    yield from reader.read(number, line.removeprefix('\ufeff').rstrip('\r\n'))
  yield from reader.close()


def format_board(
  board: np.ndarray, symbols: str = ALPHABETS['1-G'], empty: str = '.'
) -> str:
  """Return a board [N] as one line of text."""
  return ''.join((empty + symbols)[digit] for digit in board)


def diagnose(problem: Problem) -> str | None:
  """Return 'no solution', 'more than one solution', or None for one solution.

  Boards over 12 x 12 always give None, because solving them can take too long.
  """
  if math.prod(problem.box) > 12:
    return None
  _, counts = data.solve(problem.puzzle[None], limit=2, units=problem.units)
  return ('no solution', None, 'more than one solution')[counts[0]]


class _Reader:
  """Reads lines one by one, and keeps the rows of an unfinished grid."""

  def __init__(self, box: data.Box | None, units, symbols: str):
    self.box, self.units = box, units
    self.side = math.prod(box) if box else 0  # 0: any
    self.symbols = symbols
    self.is_skipping = False  # inside a section that is not [Puzzle]
    self.rows = []  # (line, symbols)
    self.num_above = 0  # rows above the last blank line
    self.is_lost = False  # whether more bands of a damaged grid may follow

  def read(
    self, number: int, text: str
  ) -> Iterator[Problem | UserError | None]:
    """Read the next line, and yield as `read_puzzles` does."""
    if section := _SECTION.fullmatch(text):
      self.is_skipping = section[1].lower() != 'puzzle'
    if not text.strip():
      self.is_skipping = False
      if self._may_be_between_bands():
        self.num_above = len(self.rows)
      else:
        self.is_lost = self._is_grid()
        yield from self._give_up()
        yield None
    elif section or self.is_skipping or text.lstrip().startswith('#'):
      yield from self.close()
      yield None
    elif not self._is_ruler(text):
      yield from self._read_symbols(number, text)

  def close(self) -> Iterator[UserError]:
    """End the grid before a line that cannot be one of its rows."""
    yield from self._give_up()
    self.is_lost = False

  def _give_up(self) -> Iterator[UserError]:
    rows, side = self.rows, self._width()
    if self._is_grid():
      message = f'{len(rows)} rows of length {side}; expected {side} rows'
      if len(rows) == 1:
        message = self._complaint([rows[0][1]])
      yield UserError(message, line=rows[0][0])
    self.rows, self.num_above = [], 0

  def _text(self) -> str:
    return ''.join(cells for _, cells in self.rows)

  def _width(self) -> int:
    """Return the most common length of a row, or 0 without rows."""
    return statistics.mode([len(cells) for _, cells in self.rows] or [0])

  def _may_be_rulers(self) -> bool:
    """Return whether all rows, if any, may be rulers of dashes."""
    return set(self._text()) <= {'-'}

  def _is_grid(self) -> bool:
    return len(self.rows) > 1 or not self._may_be_rulers()

  def _is_band_complete(self) -> bool:
    """Return whether the rows after the last blank line fill a box."""
    side = self._width()
    box = self.box if side == self.side else None
    return len(self.rows) - self.num_above == data.box_shape(side**2, box)[0]

  def _may_be_between_bands(self) -> bool:
    if self.is_lost or self._may_be_rulers():
      return False
    return len(self.rows) == self.num_above or self._is_band_complete()

  def _is_ruler(self, text: str) -> bool:
    """Return whether a line is a ruler; dashes may also be a row."""
    cells = ''.join(_parts(text))
    if set(cells) != {'-'}:
      return bool(_RULER.fullmatch(text))
    if len(cells) == self.side**2 or len(cells) > _SIDES[-1]:
      return not _as_board(cells)
    if not self.rows:  # the first row with a symbol decides
      return len(cells) not in _SIDES
    empty = set(self._text()) & _EMPTY_OR_0
    return len(cells) != self._width() or (bool(empty) and '-' not in empty)

  def _read_symbols(self, number: int, text: str):
    """Read a line with a puzzle, a row, a header, or an error."""
    fields, parts = _fields(text), _parts(text)
    boards = self._boards(fields, parts)
    is_header = not boards and _HEADER.match(text)
    if not is_header and self._is_row(parts, boards):
      yield from self._add_row(number, ''.join(parts))
      return
    yield from self.close()
    if boards:
      yield self._line_problem(number, fields, boards)
    elif is_header:
      yield None
    else:
      yield UserError(self._complaint(fields), line=number)

  def _boards(self, fields: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Return the boards of the expected size in a line, else the largest."""
    boards = [board for field in fields if (board := _as_board(field))]
    joined = _as_board(''.join(parts))
    # A line may divide a board into cells or rows; fewer parts are a row.
    is_divided = {len(part) ** 2 for part in parts} in ({1}, {len(joined)})
    if not boards and is_divided and len(joined) > _SIDES[-1]:
      return [joined]
    sizes = {len(board) for board in boards}
    size = self.side**2 if self.side**2 in sizes else max(sizes, default=0)
    return [board for board in boards if len(board) == size]

  def _is_row(self, parts: Sequence[str], boards: Sequence[str]) -> bool:
    """Return whether a line is a row of a grid, not a puzzle or an error."""
    cells, width = ''.join(parts), self._width()
    if boards:  # such as 16 symbols: a puzzle of 4 x 4, or a row of 16 x 16
      is_puzzle = len(parts) > 1 or len(cells) == self.side**2
      is_dashes = set(cells) == {'-'} and len(cells) in _SIDES
      return not is_puzzle and (len(cells) in (self.side, width) or is_dashes)
    if width:
      return len(cells) == width or bool(_DAMAGED_ROW.fullmatch(cells))
    is_known = _fits(cells, len(cells)) or len(cells) == self.side
    return len(cells) in _SIDES and is_known and len({*map(len, parts)}) == 1

  def _add_row(self, number: int, cells: str):
    """Add a row to the grid, and yield the puzzle once it is complete."""
    empty = set(cells) & _EMPTY_OR_0
    if self._may_be_rulers():
      if len(cells) != self._width() or (empty and '-' not in empty):
        self.rows = []
    elif self.num_above and self._is_band_complete():
      band = self.rows[self.num_above :]  # no blank line follows: a new grid
      self.rows = self.rows[: self.num_above]
      yield from self._give_up()
      self.rows = band
    self.rows.append((number, cells))
    if len(self.rows) >= self._width():
      yield self._grid_problem()
      self.rows, self.num_above, self.is_lost = [], 0, False

  def _grid_problem(self) -> Problem | UserError:
    side = self._width()
    for index, (line, cells) in enumerate(self.rows, start=1):
      if len(cells) != side:
        return UserError(
          f'row {index} has length {len(cells)}; the other rows have {side}',
          line=line,
        )
    return self._problem(self.rows[0][0], [self._text()])

  def _line_problem(
    self, line: int, fields: Sequence[str], boards: list[str]
  ) -> Problem | UserError:
    """Find the puzzle, and its solution, among the boards of a line."""
    num_empty = [sum(cell in _EMPTY_OR_0 for cell in board) for board in boards]
    if num_empty == [0]:  # may be the solution of a damaged puzzle
      size = len(boards[0])
      for field in fields:
        if len(field) != size < 2 * len(field):
          return UserError(
            f'fields of length {size} and {len(field)} found; a puzzle and its'
            ' solution have the same length',
            line=line,
          )
    boards.insert(0, boards.pop(num_empty.index(max(num_empty))))
    return self._problem(line, boards)

  def _problem(self, line: int, boards: Sequence[str]) -> Problem | UserError:
    """Make a problem from a puzzle and its solution, if any."""
    side = math.isqrt(len(boards[0]))
    try:
      if self.side not in (0, side):
        raise UserError(f'the board has side {side}; {_expected(self.side)}')
      box = data.box_shape(side**2, self.box)
      symbols = _choose_symbols(boards, box, self.symbols)
      puzzle, *others = (
        np.array([symbols.find(x) + 1 for x in board.upper()], np.int8)
        for board in boards
      )
      units = data.units(*box) if self.units is None else self.units
      clash = data.find_contradiction(
        puzzle, box=box, units=self.units, text=boards[0]
      )
      if clash:
        raise UserError(f'no solution: {clash}')
      if len(others) > 1 or not all(board.all() for board in others):
        raise UserError('several puzzles on a line; expected one')
      for solution in others:
        is_changed = (puzzle > 0) & (puzzle != solution)
        if is_changed.any() or data.find_contradiction(solution, units=units):
          raise UserError(
            'the solution breaks the rules or changes a given; remove it'
          )
    except UserError as error:
      return UserError(str(error), line=line)
    return Problem(line, puzzle, box, units, symbols, *others)

  def _complaint(self, fields: Sequence[str]) -> str:
    """Explain what is wrong with a line that has no board."""
    longest = max(fields, key=len)
    side = math.isqrt(len(longest))
    is_board = side**2 == len(longest) and side in _SIDES
    if is_board and self.side in (0, side):
      return _bad_symbol(longest, side, self.symbols)
    what = 'longest field' if len(fields) > 1 else 'line'
    return f'the {what} has length {len(longest)}; {_expected(self.side)}'


def _expected(side: int) -> str:
  area, n = (side**2, side) if side else ('n * n', 'n')
  lines = f'a puzzle is one line of {area} symbols or {n} lines of {n}'
  return lines if side else f'{lines}, n from {_SIDES[0]} to {_SIDES[-1]}'


def _parts(text: str) -> list[str]:
  """Split a line at bars, spaces, and other separators."""
  return [part for part in _SEPARATORS.split(text) if part]


def _fields(text: str) -> list[str]:
  """Split a line into fields; a board with spaces is one field."""
  if _as_board(text):
    return [text]
  fields = []
  for field in re.split('[,;\t]', text):
    field = field.strip('"\'')
    fields += [field] if _as_board(field) else re.split(r'[\s:"\']+', field)
  return fields


def _as_board(text: str) -> str:
  """Return a board's symbols, with dots for spaces; '' if it is not a board."""
  side = math.isqrt(len(text))
  if side**2 != len(text) or side not in _SIDES or not text.strip():
    return ''
  if not set(text) & _EMPTY_OR_0:
    text = text.replace(' ', '.')
  return text if _fits(text, side) else ''


def _alphabets(side: int, symbols: str = 'auto') -> dict[str, str]:
  """Return the alphabets that a board of a given side can have, by name."""
  names = [symbols] if symbols in ALPHABETS else [*ALPHABETS]
  names = names if side > 9 else ['1-G']
  return {name: ALPHABETS[name][:side] for name in names}


def _fits(text: str, side: int) -> bool:
  used, alphabets = set(text.upper()) - _EMPTY_OR_0, _alphabets(side).values()
  return text.isascii() and any(used <= set(x) for x in alphabets)


def _bad_symbol(text: str, side: int, symbols: str) -> str:
  alphabets = _alphabets(side, symbols).values()
  allowed = _EMPTY_OR_0.union(*alphabets)
  bad = next((i for i, x in enumerate(text) if x.upper() not in allowed), 0)
  row, column = divmod(bad, side)
  return (
    f'character {text[bad]!r} at position {bad + 1} (r{row + 1}'
    f'c{column + 1}): expected one of {" or ".join(alphabets)}, or one of'
    ' 0.*_- for an empty cell'
  )


def _choose_symbols(boards: Sequence[str], box: data.Box, symbols: str) -> str:
  """Return the one alphabet that fits a puzzle (and its solution)."""
  side, used = math.prod(box), set(''.join(boards).upper())
  fitting = {
    name: alphabet
    for name, alphabet in _alphabets(side, symbols).items()
    if used - _EMPTY_OR_0 <= set(alphabet)
  }
  if not fitting:
    raise UserError(_bad_symbol(''.join(boards), side, symbols))
  if len(boards) > 1:  # a solution has all symbols
    complete = set(boards[-1].upper())
    exact = {k: x for k, x in fitting.items() if set(x) == complete}
    fitting = exact or fitting
  if '0' in used and '0-F' in fitting and len(fitting) > 1:
    zeros = np.array([cell == '0' for cell in boards[0]], np.int8)
    if used & _EMPTY:  # then 0 is a symbol
      fitting = {'0-F': fitting['0-F']}
    elif data.find_contradiction(zeros, box=box):  # then 0 is an empty cell
      del fitting['0-F']
  if len(fitting) > 1 and used - _EMPTY_OR_0:
    known = ' or '.join(f'{k} ({x})' for k, x in fitting.items())
    raise UserError(
      f'the symbols can be read as {known}; choose one of these with'
      f' --config.evals.symbols={min(fitting)}'
    )
  return next(iter(fitting.values()))
