"""Load the bAbI data set as columns, cached as ArrayRecord files.

Sources:
  official: the 20 tasks of bAbI v1.2 (English, 10k, with a validation split),
    from the official archive or from a folder unpacked from it. Each task has
    9,000 training, 1,000 validation, and 1,000 test questions; task 18 has
    8,996 / 1,004 / 1,000, and task 20 has 9,002 / 998 / 1,000.
  partial: an archive of the same files that has only 925 of the training
    questions of task 3.
  generated: stories like those of task 1, generated without a file.
"""

import pathlib
import re
import tarfile
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from core.errors import UserError, check_choice, one_line
from core.io import data_files, datasets
from rrn.babi import data

Columns = dict[str, np.ndarray]

SPLITS = ('train', 'validation', 'test')
_TASKS = {
  'official': range(1, 21),
  'partial': range(1, 21),
  'generated': range(1, 2),
}
_URL = 'http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz'
# Checked by their contents, not by a checksum.
_OFFICIAL = (
  'tasks_1-20_v1-2.tar.gz',
  'en-valid-10k/qa1_train.txt',
  'qa1_train.txt',
)
# The archive and its SHA-256.
_PARTIAL = {
  'babi_en-valid-10k.tar.xz': (
    '3750183b996360f05134dc86b20ba129f183a0f5093022e88fadf6100e1889d8'
  )
}
_PARTIAL_TASK, _PARTIAL_COUNT = 3, 925
_HINT = 'or train on generated stories: --config=configs/rrn/babi.py:smoke'
_COUNTS = {'train': 9000, 'validation': 1000, 'test': 1000}
_OTHER_COUNTS = {
  ('train', 18): 8996,
  ('validation', 18): 1004,
  ('train', 20): 9002,
  ('validation', 20): 998,
}
_MEMBER = re.compile(
  r'(?:^|/)en-valid-10k/qa(\d+)_(train|valid|test)(?:_partial)?\.txt$'
)
_NUM_GENERATED = {'train': 1000, 'validation': 100, 'test': 100}  # stories


def load(source: str, split: str, *, data_dir: str = '') -> Columns:
  """Load a split.

  Args:
    source: 'official', 'partial', or 'generated'.
    split: one of `SPLITS`.
    data_dir: folder of the source files; see `data_files.data_folder`.

  Returns:
    The columns of `data.COLUMNS` and 'task' (from 1), sorted by task.

  Raises:
    UserError: the source is unknown, or a file is missing or not as expected.
  """
  tasks(source)  # validates the source
  if source == 'generated':
    return _generated(split)
  if source == 'partial' and split == 'train':
    logging.warning(
      'task %d has only %d of its %d training questions; %s has all of them',
      _PARTIAL_TASK,
      _PARTIAL_COUNT,
      _COUNTS[split],
      _URL,
    )
  return datasets.load(
    RrnBabi,
    split,
    name='babi' if source == 'official' else 'babi_partial',
    make_splits=lambda: _make_splits(source, data_dir),
  )


def tasks(source: str) -> range:
  """Return the numbers of the tasks that a source contains.

  Raises:
    UserError: the source is unknown.
  """
  check_choice('config.data.source', source, _TASKS)
  return _TASKS[source]


class RrnBabi(tfds.core.GeneratorBasedBuilder):
  """Stores encoded questions; `make_splits()` returns the columns by split."""

  VERSION = tfds.core.Version('1.1.0')
  code_path = None  # see `core.io.datasets`

  def __init__(
    self, *, make_splits: Callable[[], dict[str, Columns]], **kwargs
  ):
    self.make_splits = make_splits
    super().__init__(**kwargs)

  def _info(self):
    return datasets.info(self, {'task': ((), np.uint8)} | data.COLUMNS)

  def _split_generators(self, dl_manager):
    del dl_manager  # `data_files` finds the files
    splits = self.make_splits()
    return {name: self._generate_examples(c) for name, c in splits.items()}

  def _generate_examples(self, columns):
    return datasets.blocks(columns)


def _generated(split: str) -> Columns:
  rng = np.random.default_rng([SPLITS.index(split), 1])
  lines = data.generate(rng, _NUM_GENERATED[split])
  return _columns({1: list(data.read_questions(lines, 'generated'))})


def _make_splits(source: str, data_dir: str) -> dict[str, Columns]:
  path, lines_by_name = _read_files(source, data_dir)
  questions = {split: {} for split in SPLITS}
  for name, lines in lines_by_name.items():
    if match := _MEMBER.search(name):
      split = 'validation' if match[2] == 'valid' else match[2]
      read = data.read_questions(lines, f'{path}: {name}')
      questions[split][int(match[1])] = list(read)
  for split, by_task in questions.items():
    for task in tasks(source):
      expected = _OTHER_COUNTS.get((split, task), _COUNTS[split])
      if (source, split, task) == ('partial', 'train', _PARTIAL_TASK):
        expected = _PARTIAL_COUNT
      count = len(by_task.get(task, ()))
      if count != expected:
        raise UserError(
          f'{path} has {count} {split} questions of task {task}, expected'
          f' {expected}; replace it with {_URL}'
        )
  _check_vocabulary(questions['train'], path)
  return {split: _columns(by_task) for split, by_task in questions.items()}


def _read_files(
  source: str, data_dir: str
) -> tuple[pathlib.Path, dict[str, list[str]]]:
  """Return the path of the source, and the lines of its files by name."""
  path = data_files.locate(_OFFICIAL, data_dir)
  has_partial = data_files.locate(_PARTIAL, data_dir) is not None
  if source == 'partial' and path and not has_partial:
    raise UserError(
      f'{", ".join(_PARTIAL)} not found, but {path} has all questions; use'
      ' --config.data.source=official'
    )
  if source == 'partial' or path is None:
    if source == 'official' and has_partial:
      raise UserError(
        f'found only {", ".join(_PARTIAL)}, with {_PARTIAL_COUNT} of the'
        f' {_COUNTS["train"]} training questions of task {_PARTIAL_TASK}; get'
        f' {_URL}, or use --config.data.source=partial'
      )
    # Without any archive, this call raises UserError with the official name.
    names = _PARTIAL if has_partial else {_OFFICIAL[0]: ''}
    path = data_files.find_file(names, data_dir, url=_URL, hint=_HINT)
  if path.suffix == '.txt':
    folder = path.absolute().parent
    return folder, {
      f'en-valid-10k/{file.name}': data_files.read_lines(file)
      for file in sorted(folder.glob('qa*.txt'))
    }
  return path, _read_archive(path)


def _read_archive(path: pathlib.Path) -> dict[str, list[str]]:
  lines_by_name = {}
  try:
    with tarfile.open(path) as archive:
      for member in archive:
        file = archive.extractfile(member)  # None for a folder
        if file and _MEMBER.search(member.name):
          text = file.read().decode('utf-8-sig', errors='replace')
          lines_by_name[member.name] = text.removesuffix('\n').split('\n')
  except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
    raise UserError(
      f'{path} is damaged ({one_line(error)}); replace it with {_URL}'
    ) from error
  return lines_by_name


def _check_vocabulary(by_task: dict[int, list[data.Question]], path):
  """Raise UserError if the training split lacks words of the vocabulary."""
  found = {
    word
    for questions in by_task.values()
    for question in questions
    for words in (*question.facts, question.words, (question.answer,))
    for word in words
  }
  missing = sorted(set(data.vocabulary()) - found - {'<unk>'})
  if missing:
    raise UserError(
      f'{path} lacks the words {", ".join(missing)}; replace it with {_URL}'
    )


def _columns(by_task: dict[int, list[data.Question]]) -> Columns:
  questions = [q for task in sorted(by_task) for q in by_task[task]]
  numbers = [t for t in sorted(by_task) for _ in by_task[t]]
  return {'task': np.array(numbers, np.uint8)} | data.encode(questions)
