"""Load Sudoku data sets as columns, cached as ArrayRecord files.

Sources:
  royle17: Gordon Royle's 49,151 puzzles with 17 givens. 'test' has the 8,378
    puzzles whose solution, up to the names of the digits, is in hard_test.
    Therefore 'validation' (1,000) and 'train' have no test boards.
  hard_test: the paper's published test file: 18,000 boards, 1,000 with each
    number of givens from 17 to 34.
  generated: random puzzles on boards of any size, or with the rules of
    `variants`.
  hard: much more difficult puzzles; see `hard`.
  FILE.csv: the user's own puzzles, in any format that `puzzle_text` reads.

No two splits of a source share a solution, even with its digits renamed.
"""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from core.errors import UserError
from core.io import data_files, datasets
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
TEST_GIVENS = 17, 34  # fewest and most in the test file
_NUM_VALIDATION = 1000  # as in the paper
_SPLIT_SEED = 0


def load(
  source: str,
  split: str,
  *,
  data_dir: str = '',
  box: data.Box = (3, 3),
  num_puzzles: int = 5000,
  num_held_out: int | None = None,
  seed: int = 0,
  variant: str = 'standard',
  measure: str = 'guesses',
) -> Columns:
  """Load a split of a source.

  Args:
    source: a key of `SPLITS`, or the path of a file, which has a suffix.
    split: one of `SPLITS[source]`.
    data_dir: folder of the source files; see `data_files.data_folder`.
    box: height and width of the boxes; some sources have only 3 x 3.
    num_puzzles: number of generated or hard puzzles, over all splits.
    num_held_out: smallest number of puzzles in 'validation', and in 'test'.
      None selects a tenth of `num_puzzles`, at most 500.
    seed: seed of the generator.
    variant: rules of the generated puzzles; see `variants`.
    measure: measure of the difficulty of hard puzzles; see `hard`.

  Returns:
    'puzzle' and 'solution', int8 [rows, N]; for the source 'hard', also
    'guesses' and 'unrefuted', int32 [rows]; for jigsaw puzzles, also 'regions',
    int8 [rows, N], where 0 is the first region.

  Raises:
    UserError: the source, the split, or the board is unknown, or a file is
      missing or has a wrong checksum.
  """
  box = tuple(box)
  _check(source, split, box, variant)
  if num_held_out is None:
    num_held_out = min(500, num_puzzles // 10)
  sizes = num_puzzles, num_held_out, seed
  num_cells = math.prod(box) ** 2
  extra = {}
  if source == 'hard':
    extra = {column: ((), np.int32) for column in ('guesses', 'unrefuted')}
  elif variant == 'jigsaw':
    extra = {'regions': ((num_cells,), np.int8)}
  name, make_splits = _find_source(
    source, data_dir, box=box, sizes=sizes, variant=variant, measure=measure
  )
  return datasets.load(
    RrnSudoku,
    split,
    name=name,
    make_splits=make_splits,
    num_cells=num_cells,
    extra=extra,
  )


def _find_source(
  source: str,
  data_dir: str,
  *,
  box: data.Box,
  sizes: tuple[int, int, int],
  variant: str,
  measure: str,
) -> tuple[str, Callable[[], dict[str, Columns]]]:
  """Return the name of a source in the cache, and the maker of its splits.

  `sizes` are the last three arguments of `_generated` and `_hard`.
  """
  if source == 'generated':
    make_splits = functools.partial(_generated, box, variant, *sizes)
    return _generated_name(box, variant, sizes), make_splits
  if source == 'hard':
    name = '_'.join(map(str, (measure, *sizes)))
    return name, functools.partial(_hard, measure, *sizes)
  if _is_file(source):
    lines = data_files.read_lines(source)
    name = f'own_{box[0]}x{box[1]}_{_digest(*lines)}'
    return name, functools.partial(_own, source, lines, box)
  loaders = {'royle17': _royle17, 'hard_test': _hard_test}
  return source, functools.partial(loaders[source], data_dir)


def _generated_name(box: data.Box, variant: str, sizes: tuple[int, ...]) -> str:
  """Return the name of generated puzzles in the cache."""
  parts = ['generated', f'{box[0]}x{box[1]}', *sizes]
  if variant in variants.VARIANTS and variant != 'standard':
    parts.insert(0, variant)
  elif variant != 'standard':  # the regions of a jigsaw
    parts.insert(0, _digest(variant))
  return '_'.join(map(str, parts))


def _digest(*lines: str) -> str:
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]


def _is_file(source: str) -> bool:
  return bool(pathlib.Path(source).suffix)


def _check(source: str, split: str, box: data.Box, variant: str):
  """Raise UserError if there is no such data set."""
  if split not in SPLITS.get('FILE.csv' if _is_file(source) else source, ()):
    raise UserError(
      f'no Sudoku data {source!r} with split {split!r}; expected one of '
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
  """Stores puzzles, solutions, and the columns that `extra` declares.

  Args:
    make_splits: returns the columns of each split.
    num_cells: number of cells of a board.
    extra: shape and type of one row of each additional column.
  """

  VERSION = tfds.core.Version('1.1.0')
  code_path = None  # see `core.io.datasets`

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
    del dl_manager  # `data_files.find_file` finds the files
    splits = self.make_splits()
    return {name: self._generate_examples(c) for name, c in splits.items()}

  def _generate_examples(self, columns):
    return datasets.blocks(columns)


def _royle17(data_dir: str) -> dict[str, Columns]:
  path = data_files.find_file(
    _ROYLE_FILES, data_dir, url=_ROYLE_URL, hint=_HINT
  )
  if path.suffix == '.xz':
    puzzles, solutions, marks = _read_csv(path, skip_header=True)
    test = solutions[marks[:, 0] == 1]
  else:
    (puzzles,) = _read_csv(path)
    solutions, counts = data.solve(puzzles)
    if (counts != 1).any():
      raise UserError(
        f'{path} has a puzzle without a unique solution; replace it with'
        f' {_ROYLE_URL}'
      )
    test = _hard_test(data_dir)['test']['solution']
  # The third column marks test puzzles, but misses six puzzles whose solution
  # is that of a test puzzle.
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
  path = data_files.find_file(TEST_FILES, data_dir, url=TEST_URL, hint=_HINT)
  puzzles, solutions = _read_csv(path)
  return {'test': {'puzzle': puzzles, 'solution': solutions}}


def _generated(
  box: data.Box, variant: str, num_puzzles: int, num_held_out: int, seed: int
) -> dict[str, Columns]:
  """Make minimal puzzles; above 12 x 12, half of the cells are given."""
  num_cells = math.prod(box) ** 2
  data.box_shape(num_cells, box)
  columns = variants.generate(
    np.random.default_rng(seed),
    num_puzzles,
    box=box,
    variant=variant,
    givens=None if num_cells <= 144 else num_cells // 2,
  )
  return _split(columns, num_held_out)


def _hard(
  measure: str, num_puzzles: int, num_held_out: int, seed: int
) -> dict[str, Columns]:
  logging.warning(
    'generating %d hard puzzles takes about %d minutes on one CPU core; they'
    ' are kept for later runs',
    num_puzzles,
    math.ceil(num_puzzles / 1000),
  )
  columns = hard.generate(
    np.random.default_rng(seed), num_puzzles, measure=measure
  )
  return _split(columns, num_held_out)


def _own(source: str, lines: list[str], box: data.Box) -> dict[str, Columns]:
  """Read and solve the user's puzzles; hold out two sets of 10 % each."""
  problems = []
  for problem in puzzle_text.read_puzzles(lines, box=box):
    if isinstance(problem, UserError):
      raise UserError(f'{source}, line {problem.line}: {problem}')
    if problem is not None:
      problems.append(problem)
  if not problems:
    raise UserError(f'{source} has no puzzles; expected at least three')
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
  """Make three splits that share no solution, even with digits renamed."""
  part = _parts(columns['solution'], num_held_out).clip(max=2)
  names = 'test', 'validation', 'train'
  rows = {name: np.flatnonzero(part == i) for i, name in enumerate(names)}
  if not all(len(r) for r in rows.values()):
    raise UserError(
      f'{len(part)} puzzles are too few for validation and test sets of'
      f' {num_held_out} puzzles without shared solutions; use more puzzles'
    )
  return _select(columns, rows)


def _parts(solutions: np.ndarray, size: int) -> np.ndarray:
  """Divide rows into parts; return the index of each row's part: int [rows].

  Parts are filled in the order of the rows, and have `size` rows or a few more;
  the last may have fewer. Rows with the same solution, up to the names of the
  digits, are in the same part.
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
  """Return the digits of each column: int8 [rows, characters] each."""
  # No line contains a space, so `split` only drops blank lines.
  lines = ' '.join(data_files.read_lines(path)).split()[int(skip_header) :]
  columns = zip(*(line.split(',') for line in lines), strict=True)
  return [
    np.array(column, 'S').view(np.int8).reshape(len(lines), -1) - ord('0')
    for column in columns
  ]


def _grid_names(solutions: np.ndarray) -> np.ndarray:
  """Return one name per solution, equal if only the digits are renamed."""
  grids = np.ascontiguousarray(data.relabel(solutions), np.int8)
  return grids.view(f'S{grids.shape[1]}')[:, 0]
