"""All common formats are read, and no input is silently misread."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from core.errors import UserError
from rrn.sudoku import data, puzzle_text


def lay_out(text, box=(3, 3), rulers=('', '', ''), bar='', gap='', edge=''):
  """Format a board as a grid; rulers are above, between bands, and below."""
  height, width = box
  side = height * width
  lines = [rulers[0]]
  for i in range(0, side**2, side):
    if i and i % (height * side) == 0:
      lines.append(rulers[1])
    parts = [text[j : j + width] for j in range(i, i + side, width)]
    lines.append(edge + bar.join(gap.join(part) for part in parts) + edge)
  lines.append(rulers[2])
  return '\n'.join(line.strip('\t') for line in lines if line)


def read(text, **options):
  """Read text; return problems, None, and errors as 'line: message'."""
  items = puzzle_text.read_puzzles(text.split('\n'), **options)
  return [f'{x.line}: {x}' if isinstance(x, UserError) else x for x in items]


def show(problem):
  return puzzle_text.format_board(problem.puzzle, problem.symbols)


LINE = (
  '53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....'
  '8..79'
)
SOLUTION = (
  '53467891267219534819834256785976142342685379171392485696153728428741963534528'
  '6179'
)
ZEROS, SPACES = LINE.replace('.', '0'), LINE.replace('.', ' ')
ROWS = [LINE[i : i + 9] for i in range(0, 81, 9)]
GRID = lay_out(LINE)
BANDED = lay_out(LINE, rulers=('', '\t', ''))
BOXES = '+-------+-------+-------+'
BOXED = lay_out(LINE, rulers=3 * [BOXES], bar=' | ', gap=' ', edge='|')
# A text, and what it gives: the line where LINE begins, or None.
# fmt: off
FORMATS = [
  # One puzzle per line.
  *((LINE.replace('.', empty), [1]) for empty in '.0*_- '),
  (f'{LINE}\r\n\r\n{ZEROS}\r\n', [1, None, 3, None]),
  (f'\ufeff{LINE}\n{LINE}', [1, 2]),
  (f'# a list\n{LINE}\n\n # b\n{LINE}', [None, 2, None, None, 5]),
  *((f'{LINE}{rest}', [1]) for rest in (
    ' 7.1', ';7.1;Golden Nugget, 2007', ':7.1: a name', '\t7.1\tname', ' # hard'
  )),
  (f'0000183b305c {ZEROS}  1.2', [1]),
  *((separator.join(ZEROS), [1]) for separator in ' ,'),
  (' '.join(ROWS), [1]),
  # CSV.
  (f'puzzle,solution\n{ZEROS},{SOLUTION}', [None, 2]),
  (f'quizzes,solutions\n{ZEROS},{SOLUTION}', [None, 2]),
  (f'{ZEROS},{SOLUTION}\n{LINE},{SOLUTION}', [1, 2]),
  (f'answer,question\n{SOLUTION},{LINE}', [None, 2]),
  (f'source,question,answer,rating\np0,{LINE},{SOLUTION},23', [None, 2]),
  (f'"id","puzzle"\n"1234123412341234","{LINE}"', [None, 2]),
  (f'puzzle\n{LINE}\n7,"{SPACES}"', [None, 2, 3]),
  # Grids.
  (f'{GRID}\n{GRID}\n\n{GRID}', [1, 10, None, 20]),
  (f'{GRID}\n{LINE}\n{GRID}', [1, 10, 11]),
  (f'Grid 01\n{GRID}\nGrid 02\n{GRID}', [None, 2, None, 12]),
  (f'{BANDED}\n\n{BANDED}\n\n\n{BANDED}', [1, None, 13, None, None, 26]),
  (f'-----------\n\n{BANDED}', [None, 3]),
  (f'{LINE}\n-----------\n{LINE}\n========', [1, 3]),
  (f'{BOXED}\n{BOXED}\n{LINE}', [2, 15, 27]),
  (lay_out(LINE, gap=' ', bar=' '), [1]),
  (lay_out(LINE, rulers=('', '---+---+---', ''), bar='|'), [1]),
  (lay_out(LINE, rulers=('', '---|---|---', ''), bar='|'), [1]),
  (lay_out(LINE, rulers=3 * ['-' * 25], gap=' ', bar=' | ', edge='|'), [2]),
  (lay_out(LINE, rulers=3 * ['-' * 9]), [2]),
  (lay_out(LINE, rulers=('*---*', '|-+-|', '*---*'), bar='|', edge='|'), [2]),
  (lay_out(LINE, rulers=('.--.', ':-+-:', "'--'"), bar='|', edge='|'), [2]),
  (lay_out(LINE, rulers=('┏━┳━┓', '╟─┼─╢', '└─┘'), bar='│', edge='║'), [2]),
  ('\n'.join(f'{list(row)},' for row in ROWS), [1]),
  # .sdk
  (f'#A\n[Puzzle]\n{GRID}\n\n[State]\n{ZEROS}\n\n{LINE}',
   [None, None, 3, None, None, None, None, 16]),
  (f'[Puzzle]\n{GRID}\n[State]\n12\n#A\n[ puzzle ]\n{GRID}',
   [None, 2, None, None, None, None, 15]),
]
# fmt: on


@pytest.mark.parametrize('box', [None, (3, 3)])
@pytest.mark.parametrize('text, expected', FORMATS)
def test_formats(text, expected, box):
  items = read(text, box=box)
  assert [item and item.line for item in items] == expected
  for problem in filter(None, items):
    assert show(problem) == LINE and problem.box == (3, 3)
    assert (problem.solution is None) == (SOLUTION not in text)
    if SOLUTION in text:
      np.testing.assert_array_equal(problem.solution, [*map(int, SOLUTION)])


SMALL = '1.2.............'
FIVE = '5.2.............'
PAIR = '......\n......'


@pytest.mark.parametrize(
  'text, box, puzzle',
  [
    # A line of 16 or 25 symbols: a puzzle, or a row.
    (SMALL, None, SMALL),
    (SMALL, (2, 2), SMALL),
    (f'{SMALL} 16 a name', None, SMALL),
    (lay_out(SMALL, (2, 2)), None, SMALL),
    (lay_out(SMALL + 240 * '.', (4, 4)), (4, 4), SMALL + 240 * '.'),
    (lay_out(FIVE + 240 * '.', (4, 4)), None, FIVE + 240 * '.'),
    ('5' + 24 * '.', None, '5' + 24 * '.'),
    (lay_out(625 * '.', (5, 5)), (5, 5), 625 * '.'),
    # Dashes: empty cells, or a ruler.
    ('----\n1---\n----\n----', None, '....1...........'),
    ('1---\n----\n---2\n----', None, '1..........2....'),
    ('----\n1...\n....\n----\n...2\n....\n----', None, '1..........2....'),
    ('----\n----\n----\n----', None, 16 * '.'),
    (lay_out('1' + 48 * '-', (1, 7)), (1, 7), '1' + 48 * '.'),
    # The box shape determines where blank lines are allowed.
    (f'{PAIR}\n\n{PAIR}\n\n.....1\n......', None, 29 * '.' + '1......'),
    (f'{PAIR}\n......\n\n{PAIR}\n.....1', (3, 2), 35 * '.' + '1'),
  ],
)
def test_small_boards_and_rows(text, box, puzzle):
  (problem,) = filter(None, read(text, box=box, symbols='1-G'))
  assert show(problem) == puzzle
  assert problem.box == (box or data.box_shape(len(puzzle)))


@pytest.mark.parametrize('side', range(4, 26))
@pytest.mark.parametrize('empty', '0.')
def test_empty_boards_of_all_sides(side, empty):
  (problem,) = read(empty * side**2)
  assert problem.puzzle.tolist() == [0] * side**2
  assert problem.box == data.box_shape(side**2)
  assert problem.symbols[0] == '1'


TRUNCATED = '\n'.join(ROWS[:8])
IN_BANDS = BANDED.replace(f'{ROWS[4]}\n', '')
# Like FORMATS, but a string is the start of an expected error.
# fmt: off
ERRORS = [
  (f'x{LINE[1:]}\n{LINE}', ["1: character 'x' at position 1 (r1c1)", 2]),
  (LINE[:-1] + 'é', ["1: character 'é' at position 81 (r9c9)"]),
  (LINE[1:], ['1: the line has length 80; a puzzle is one line of 81']),
  (f'12\n{LINE}', ['1: the line has length 2', 2]),
  (f'what is this?\n{LINE}', ['1: the longest field has length 5', 2]),
  (SPACES[:78], ['1: the longest field has length']),
  (f'puzzle 1: {LINE[1:]}', ['1: the longest field has length 80']),
  (f'{LINE[1:]} puzzle 1', ['1: the longest field has length 80']),
  (f'55{GRID[2:]}\n{LINE}', ['1: no solution: digit 5 twice in row 1 (', 10]),
  (f'5{9 * "."}5{70 * "."}', ['1: no solution: digit 5 twice in box 1']),
  (f'{SMALL}\n{LINE}', ['1: the board has side 4; a puzzle is one', 2]),
  (f'{PAIR}\n{PAIR}\n{PAIR}\n{LINE}', ['1: the board has side 6', 7]),
  (lay_out(FIVE + 240 * '.', (4, 4)), ['1: the board has side 16']),
  (f'{GRID[:30]}?{GRID[31:]}\n{LINE}', ["1: character '?' at position 28", 10]),
  # The number of rows is right, so the next grid is found.
  (f'{GRID[:30]}{GRID[31:]}\n{GRID}', ['4: row 4 has length 8; the other', 10]),
  (f'{GRID[1:]}\n{GRID}', ['1: row 1 has length 8; the other rows have 9', 10]),
  # The number of rows is wrong.
  (TRUNCATED, ['1: 8 rows of length 9; expected 9 rows']),
  (f'{TRUNCATED}\n\n{GRID}', ['1: 8 rows of length 9', None, 10]),
  (f'{TRUNCATED}\n{LINE}', ['1: 8 rows of length 9', 9]),
  (f'{TRUNCATED}\n# next\n{GRID}', ['1: 8 rows of length 9', None, 10]),
  (f'{TRUNCATED}\nGrid 02\n{GRID}', ['1: 8 rows of length 9', None, 10]),
  (f'{ROWS[0]}\n\n{GRID}', ['1: the line has length 9', None, 3]),
  ('\n'.join([*ROWS[:3], '', GRID]), ['1: 3 rows of length 9', 5]),
  # A leftover band must not become the first band of the next grid.
  (f'{IN_BANDS}\n\n{BANDED}', [
    '1: 5 rows', None, '8: 3', None, '12: 3', None, '16: 3', None, '20: 3'
  ]),
  (f'{IN_BANDS}\n\n\n{BANDED}', ['1: 5 rows', None, '8: 3', None, None, 13]),
  (f'{PAIR}\n\n{PAIR}'.replace('.', '-'), ['1: 2 rows', None, '4: 2 rows']),
  # Several boards in a line.
  (f'{LINE} {LINE}', ['1: several puzzles on a line']),
  (f'{LINE},{SOLUTION},{SOLUTION}', ['1: several puzzles on a line']),
  (f'{ZEROS[1:]},{SOLUTION}', ['1: fields of length 81 and 80 found']),
  (f'{LINE},{SOLUTION[::-1]}', ['1: the solution breaks the rules']),
  (f'{LINE},{SOLUTION[:2]}1{SOLUTION[3:]}', ['1: the solution breaks the']),
]
# fmt: on


@pytest.mark.parametrize('text, expected', ERRORS)
def test_errors_say_where_and_what_and_hide_nothing(text, expected):
  items = read(text, box=(3, 3))
  assert len(items) == len(expected), items
  for item, wanted in zip(items, expected, strict=True):
    if isinstance(wanted, str):
      assert item.startswith(wanted) and len(item.splitlines()) == 1
    elif wanted is None:
      assert item is None
    else:
      assert item.line == wanted and show(item) == LINE


def solved(side):
  """Return a solved board, int [side * side]."""
  height, width = data.box_shape(side**2)
  row, column = np.divmod(np.arange(side**2), side)
  return (width * (row % height) + row // height + column) % side + 1


def without(board, digit):
  return np.where(board == digit, 0, board)


def write(board, symbols, empty='.'):
  return ''.join((empty + symbols)[digit] for digit in board)


def masked(board):
  """Empty half of the cells, but keep each digit somewhere."""
  givens = board * (np.random.default_rng(0).random(board.size) < 0.5)
  firsts = np.unique(board, return_index=True)[1]
  givens[firsts] = board[firsts]
  return givens


ALPHABETS = {
  (side, name): alphabet[:side]
  for side in (10, 12, 16, 25)
  for name, alphabet in (
    ('1-G', '123456789ABCDEFGHIJKLMNOP'),
    ('A-P', 'ABCDEFGHIJKLMNOPQRSTUVWXY'),
    ('0-F', '0123456789ABCDEFGHIJKLMNO'),
  )
}


@pytest.mark.parametrize('is_grid', [False, True])
@pytest.mark.parametrize('empty', '.-0')
@pytest.mark.parametrize('side, name', ALPHABETS)
def test_the_whole_board_determines_the_alphabet(side, name, empty, is_grid):
  alphabet, puzzle = ALPHABETS[side, name], masked(solved(side))
  text = write(puzzle, alphabet, '.' if alphabet[0] == empty else empty)
  if is_grid:
    text = lay_out(text, data.box_shape(side**2))
  for typed in text, text.lower():
    for symbols in 'auto', name:
      (problem,) = read(typed, symbols=symbols)
      np.testing.assert_array_equal(problem.puzzle, puzzle)
      assert problem.symbols == alphabet
  answer = puzzle_text.format_board(solved(side), problem.symbols)
  assert answer == write(solved(side), alphabet)


DIGITS, LETTERS = ALPHABETS[16, '1-G'], ALPHABETS[16, 'A-P']
SOLVED, SOME = solved(16), masked(solved(16))
UP_TO_SIX = np.where(SOME > 6, 0, SOME)
RARE_0 = write(without(SOLVED, 16), DIGITS, '0')  # in no unit twice


@pytest.mark.parametrize(
  'text, names',
  [
    (write(without(SOME, 16), DIGITS), ['1-G', '0-F']),
    (write(UP_TO_SIX, LETTERS), ['1-G', 'A-P', '0-F']),
    (write(UP_TO_SIX, LETTERS, '0'), ['1-G', 'A-P']),
    (f'..5{253 * "."}', ['1-G', '0-F']),
    (f'..G{253 * "."}', ['1-G', 'A-P']),
    (RARE_0, ['1-G', '0-F']),
  ],
)
def test_an_ambiguous_alphabet_must_be_chosen(text, names):
  (error,) = read(text)
  assert error.startswith('1: ') and '--config.evals.symbols=' in error
  assert [x for x in ('1-G', 'A-P', '0-F') if f'{x} (' in error] == names
  for name in names:
    (problem,) = read(text, symbols=name)
    digits = [ALPHABETS[16, name].find(symbol) + 1 for symbol in text]
    np.testing.assert_array_equal(problem.puzzle, digits)


def test_a_solution_determines_the_alphabet():
  for name in '1-G', 'A-P', '0-F':
    alphabet = ALPHABETS[16, name]
    texts = write(SOLVED, alphabet), write(without(SOME, 16), alphabet)
    (problem,) = read(','.join(texts))
    assert problem.symbols == alphabet and show(problem) == texts[1]
    np.testing.assert_array_equal(problem.solution, SOLVED)
  (problem,) = read(f'{RARE_0},{write(SOLVED, DIGITS)}')
  assert show(problem) == RARE_0.replace('0', '.')


def test_the_symbols_option_affects_only_large_boards():
  (problem,) = read(ZEROS, symbols='0-F')
  assert show(problem) == LINE
  with pytest.raises(UserError, match='config.evals.symbols'):
    read(LINE, symbols='1-9')


def test_errors_name_the_symbol_as_typed():
  for symbol, text in ('0', '0.0F.'), ('f', '0.fF.'), ('G', 'G..G1'):
    (error,) = read(text + 251 * '.')
    assert error.startswith(f'1: no solution: digit {symbol} twice in row 1')


def test_a_puzzle_is_yielded_at_its_last_line():
  lines, taken = [LINE, '', *ROWS, BOXES, *ROWS, LINE], []
  items = puzzle_text.read_puzzles(taken.append(x) or x for x in lines)
  assert [len(taken) for _ in items] == [1, 2, 11, 21, 22]


@pytest.mark.parametrize(
  'text, finding',
  [
    (LINE, None),
    (16 * '.', 'more than one solution'),
    (SOLUTION.replace('4', '.').replace('8', '.'), 'more than one solution'),
    (f'531{LINE[3:]}', 'no solution'),
    (write(without(solved(12), 3), DIGITS), None),
    (256 * '.', None),  # too large to solve
  ],
)
def test_diagnosis(text, finding):
  (problem,) = read(text)
  assert puzzle_text.diagnose(problem) == finding


def in_bands(text, box):
  return lay_out(text, box, rulers=('', '\t', ''))


LAYOUTS = [
  lay_out,
  in_bands,
  lambda text, box: f'12,{text},a name',
  lambda text, box: text,
  lambda text, box: lay_out(text, box, gap=' ', bar=' | '),
  lambda text, box: lay_out(text, box, rulers=('', '--+--', ''), bar='|'),
  lambda text, box: lay_out(text, box, rulers=3 * ['+---+'], edge='|'),
]


@hypothesis.given(
  st.sampled_from(['1-G', 'A-P', '0-F']),
  st.lists(
    st.tuples(
      st.sampled_from((6, 8, 9, 10, 12)),
      st.sampled_from('0.*_-'),
      st.sampled_from((0.0, 0.1, 0.5, 0.9)),
      st.sampled_from(LAYOUTS),
      st.sampled_from(('', '\n', '\n# comment')),
    ),
    max_size=5,
  ),
)
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_mixed_formats_are_read_as_written(name, boards):
  """Any format may follow any other; rows and whole boards may be empty."""
  text, puzzles = '# mixed', []
  for seed, (side, empty, share, layout, between) in enumerate(boards):
    puzzle = solved(side)
    puzzle *= np.random.default_rng(seed).random(side**2) < share
    alphabet = ALPHABETS.get((side, name), '123456789')
    if alphabet[0] == empty or layout == in_bands:  # dashes would be rulers
      empty = '.'
    written = write(puzzle, alphabet, empty)
    text += f'{between}\n{layout(written, data.box_shape(side**2))}'
    puzzles.append(puzzle)
  problems = [item for item in read(text, symbols=name) if item]
  assert [x.puzzle.tolist() for x in problems] == [x.tolist() for x in puzzles]


PIECES = [*ROWS, LINE, SMALL, BOXES, '[Puzzle]', '[State]', '#', 'puzzle', ',']
PIECES += [*'\n\n\n| G\0ß', '----', '---------', '16']


@hypothesis.given(
  st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=30),
  st.sampled_from([None, (2, 2), (3, 3), (4, 4)]),
)
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_any_text_is_read_or_refused_in_order(pieces, box):
  lines = ''.join(pieces).split('\n')
  items = list(puzzle_text.read_puzzles(lines, box=box))
  numbers = [item.line for item in items if item]
  assert numbers == sorted(set(numbers)) and len(items) <= len(lines)
  for item in items:
    if isinstance(item, UserError):
      assert len(str(item).splitlines()) == 1
    elif item:
      assert data.find_contradiction(item.puzzle, box=item.box) is None
      assert box in (None, item.box)
