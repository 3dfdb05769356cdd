import hashlib
import itertools
import lzma
import os
import pathlib

import numpy as np
import pytest

from core.errors import UserError
from rrn.sudoku import builder, data


def grids(columns):
  return {row.tobytes() for row in data.relabel(columns['solution'])}


def check_splits(splits):
  for columns in splits.values():
    assert {c.dtype for c in columns.values()} == {np.dtype(np.int8)}
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
  ],
)
def test_what_is_not_there(source, split, box, message):
  with pytest.raises(UserError, match=message):
    builder.load(source, split, box=box)


def test_missing_file_says_what_to_do(own_cache, tmp_path):
  with pytest.raises(UserError, match='sudoku17.*https.*source=generated'):
    builder.load('royle17', 'train', data_dir=str(tmp_path))


def write_upstream_files(folder, monkeypatch):
  """Files as upstream has them: a list of puzzles, and a test set of some."""
  rng = np.random.default_rng(0)
  puzzles, solutions = data.generate(rng, 40, 3, 3, givens=30)
  names = np.array([0, 5, 3, 1, 2, 4, 6, 9, 8, 7])
  royle = '\n'.join(data.format_board(p) for p in puzzles)
  test = '\n'.join(
    f'{data.format_board(names[p])},{data.format_board(names[s])}'
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
    np.array([data.parse(line.split(',')[i], 81) for line in lines])
    for i in range(2)
  )
  found, counts = data.solve(puzzles)
  assert (counts == 1).all()
  np.testing.assert_array_equal(found, solutions)
