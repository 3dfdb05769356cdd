"""Sudoku data sets, cached as ArrayRecord.

royle17     Gordon Royle's 49,151 puzzles with 17 givens. 'test' has the 8,378
            whose solution, up to digit names, is in hard_test, so that
            'validation' (1,000) and 'train' leak nothing.
hard_test   The paper's published test file: 18,000 boards, 1,000 with each
            number of givens from 17 to 34.
generated   Random puzzles for boards of any size and for `variants`.
hard        Puzzles that need many guesses; see `hard`.
FILE.csv    The user's own puzzles, in any format that `puzzle_text` reads.

No two splits of a source share a solution, even with its digits renamed.
"""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from core import datasets, files
from core.errors import UserError
from rrn.sudoku import data, hard, puzzle_text, variants

Columns = dict[str, np.ndarray]

_ALL_SPLITS = 'train', 'validation', 'test'
SPLITS = {
  'royle17': _ALL_SPLITS,
  'hard_test': ('test',),
  'generated': _ALL_SPLITS,
  'hard': _ALL_SPLITS,
  'FILE.csv': _ALL_SPLITS,
}
_HINT = 'or generate puzzles: --config=configs/rrn/sudoku.py:source=generated'
# Names and SHA-256 of the files: ours (with solutions), then upstream's.
_ROYLE_FILES = {
  'sudoku17_royle.csv.xz': (
    '72e79aa4889aaf838a9c609fd41322c0daf454937b06c935e37cd449f9ef1a91'
  ),
  'sudoku17': (
    'a4370dcc617e56fdb88958f9fe8b015fbeb397caab68a75065427fafa2afc32f'
  ),
}
_ROYLE_URL = (
  'https://raw.githubusercontent.com/rikshot/rustdoku/'
  '5fa5444c886f8bcdcd96f8000e639bb4dc1ac1d4/sudoku17'
)
TEST_FILES = {
  'rrn_sudoku_hard_test.csv.xz': (
    'f9c5be188ce082d93145b86f9a0438814adc534b4adba2d9390eb6bfaf2c343a'
  ),
  'test.csv': (
    '1b14d68f58de6f64b3db4032eaf4ea68783471aceb8ff10306b92d0479c6bc99'
  ),
}
TEST_URL = (
  'https://raw.githubusercontent.com/azreasoners/cl-ste/'
  '0ef8c28c90065346c9ae36638ae4c9b8a23b7435/data/palm_sudoku/test.csv'
)
TEST_GIVENS = 17, 34  # fewest and most of the test file
_NUM_VALIDATION = 1000  # base puzzles, as in the paper
_SPLIT_SEED = 0


def load(
  source: str,
  split: str,
  *,
  data_dir: str = '',
  box: data.Box = (3, 3),
  num_puzzles: int = 5000,
  num_held_out: int = 500,
  seed: int = 0,
  variant: str = 'standard',
) -> Columns:
  """Load a split: 'puzzle' and 'solution', int8 [rows, N].

  'hard' also has 'guesses', int32 [rows]; jigsaw puzzles also have 'regions',
  int8 [rows, N], 0 for the first.

  Args:
    source: a key of `SPLITS`, or the path of a file, which has a suffix.
    split: one of `SPLITS[source]`.
    data_dir: folder of the source files; see `files.data_folder`.
    box: height and width of the boxes; some sources have only 3 x 3.
    num_puzzles: number of generated or hard puzzles, over all splits.
    num_held_out: smallest number of them in 'validation', and in 'test'.
    seed: of the generator.
    variant: of the generated puzzles; see `variants`.

  Raises:
    UserError: unknown source, split or board, or a missing or wrong file.
  """
  box = tuple(box)
  _check(source, split, box, variant)
  num_cells = math.prod(box) ** 2
  size = f'{box[0]}x{box[1]}'
  name, extra = source, {}
  if source == 'generated':
    make = functools.partial(
      _generated, box, num_puzzles, num_held_out, seed, variant
    )
    name = f'{source}_{size}_{num_puzzles}_{num_held_out}_{seed}'
    if variant != 'standard':
      name = f'{variant}_{name}'
    if variant == 'jigsaw':
      extra = {'regions': ((num_cells,), np.int8)}
  elif source == 'hard':
    make = functools.partial(_hard, num_puzzles, num_held_out, seed)
    name = f'{source}_{num_puzzles}_{num_held_out}_{seed}'
    extra = {'guesses': ((), np.int32)}
  elif _is_file(source):
    lines = files.read_lines(source)
    make = functools.partial(_own, source, lines, box)
    digest = hashlib.sha256('\n'.join(lines).encode()).hexdigest()
    name = f'own_{size}_{digest[:16]}'
  else:
    loaders = {'royle17': _royle17, 'hard_test': _hard_test}
    make = functools.partial(loaders[source], data_dir)
  return datasets.load(
    RrnSudoku,
    split,
    name=name,
    make_splits=make,
    num_cells=num_cells,
    extra=extra,
  )


def _is_file(source: str) -> bool:
  return bool(pathlib.Path(source).suffix)


def _check(source: str, split: str, box: data.Box, variant: str):
  """Raise UserError if there is no such data set."""
  if split not in SPLITS.get('FILE.csv' if _is_file(source) else source, ()):
    raise UserError(
      f'no Sudoku data {source!r} with split {split!r}; there are '
      + ', '.join(f'{name} ({"/".join(s)})' for name, s in SPLITS.items())
    )
  if box != (3, 3) and source in ('royle17', 'hard_test', 'hard'):
    raise UserError(
      f'{source} has 9 x 9 boards; for boxes of {box[0]} x {box[1]} use'
      ' source=generated'
    )
  if variant != 'standard' and source != 'generated':
    raise UserError(
      f'{source} has no variant {variant!r}; use source=generated'
    )


class RrnSudoku(tfds.core.GeneratorBasedBuilder):
  """Boards of `num_cells`, and the columns that `extra` declares.

  `make_splits()` returns the columns of each split.
  """

  VERSION = tfds.core.Version('1.1.0')
  code_path = None  # see `core.datasets`

  def __init__(
    self,
    *,
    make_splits: Callable[[], dict[str, Columns]],
    num_cells: int,
    extra: dict[str, tuple[tuple[int, ...], type]],
    **kwargs,
  ):
    self.make_splits = make_splits
    cells = (num_cells,), np.int8
    self.columns = {'puzzle': cells, 'solution': cells, **extra}
    super().__init__(**kwargs)

  def _info(self):
    return datasets.info(self, self.columns)

  def _split_generators(self, dl_manager):
    del dl_manager  # `files.find_file` finds the files
    splits = self.make_splits()
    return {name: self._generate_examples(c) for name, c in splits.items()}

  def _generate_examples(self, columns):
    return datasets.blocks(columns)


def _royle17(data_dir: str) -> dict[str, Columns]:
  path = files.find_file(_ROYLE_FILES, data_dir, url=_ROYLE_URL, hint=_HINT)
  if path.suffix == '.xz':
    puzzles, solutions, in_test = _read_csv(path, skip_header=True)
    test = solutions[in_test[:, 0] == 1]
  else:
    (puzzles,) = _read_csv(path)
    solutions, counts = data.solve(puzzles)
    if (counts != 1).any():
      raise UserError(f'{path} has a puzzle without exactly one solution')
    test = _hard_test(data_dir)['test']['solution']
  # Wider than the column: six other puzzles have a test puzzle's solution.
  in_test = np.isin(_grid_names(solutions), _grid_names(test))
  rest = np.random.default_rng(_SPLIT_SEED).permutation(
    np.flatnonzero(~in_test)
  )
  part = _parts(solutions[rest], _NUM_VALIDATION)
  rows = {
    'train': rest[part > 0],
    'validation': rest[part == 0],
    'test': np.flatnonzero(in_test),
  }
  return _select({'puzzle': puzzles, 'solution': solutions}, rows)


def _hard_test(data_dir: str) -> dict[str, Columns]:
  path = files.find_file(TEST_FILES, data_dir, url=TEST_URL, hint=_HINT)
  puzzles, solutions = _read_csv(path)
  return {'test': {'puzzle': puzzles, 'solution': solutions}}


def _generated(
  box: data.Box, num_puzzles: int, num_held_out: int, seed: int, variant: str
) -> dict[str, Columns]:
  """Make minimal puzzles; above 9 x 9, half of the cells stay given."""
  num_cells = math.prod(box) ** 2
  data.box_shape(num_cells, box)
  columns = variants.generate(
    np.random.default_rng(seed),
    num_puzzles,
    box=box,
    variant=variant,
    givens=None if num_cells <= 81 else num_cells // 2,
  )
  return _split(columns, num_held_out)


def _hard(num_puzzles: int, num_held_out: int, seed: int) -> dict[str, Columns]:
  columns = hard.generate(np.random.default_rng(seed), num_puzzles)
  return _split(columns, num_held_out)


def _own(source: str, lines: list[str], box: data.Box) -> dict[str, Columns]:
  """Read the user's puzzles and solve them; hold out 10 % twice."""
  problems = []
  for problem in puzzle_text.read_puzzles(lines, box=box):
    if isinstance(problem, UserError):
      raise UserError(f'{source}, line {problem.line}: {problem}')
    if problem is not None:
      problems.append(problem)
  if not problems:
    raise UserError(f'{source} has no puzzle')
  puzzles = np.stack([problem.puzzle for problem in problems])
  solutions, counts = data.solve(puzzles, box=box)
  for problem, solution, count in zip(problems, solutions, counts, strict=True):
    where = f'{source}, line {problem.line}'
    if count != 1:
      number = 'no solution' if count == 0 else 'more than one solution'
      raise UserError(f'{where}: the puzzle has {number}; remove it')
    if problem.solution is not None and (problem.solution != solution).any():
      raise UserError(f'{where}: the solution is wrong; remove it')
  rows = np.random.default_rng(_SPLIT_SEED).permutation(len(puzzles))
  columns = {'puzzle': puzzles[rows], 'solution': solutions[rows]}
  return _split(columns, max(1, len(puzzles) // 10))


def _split(columns: Columns, num_held_out: int) -> dict[str, Columns]:
  """Make three splits that share no solution up to digit names."""
  part = _parts(columns['solution'], num_held_out).clip(max=2)
  names = 'test', 'validation', 'train'
  rows = {name: np.flatnonzero(part == i) for i, name in enumerate(names)}
  if not all(len(r) for r in rows.values()):
    raise UserError(
      f'{len(part)} puzzles are too few for three splits with {num_held_out}'
      ' held out twice and no shared solution; use more puzzles'
    )
  return _select(columns, rows)


def _parts(solutions: np.ndarray, size: int) -> np.ndarray:
  """Number rows by parts of `size` or a few more, in order of appearance.

  Rows with the same solution, up to digit names, are in the same part.
  """
  _, first, grids, counts = np.unique(
    _grid_names(solutions),
    return_index=True,
    return_inverse=True,
    return_counts=True,
  )
  parts = np.zeros_like(counts)
  part = num_rows = 0
  for grid in first.argsort():
    parts[grid] = part
    num_rows += counts[grid]
    if num_rows >= size:
      part, num_rows = part + 1, 0
  return parts[grids]


def _select(
  columns: Columns, rows: dict[str, np.ndarray]
) -> dict[str, Columns]:
  return {
    split: {name: column[index] for name, column in columns.items()}
    for split, index in rows.items()
  }


def _read_csv(path: pathlib.Path, *, skip_header: bool = False):
  """The digits of each column: int8 [rows, characters] each."""
  lines = ' '.join(files.read_lines(path)).split()[skip_header:]
  columns = zip(*(line.split(',') for line in lines), strict=True)
  return [
    np.array(column, 'S').view(np.int8).reshape(len(lines), -1) - ord('0')
    for column in columns
  ]


def _grid_names(solutions: np.ndarray) -> np.ndarray:
  """One name a solution, the same for those that differ by renamed digits."""
  grids = np.ascontiguousarray(data.relabel(solutions), np.int8)
  return grids.view(f'S{grids.shape[1]}')[:, 0]
