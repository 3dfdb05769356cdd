"""The bAbI data set as columns, cached as ArrayRecord; or stories of our own.

official    the 20 tasks of bAbI v1.2, English, 10k, with a validation split:
            9,000 / 1,000 / 1,000 questions a task (18: 8,996 / 1,004; 20: 9,002
            / 998), from the official archive or a folder unpacked from it.
partial     the same from an archive that has 925 questions of task 3's training
            file.
generated   stories like those of task 1, at once and without a file.
"""

import pathlib
import re
import tarfile
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from core import datasets, files
from core.errors import UserError
from rrn.babi import data

Columns = dict[str, np.ndarray]

SPLITS = ('train', 'validation', 'test')
_TASKS = {
  'official': range(1, 21),
  'partial': range(1, 21),
  'generated': range(1, 2),
}
_URL = 'http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz'
# Checked by what they hold.
_OFFICIAL = (
  'tasks_1-20_v1-2.tar.gz',
  'en-valid-10k/qa1_train.txt',
  'qa1_train.txt',
)
# The archive and its SHA-256; of task 3's training file it has 925 questions.
_PARTIAL = {
  'babi_en-valid-10k.tar.xz': (
    '3750183b996360f05134dc86b20ba129f183a0f5093022e88fadf6100e1889d8'
  )
}
_PARTIAL_TASK, _PARTIAL_COUNT = 3, 925
_HINT = 'or try generated stories: --config=configs/rrn/babi.py:smoke'
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
  """Loads a split, sorted by task: 'task', from 1, and `data.COLUMNS`.

  Args:
    source: 'official', 'partial' or 'generated'.
    split: one of `SPLITS`.
    data_dir: folder of the source files; see `files.data_folder`.

  Raises:
    UserError: unknown source, or a missing or wrong file.
  """
  tasks(source)  # refuses an unknown one
  if source == 'generated':
    return _generated(split)
  if source == 'partial' and split == 'train':
    logging.warning(
      'task %d has %d of its %d training questions; all are in %s',
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
  """The numbers of a source's tasks.

  Raises:
    UserError: unknown source.
  """
  if source not in _TASKS:
    raise UserError(f'no bAbI data {source!r}: there are {", ".join(_TASKS)}')
  return _TASKS[source]


class RrnBabi(tfds.core.GeneratorBasedBuilder):
  """Encoded questions; `make_splits()` gives the columns of each split."""

  VERSION = tfds.core.Version('1.1.0')
  code_path = None  # see `core.datasets`

  def __init__(
    self, *, make_splits: Callable[[], dict[str, Columns]], **kwargs
  ):
    self.make_splits = make_splits
    super().__init__(**kwargs)

  def _info(self):
    return datasets.info(self, {'task': ((), np.uint8)} | data.COLUMNS)

  def _split_generators(self, dl_manager):
    del dl_manager  # `files` finds the files
    splits = self.make_splits()
    return {name: self._generate_examples(c) for name, c in splits.items()}

  def _generate_examples(self, columns):
    return datasets.blocks(columns)


def _generated(split: str) -> Columns:
  rng = np.random.default_rng([SPLITS.index(split), 1])
  lines = data.generate(rng, _NUM_GENERATED[split])
  return _columns({1: list(data.read_questions(lines, 'generated'))})


def _make_splits(source: str, data_dir: str) -> dict[str, Columns]:
  path, texts = _read_texts(source, data_dir)
  questions = {split: {} for split in SPLITS}
  for name, text in texts.items():
    if match := _MEMBER.search(name):
      split = 'validation' if match[2] == 'valid' else match[2]
      read = data.read_questions(text.splitlines(), f'{path}: {name}')
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
          f' {expected}; replace it by {_URL}'
        )
  _check_vocabulary(questions['train'], path)
  return {split: _columns(by_task) for split, by_task in questions.items()}


def _read_texts(
  source: str, data_dir: str
) -> tuple[pathlib.Path, dict[str, str]]:
  """The source's path, and the texts of its files by name."""
  path = files.locate(_OFFICIAL, data_dir)
  is_there = files.locate(_PARTIAL, data_dir) is not None
  if source == 'partial' and path and not is_there:
    raise UserError(
      f'{", ".join(_PARTIAL)} not found, but {path}, which has all questions:'
      ' --config.data.source=official'
    )
  if source == 'partial' or path is None:
    if source == 'official' and is_there:
      raise UserError(
        f'there is only {", ".join(_PARTIAL)}, with {_PARTIAL_COUNT} of the'
        f' {_COUNTS["train"]} training questions of task {_PARTIAL_TASK}: get'
        f' {_URL}, or train on it by --config.data.source=partial'
      )
    # The official archive's checksum is never asked for: it is not there.
    names = _PARTIAL if is_there else {_OFFICIAL[0]: ''}
    path = files.find_file(names, data_dir, url=_URL, hint=_HINT)
  if path.suffix == '.txt':
    path = path.absolute().parent
    return path, {
      f'en-valid-10k/{file.name}': file.read_text('utf-8', errors='replace')
      for file in sorted(path.glob('qa*.txt'))
    }
  texts = {}
  try:
    with tarfile.open(path) as archive:
      for member in archive:
        file = archive.extractfile(member)  # None: a folder
        if file and _MEMBER.search(member.name):
          texts[member.name] = file.read().decode(errors='replace')
  except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
    raise UserError(
      f'{path} is damaged ({error}); replace it by {_URL}'
    ) from error
  return path, texts


def _check_vocabulary(by_task: dict[int, list[data.Question]], path):
  """Whether the training split has all words; others are refused earlier."""
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
      f'{path} lacks the words {", ".join(missing)}; replace it by {_URL}'
    )


def _columns(by_task: dict[int, list[data.Question]]) -> Columns:
  questions = [q for task in sorted(by_task) for q in by_task[task]]
  numbers = [t for t in sorted(by_task) for _ in by_task[t]]
  return {'task': np.array(numbers, np.uint8)} | data.encode(questions)
