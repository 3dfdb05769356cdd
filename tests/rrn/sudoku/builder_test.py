import functools
import hashlib
import itertools
import lzma
import os
import pathlib

import numpy as np
import pytest

from core.errors import UserError
from rrn.sudoku import builder, data, hard, variants


def digits(board):
  return ''.join(map(str, board))


def grids(columns):
  return {row.tobytes() for row in data.relabel(columns['solution'])}


def check_splits(splits):
  for columns in splits.values():
    for name in ('puzzle', 'solution'):
      assert columns[name].dtype == np.int8
    assert data.is_solution(columns['solution'], columns['puzzle']).all()
  for one, other in itertools.combinations(splits.values(), 2):
    assert not grids(one) & grids(other)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('LEARNED_ALGORITHMS_CACHE', str(tmp_path / 'cache'))


@pytest.mark.parametrize('box', [(2, 2), (2, 3)])
def test_generated_splits_share_no_solution(own_cache, box):
  splits = {
    split: builder.load(
      'generated', split, box=box, num_puzzles=300, num_held_out=30
    )
    for split in builder.SPLITS['generated']
  }
  check_splits(splits)
  sizes = {name: len(c['puzzle']) for name, c in splits.items()}
  assert sum(sizes.values()) == 300
  assert min(sizes['validation'], sizes['test']) >= 30
  assert sizes['train'] > 150


def test_variants_have_their_rules(own_cache):
  load = functools.partial(
    builder.load, 'generated', box=(2, 3), num_puzzles=40, num_held_out=5
  )
  units = variants.diagonal_units(2, 3)
  for split in builder.SPLITS['generated']:
    columns = load(split, variant='diagonal')
    assert set(columns) == {'puzzle', 'solution'}
    solution = columns['solution']
    assert data.is_solution(solution, columns['puzzle'], units=units).all()
    columns = load(split, box=(1, 5), variant='jigsaw')
    for puzzle, solution, regions in zip(
      *(columns[n] for n in ('puzzle', 'solution', 'regions')), strict=True
    ):
      jigsaw = variants.jigsaw_units(''.join('ABCDE'[r] for r in regions))
      found, counts = data.solve(puzzle[None], units=jigsaw)
      assert counts == 1
      np.testing.assert_array_equal(found[0], solution)


def test_hard_splits_share_no_solution(own_cache, monkeypatch):
  generate = functools.partial(hard.generate, num_chains=5, num_steps=8)
  monkeypatch.setattr(hard, 'generate', generate)
  splits = {
    split: builder.load('hard', split, num_puzzles=16, num_held_out=3, seed=3)
    for split in builder.SPLITS['hard']
  }
  check_splits(splits)
  for columns in splits.values():
    assert columns['guesses'].dtype == np.int32
    np.testing.assert_array_equal(
      columns['guesses'], hard.count_guesses(columns['puzzle'])
    )
  sizes = {name: len(c['puzzle']) for name, c in splits.items()}
  assert sum(sizes.values()) == 16
  assert min(sizes['validation'], sizes['test']) >= 3


@pytest.mark.parametrize('has_solutions', [False, True])
def test_own_file(own_cache, tmp_path, has_solutions):
  puzzles, solutions = data.generate(np.random.default_rng(0), 30, 2, 2)
  rows = zip(puzzles, solutions, strict=True)
  lines = [','.join(map(digits, row)) for row in rows]
  if not has_solutions:
    lines = [line[:16] for line in lines]
  path = tmp_path / 'mine.csv'
  header = ['puzzle,solution'] if has_solutions else []
  path.write_text('\n'.join(header + lines))
  splits = {
    split: builder.load(str(path), split, box=(2, 2))
    for split in builder.SPLITS['FILE.csv']
  }
  check_splits(splits)
  assert min(len(columns['puzzle']) for columns in splits.values()) >= 3
  loaded = {
    (p.tobytes(), s.tobytes())
    for c in splits.values()
    for p, s in zip(c['puzzle'], c['solution'], strict=True)
  }
  assert loaded == {
    (p.tobytes(), s.tobytes()) for p, s in zip(puzzles, solutions, strict=True)
  }
  path.write_text('\n'.join(lines[:12]))  # a new file is a new data set
  sizes = [
    len(builder.load(str(path), split, box=(2, 2))['puzzle'])
    for split in builder.SPLITS['FILE.csv']
  ]
  assert sum(sizes) == 12


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('0' * 16, 'line 2: the puzzle has more than one solution'),
    ('1230000400000000', 'line 2: the puzzle has no solution'),
    ('1100000000000000', 'line 2: no solution: digit 1 twice in row 1'),
    ('123', 'line 2: .*length 3'),
    ('1200' + '0' * 10 + '43,1234341243212143', 'line 2: '),
  ],
)
def test_own_file_names_the_bad_line(own_cache, tmp_path, line, message):
  path = tmp_path / 'mine.csv'
  path.write_text(f'1234341200002143\n{line}\n')
  with pytest.raises(UserError, match=f'mine.csv, {message}'):
    builder.load(str(path), 'train', box=(2, 2))


def test_own_file_must_exist(own_cache, tmp_path):
  with pytest.raises(UserError, match='cannot read.*none.csv'):
    builder.load(str(tmp_path / 'none.csv'), 'train')


def test_too_few_generated_puzzles(own_cache):
  with pytest.raises(UserError, match='too few'):
    builder.load(
      'generated', 'train', box=(2, 2), num_puzzles=10, num_held_out=9
    )


@pytest.mark.parametrize(
  ('source', 'split', 'box', 'message'),
  [
    ('hard_test', 'train', (3, 3), "'hard_test' with split 'train'"),
    ('nowhere', 'train', (3, 3), 'generated'),
    ('royle17', 'train', (2, 2), 'source=generated'),
    ('hard', 'train', (2, 2), 'source=generated'),
  ],
)
def test_unknown_data_is_refused(source, split, box, message):
  with pytest.raises(UserError, match=message):
    builder.load(source, split, box=box)


def test_only_generated_puzzles_have_variants():
  with pytest.raises(UserError, match="hard has no variant 'diagonal'"):
    builder.load('hard', 'train', variant='diagonal')


def test_missing_file_says_what_to_do(own_cache, tmp_path):
  with pytest.raises(UserError, match='sudoku17.*https.*source=generated'):
    builder.load('royle17', 'train', data_dir=str(tmp_path))


def write_upstream_files(folder, monkeypatch):
  """Write files in upstream's format: all puzzles, and a test set of some."""
  rng = np.random.default_rng(0)
  puzzles, solutions = data.generate(rng, 40, 3, 3, givens=30)
  names = np.array([0, 5, 3, 1, 2, 4, 6, 9, 8, 7])
  royle = '\n'.join(digits(p) for p in puzzles)
  test = '\n'.join(
    f'{digits(names[p])},{digits(names[s])}'
    for p, s in zip(puzzles[:5], solutions[:5], strict=True)
  )
  for table, name, text in (
    ('_ROYLE_FILES', 'sudoku17', royle),
    ('TEST_FILES', 'test.csv', test),
  ):
    (folder / name).write_text(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(builder, table, {name: sha256})
  monkeypatch.setattr(builder, '_NUM_VALIDATION', 10)
  return puzzles


def test_upstream_files_are_solved_and_split(own_cache, tmp_path, monkeypatch):
  puzzles = write_upstream_files(tmp_path, monkeypatch)
  splits = {
    split: builder.load('royle17', split, data_dir=str(tmp_path))
    for split in builder.SPLITS['royle17']
  }
  check_splits(splits)
  sizes = [len(columns['puzzle']) for columns in splits.values()]
  assert sizes == [25, 10, 5]
  np.testing.assert_array_equal(splits['test']['puzzle'], puzzles[:5])


def test_upstream_list_without_the_test_file_is_refused(
  own_cache, tmp_path, monkeypatch
):
  write_upstream_files(tmp_path, monkeypatch)
  (tmp_path / 'test.csv').unlink()
  with pytest.raises(UserError, match='test.csv not found'):
    builder.load('royle17', 'train', data_dir=str(tmp_path))


@pytest.fixture
def real_folder(own_cache):
  folder = os.environ.get('LEARNED_ALGORITHMS_DATA')
  if not folder:
    pytest.skip('LEARNED_ALGORITHMS_DATA does not name the folder of real data')
  if not list(pathlib.Path(folder).glob('**/sudoku17_royle.csv.xz')):
    pytest.skip('sudoku17_royle.csv.xz is not in LEARNED_ALGORITHMS_DATA')
  return pathlib.Path(folder)


def test_real_splits_leak_nothing_of_the_published_test_set(real_folder):
  splits = {
    split: builder.load('royle17', split) for split in builder.SPLITS['royle17']
  }
  check_splits(splits)
  sizes = [len(columns['puzzle']) for columns in splits.values()]
  assert sizes == [39773, 1000, 8378]
  hard = builder.load('hard_test', 'test')
  assert len(hard['puzzle']) == 18000
  counts = np.bincount((hard['puzzle'] > 0).sum(1))
  np.testing.assert_array_equal(counts[17:], [1000] * 18)
  assert grids(hard) == grids(splits['test'])


def test_solver_agrees_with_the_real_file(real_folder):
  (path,) = real_folder.glob('**/sudoku17_royle.csv.xz')
  with lzma.open(path, 'rt') as file:
    lines = file.read().split()[1:501]
  puzzles, solutions = (
    np.array([[*map(int, line.split(',')[i])] for line in lines])
    for i in range(2)
  )
  found, counts = data.solve(puzzles)
  assert (counts == 1).all()
  np.testing.assert_array_equal(found, solutions)
