"""Every format that people have is read, and nothing is misread in silence."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from core.errors import UserError
from rrn.sudoku import data, puzzle_text

ROWS = [
  *('53..7....', '6..195...', '.98....6.'),
  *('8...6...3', '4..8.3..1', '7...2...6'),
  *('.6....28.', '...419..5', '....8..79'),
]
LINE = ''.join(ROWS)
ZEROS = LINE.replace('.', '0')
SOLUTION = (
  '534678912672195348198342567859761423426853791713924856961537284287419635'
  '345286179'
)


def ruled(top, middle, bottom, pattern, separator=''):
  """Prints the grid between rulers; `pattern` has places for three boxes."""
  rows = [
    pattern.format(*(separator.join(row[i : i + 3]) for i in (0, 3, 6)))
    for row in ROWS
  ]
  parts = [top, *rows[:3], middle, *rows[3:6], middle, *rows[6:], bottom]
  return '\n'.join(part for part in parts if part)


def read(text, **options):
  """Reads text: a problem, None, or the line and the message of an error."""
  items = puzzle_text.read_puzzles(text.split('\n'), **options)
  return [
    (item.line, str(item)) if isinstance(item, UserError) else item
    for item in items
  ]


GRID = '\n'.join(ROWS)
BANDED = ruled('', ' ', '', '{}{}{}')
BOXES = '+-------+-------+-------+'
# A text, and what it gives: the line where LINE begins, or None.
FORMATS = {
  'dots': (LINE, [1]),
  'zeros': (ZEROS, [1]),
  'stars': (LINE.replace('.', '*'), [1]),
  'underscores': (LINE.replace('.', '_'), [1]),
  'dashes': (LINE.replace('.', '-'), [1]),
  'spaces': (LINE.replace('.', ' '), [1]),
  'spaces in quotes': (f'7,"{LINE.replace(".", " ")}"', [1]),
  'cells apart': (' '.join(LINE), [1]),
  'cells in CSV': (','.join(ZEROS), [1]),
  'rows apart': (' '.join(ROWS), [1]),
  'line ends': (f'{LINE}\r\n\r\n{ZEROS}\r\n', [1, None, 3, None]),
  'byte-order mark': (f'\ufeff{LINE}\n{LINE}', [1, 2]),
  'comments': (f'# a list\n{LINE}\n\n # b\n{LINE}', [None, 2, None, None, 5]),
  'rating': (f'{LINE} 7.1', [1]),
  'rating; name': (f'{LINE};7.1;Golden Nugget, 2007', [1]),
  'rating:name': (f'{LINE}:7.1: a name', [1]),
  'tabs': (f'{LINE}\t7.1\tname', [1]),
  'note': (f'{LINE} # hard', [1]),
  'hash before': (f'0000183b305c {ZEROS}  1.2', [1]),
  'CSV': (f'puzzle,solution\n{ZEROS},{SOLUTION}', [None, 2]),
  'Kaggle': (f'quizzes,solutions\n{ZEROS},{SOLUTION}', [None, 2]),
  'no header': (f'{ZEROS},{SOLUTION}\n{ZEROS},{SOLUTION}', [1, 2]),
  'solution first': (f'answer,question\n{SOLUTION},{LINE}', [None, 2]),
  'columns': (
    f'source,question,answer,rating\npuzzles0,{LINE},{SOLUTION},23\n',
    [None, 2, None],
  ),
  'quotes': (f'"id","puzzle"\n"1234123412341234","{LINE}"', [None, 2]),
  'one column': (f'puzzle\n{LINE}', [None, 2]),
  'grid': (GRID, [1]),
  'grids': (f'{GRID}\n{GRID}\n\n{GRID}', [1, 10, None, 20]),
  'grid, line': (f'{GRID}\n{LINE}\n{GRID}', [1, 10, 11]),
  'digits apart': ('\n'.join(map(' '.join, ROWS)), [1]),
  'blank lines between bands': (BANDED, [1]),
  'bands twice': (
    '\n\n'.join([ruled('', ' \n', '', '{}{}{}')] * 2),
    [1, None, 15],
  ),
  'bars': (ruled('', '------+-------+------', '', '{} | {} | {}', ' '), [1]),
  'boxes': (ruled(BOXES, BOXES, BOXES, '| {} | {} | {} |', ' '), [2]),
  'boxes twice': (
    '\n'.join([ruled(BOXES, BOXES, BOXES, '| {} | {} | {} |', ' ')] * 2),
    [2, 15],
  ),
  'dashed': (ruled('-' * 25, '-' * 25, '-' * 25, '| {} | {} | {} |', ' '), [2]),
  'dashed, narrow': (ruled('-' * 9, '-' * 9, '-' * 9, '{}{}{}'), [2]),
  'dashes and bars': (ruled('', '---|---|---', '', '{}|{}|{}'), [1]),
  'Simple Sudoku': (
    ruled('*-----------*', '|---+---+---|', '*-----------*', '|{}|{}|{}|'),
    [2],
  ),
  'HoDoKu': (
    ruled(".---.---.---.", ':---+---+---:', "'---'---'---'", '| {}| {}| {}|'),
    [2],
  ),
  'box drawing': (ruled('┏━━━┳━━━┓', '╟───┼───╢', '└───┘', '║{}│{}┃{}║'), [2]),
  'lists': ('\n'.join(f'{list(row)},' for row in ROWS), [1]),
  'rulers, then bands': (f'-----------\n\n{BANDED}', [None, 3]),
  'rulers alone': (f'{LINE}\n-----------\n{LINE}\n========', [1, 3]),
  'sdk': (
    f'#A nobody\n#D a test\n[Puzzle]\n{GRID}\n\n[State]\n{SOLUTION}\n\n{LINE}',
    [None, None, None, 4, None, None, None, None, 17],
  ),
  'sdk twice': (
    f'#A\n[Puzzle]\n{GRID}\n[State]\n12\n#A\n[ puzzle ]\n{GRID}',
    [None, None, 3, None, None, None, None, 16],
  ),
  'Project Euler': (
    f'Grid 01\n{GRID}\nGrid 02\n{GRID}', [None, 2, None, 12]
  ),
}  # fmt: skip


@pytest.mark.parametrize('box', [None, (3, 3)])
@pytest.mark.parametrize('name', FORMATS)
def test_formats(name, box):
  text, expected = FORMATS[name]
  items = read(text, box=box)
  assert [item and item.line for item in items] == expected
  for problem in filter(None, items):
    assert puzzle_text.format_answer(problem, problem.puzzle) == LINE
    assert problem.box == (3, 3) and problem.puzzle.dtype == np.int8
    has_solution = SOLUTION in text and '[State]' not in text
    assert (problem.solution is not None) == has_solution
    if has_solution:
      answer = puzzle_text.format_answer(problem, problem.solution)
      assert answer == SOLUTION


def solved(side):
  """A solution of side n: int [N]."""
  height, width = data.box_shape(side**2)
  row, column = np.divmod(np.arange(side**2), side)
  return (width * (row % height) + row // height + column) % side + 1


def write(board, symbols, empty):
  return ''.join((empty + symbols)[digit] for digit in board)


def masked(board, seed=0, share=0.5):
  """Most cells empty, and each digit there."""
  rng = np.random.default_rng(seed)
  givens = board * (rng.random(board.size) < share)
  firsts = np.unique(board, return_index=True)[1]
  givens[firsts] = board[firsts]
  return givens


ALPHABETS = {
  10: {'1-G': '123456789A', 'A-P': 'ABCDEFGHIJ', '0-F': '0123456789'},
  12: {'1-G': '123456789ABC', 'A-P': 'ABCDEFGHIJKL', '0-F': '0123456789AB'},
  16: {
    '1-G': '123456789ABCDEFG',
    'A-P': 'ABCDEFGHIJKLMNOP',
    '0-F': '0123456789ABCDEF',
  },
  25: {
    '1-G': '123456789ABCDEFGHIJKLMNOP',
    'A-P': 'ABCDEFGHIJKLMNOPQRSTUVWXY',
    '0-F': '0123456789ABCDEFGHIJKLMNO',
  },
}
# Side, alphabet, symbol of empty cells.
STYLES = [
  (side, name, empty)
  for side, alphabets in ALPHABETS.items()
  for name in alphabets
  for empty in '.-0'
  if (name, empty) != ('0-F', '0')
]


@pytest.mark.parametrize('is_grid', [False, True])
@pytest.mark.parametrize('side, name, empty', STYLES)
def test_symbols_of_the_whole_board_tell_the_alphabet(
  side, name, empty, is_grid
):
  alphabet, puzzle = ALPHABETS[side][name], masked(solved(side))
  text = write(puzzle, alphabet, empty)
  rows = [text[i : i + side] for i in range(0, side**2, side)]
  text = '\n'.join(rows) if is_grid else text
  for typed in text, text.lower():
    for symbols in 'auto', name:
      (problem,) = read(typed, symbols=symbols)
      np.testing.assert_array_equal(problem.puzzle, puzzle)
      assert problem.symbols == alphabet
  answer = puzzle_text.format_answer(problem, solved(side))
  assert answer == write(solved(side), alphabet, '?')


def without(board, digit):
  return np.where(board == digit, 0, board)


SOLVED_16 = solved(16)
SOME_16 = masked(SOLVED_16)
LETTERS_16 = np.where(masked(SOLVED_16) > 6, 0, masked(SOLVED_16))
FEW_16 = np.where(np.arange(256) == 37, 5, 0)
# Text in which 0 stands in no unit twice, and is a symbol or an empty cell.
RARE_0 = write(without(SOLVED_16, 16), '123456789ABCDEFG', '0')


@pytest.mark.parametrize(
  'text, names',
  [
    (write(without(SOME_16, 16), ALPHABETS[16]['1-G'], '.'), ['1-G', '0-F']),
    (write(LETTERS_16, ALPHABETS[16]['A-P'], '.'), ['1-G', 'A-P', '0-F']),
    (write(LETTERS_16, ALPHABETS[16]['A-P'], '0'), ['1-G', 'A-P']),
    (write(FEW_16, ALPHABETS[16]['1-G'], '.'), ['1-G', '0-F']),
    (write(FEW_16, 'ABCDEFG', '.'), ['1-G', 'A-P', '0-F']),
    (RARE_0, ['1-G', '0-F']),
  ],
)
def test_a_board_of_several_alphabets_is_an_error_until_one_is_chosen(
  text, names
):
  ((line, message),) = read(text)
  assert line == 1 and '--config.evals.symbols=' in message
  assert [name for name in ALPHABETS[16] if f'{name} (' in message] == names
  for name in names:
    (problem,) = read(text, symbols=name)
    alphabet = ALPHABETS[16][name]
    np.testing.assert_array_equal(
      problem.puzzle, [alphabet.find(x) + 1 for x in text]
    )


def test_a_solution_tells_the_alphabet():
  puzzle = without(SOME_16, 16)
  for name, alphabet in ALPHABETS[16].items():
    text = write(puzzle, alphabet, '.')
    (problem,) = read(f'{write(SOLVED_16, alphabet, "?")},{text}')
    assert problem.symbols == alphabet, name
    np.testing.assert_array_equal(problem.puzzle, puzzle)
    np.testing.assert_array_equal(problem.solution, SOLVED_16)
  (problem,) = read(f'{RARE_0},{write(SOLVED_16, ALPHABETS[16]["1-G"], "?")}')
  np.testing.assert_array_equal(problem.puzzle, without(SOLVED_16, 16))


@pytest.mark.parametrize('side', range(4, 26))
@pytest.mark.parametrize('empty', '0.')
def test_empty_boards_of_all_sides(side, empty):
  (problem,) = read(empty * side**2)
  assert problem.puzzle.tolist() == [0] * side**2
  assert problem.box == data.box_shape(side**2)
  assert problem.symbols[0] == '1'


def test_digits_up_to_nine_need_no_choice():
  (problem,) = read(ZEROS, symbols='0-F')
  assert puzzle_text.format_answer(problem, problem.puzzle) == LINE


def test_an_unknown_choice_of_symbols():
  with pytest.raises(UserError, match='config.evals.symbols'):
    read(LINE, symbols='1-9')


SMALL = '1.2.............'
FIVE = '5.2.............'
DASHED = '1------', *6 * ['-------']
ROW_6 = '......'


@pytest.mark.parametrize(
  'text, box, puzzle',
  [
    # A line of 16 or 25 symbols: a puzzle, or a row.
    (SMALL, None, SMALL),
    (SMALL, (2, 2), SMALL),
    (f'{SMALL} 16 a name', None, SMALL),
    ('1.2.\n....\n....\n....', None, SMALL),
    ('\n'.join([SMALL, *15 * ['.' * 16]]), (4, 4), SMALL + 240 * '.'),
    ('\n'.join([FIVE, *15 * ['.' * 16]]), None, FIVE + 240 * '.'),
    ('5' + 24 * '.', None, '5' + 24 * '.'),
    ('\n'.join(25 * [25 * '.']), (5, 5), 625 * '.'),
    # Dashes: empty cells, or a ruler.
    ('----\n1---\n----\n----', None, '....1...........'),
    ('1---\n----\n---2\n----', None, '1..........2....'),
    ('----\n1...\n....\n----\n...2\n....\n----', None, '1..........2....'),
    ('----\n----\n----\n----', None, 16 * '.'),
    ('\n'.join(DASHED), (1, 7), '1' + 48 * '.'),
    # The boxes tell where blank lines may be.
    (
      '\n\n'.join([f'1{ROW_6[1:]}\n{ROW_6}', *2 * [f'{ROW_6}\n{ROW_6}']]),
      None,
      '1' + 35 * '.',
    ),
    (
      f'{ROW_6}\n1{ROW_6[1:]}\n{ROW_6}\n\n{ROW_6}\n{ROW_6}\n{ROW_6}',
      (3, 2),
      6 * '.' + '1' + 29 * '.',
    ),
  ],
)
def test_small_boards_and_rows(text, box, puzzle):
  (problem,) = filter(None, read(text, box=box, symbols='1-G'))
  assert puzzle_text.format_answer(problem, problem.puzzle) == puzzle


def test_boxes_are_those_of_the_network():
  puzzle = '1....4' + '.' * 30
  assert [read(puzzle, box=box)[0].box for box in ((3, 2), (2, 3), None)] == [
    *((3, 2), (2, 3), (2, 3))
  ]


BAD = 'x' + LINE[1:]
CLASH = '55' + LINE[2:]
TRUNCATED = '\n'.join(ROWS[:8])
# A text, and what it gives: the line where LINE begins, None, or an error.
ERRORS = {
  'symbol': (f'{BAD}\n{LINE}', [(1, "'x' at position 1 (r1c1)"), 2]),
  'accent': (LINE[:-1] + 'é', [(1, "'é' at position 81 (r9c9)")]),
  'short': (LINE[1:], [(1, 'the line has length 80; a puzzle is one line of')]),
  'very short': (f'12\n{LINE}', [(1, 'the line has length 2'), 2]),
  'prose': ('what is this?\n' + LINE, [(1, 'longest field has length 5'), 2]),
  'clash': (CLASH, [(1, 'no solution: digit 5 twice in row 1 (cells r1c1')]),
  'clash in a grid': (
    '\n'.join(['55' + ROWS[0][2:], *ROWS[1:], LINE]),
    [(1, 'digit 5 twice in row 1'), 10],
  ),
  'symbol in a grid': (
    '\n'.join([*ROWS[:3], '?' + ROWS[3][1:], *ROWS[4:], LINE]),
    [(1, "'?' at position 28 (r4c1)"), 10],
  ),
  'spaces cut off': (
    LINE.replace('.', ' ')[:78], [(1, 'longest field has length')],
  ),
  # The number of rows is right, so that the next grid is read rightly.
  'short row': (
    '\n'.join([*ROWS[:3], ROWS[3][1:], *ROWS[4:], GRID]),
    [(4, 'row 4 has length 8; the other rows have 9'), 10],
  ),
  'short first row': (
    '\n'.join([ROWS[0][1:], *ROWS[1:], GRID]), [(1, 'row 1 has length 8'), 10],
  ),
  # A blank line ends the damage.
  'missing row': (
    f'{TRUNCATED}\n\n{GRID}', [(1, '8 rows of length 9 found; 9'), None, 10],
  ),
  'missing row, then a line': (
    f'{TRUNCATED}\n{LINE}', [(1, '8 rows of length 9 found; 9'), 9],
  ),
  'missing row, then a comment': (
    f'{TRUNCATED}\n# next\n{LINE}', [(1, '8 rows of'), None, 10],
  ),
  'missing row, then the end': (TRUNCATED, [(1, '8 rows of length 9')]),
  'missing row, then a header': (
    f'{TRUNCATED}\nGrid 02\n{GRID}', [(1, '8 rows of length 9'), None, 10],
  ),
  'one row': (f'{ROWS[0]}\n\n{GRID}', [(1, 'the line has length 9'), None, 3]),
  'missing bands': (
    '\n'.join([*ROWS[:3], '', GRID]), [(1, '3 rows of length 9'), 5],
  ),
  'missing row in bands': (
    BANDED.replace(f'{ROWS[4]}\n', '') + f'\n\n{BANDED}',
    # Its last band must not become the first one of the next grid.
    [
      *((1, '5 rows of length 9'), None, (8, '3 rows'), None),
      *((12, '3 rows'), None, (16, '3 rows'), None, (20, '3 rows')),
    ],
  ),
  'missing row in bands, then two blank lines': (
    BANDED.replace(f'{ROWS[4]}\n', '') + f'\n\n\n{BANDED}',
    [(1, '5 rows of length 9'), None, (8, '3 rows'), None, None, 13],
  ),
  'several puzzles': (f'{LINE} {LINE}', [(1, 'several puzzles')]),
  'several solutions': (
    f'{LINE},{SOLUTION},{SOLUTION}', [(1, 'several puzzles')],
  ),
  'damaged puzzle beside its solution': (
    f'{ZEROS[1:]},{SOLUTION}', [(1, 'fields of length 81 and 80')],
  ),
  'other solution': (
    f'{LINE},{SOLUTION[::-1]}', [(1, 'the solution breaks the rules')],
  ),
  'solution that breaks the rules': (
    f'{LINE},{SOLUTION[:2]}1{SOLUTION[3:]}', [(1, 'the solution breaks')],
  ),
  'damaged puzzle under its name': (
    f'puzzle 1: {LINE[1:]}', [(1, 'longest field has length 80')],
  ),
  'damaged puzzle before its name': (
    f'{LINE[1:]} puzzle 1', [(1, 'longest field has length 80')],
  ),
  'other size': (
    f'{SMALL}\n{LINE}', [(1, 'a puzzle of side 4 found; a puzzle is one'), 2],
  ),
  'other size in a grid': (
    '\n'.join([f'1{ROW_6[1:]}', *5 * [ROW_6], LINE]),
    [(1, 'a puzzle of side 6'), 7],
  ),
  'rows of 16 with the symbols of 4': (
    '\n'.join([FIVE, *15 * [SMALL[4:] + '....']]),
    [(1, 'a puzzle of side 16 found; a puzzle is one line of 81')],
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', ERRORS)
def test_errors_say_where_and_what_and_hide_nothing(name):
  text, expected = ERRORS[name]
  items = read(text, box=(3, 3))
  assert len(items) == len(expected), items
  for item, wanted in zip(items, expected, strict=True):
    if isinstance(wanted, tuple):
      line, message = item
      assert line == wanted[0] and wanted[1] in message
      assert len(message.splitlines()) == 1
    elif wanted is None:
      assert item is None
    else:
      assert item.line == wanted
      assert puzzle_text.format_answer(item, item.puzzle) == LINE


def test_the_symbol_that_clashes_is_the_one_written():
  for symbol, text in ('0', '0.0F.'), ('f', '0.fF.'), ('G', 'G..G1'):
    ((_, message),) = read(text + 251 * '.')
    assert message.startswith(f'no solution: digit {symbol} twice in row 1')


def test_a_puzzle_comes_with_its_last_line():
  text = f'# name\n{LINE}\n\n{GRID}\n{LINE}\n{BOXES}\n{GRID}'
  lines, taken = text.split('\n'), 0

  def feed():
    nonlocal taken
    for line in lines:
      taken += 1
      yield line

  taken_by = [taken for _ in puzzle_text.read_puzzles(feed())]
  assert taken_by == [1, 2, 3, 12, 13, 23]


@pytest.mark.parametrize(
  'text, finding',
  [
    (LINE, None),
    (16 * '.', 'more than one solution'),
    ('5346789126721953481983425678597614234268537917139248569610372802870196303'
     '45286179', 'more than one solution'),
    ('531' + LINE[3:], 'no solution'),
    (625 * '.', None),
    (256 * '.', None),
    (write(without(solved(12), 3), '123456789ABC', '.'), None),
  ],
)  # fmt: skip
def test_diagnosis(text, finding):
  (problem,) = read(text)
  assert puzzle_text.diagnose(problem) == finding


LAYOUTS = 'line', 'rating', 'CSV', 'grid', 'spaced', 'bands', 'ruled', 'boxed'


def lay_out(text, box, layout):
  """Writes a board in one of `LAYOUTS`."""
  height, width = box
  side = height * width
  rows = [text[i : i + side] for i in range(0, side**2, side)]
  if layout in ('line', 'rating', 'CSV'):
    return {'line': text, 'rating': f'{text};1.5', 'CSV': f'12,{text},a'}[
      layout
    ]
  if layout not in ('grid', 'bands'):
    rows = [
      ' | '.join(' '.join(row[i : i + width]) for i in range(0, side, width))
      for row in rows
    ]
  ruler = {'bands': '', 'ruled': '--+--', 'boxed': '+-----+'}.get(layout)
  if ruler is not None:
    rows = [
      line
      for i, row in enumerate(rows)
      for line in ([ruler] if i and i % height == 0 else []) + [row]
    ]
  if layout == 'boxed':
    rows = [ruler, *(f'| {row} |' for row in rows), ruler]
  return '\n'.join(rows)


@hypothesis.given(
  st.sampled_from(list(puzzle_text.ALPHABETS)),
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
  """Whatever follows what, in order; the first rows may be empty."""
  text, puzzles = '# mixed', []
  for seed, (side, empty, share, layout, between) in enumerate(boards):
    rng = np.random.default_rng(seed)
    puzzle = solved(side) * (rng.random(side**2) < share)
    alphabet = ALPHABETS.get(side, {name: '123456789'})[name]
    empty = '.' if alphabet[0] == '0' == empty else empty
    box = data.box_shape(side**2)
    text += f'{between}\n' + lay_out(
      write(puzzle, alphabet, empty), box, layout
    )
    puzzles.append(puzzle)
  items = read(text, symbols=name)
  problems = [item for item in items if item]
  assert len(problems) == len(puzzles)
  for problem, puzzle in zip(problems, puzzles, strict=True):
    np.testing.assert_array_equal(problem.puzzle, puzzle)


PIECES = [*ROWS, LINE, SMALL, BOXES, '[Puzzle]', '[State]', '#', 'puzzle', ',']
PIECES += [
  '\n',
  '\n',
  '\n\n',
  '|',
  ' ',
  '----',
  '---------',
  '16',
  'G',
  '\0',
  'ß',
]


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
      assert data.contradictions(item.puzzle, box=item.box) is None
      assert box in (None, item.box)
