"""Text as indices of words: sentences from files, and their vocabulary.

A sentence is a line of words parted by spaces. Files are small and read each
time: a second for a million words.
"""

import collections
import lzma
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from core import files
from core.errors import UserError

SPLITS = ('train', 'validation', 'test')
END, UNKNOWN = '<eos>', '<unk>'  # words 0 and 1
Sentences = list[list[str]]

_SUFFIXES = {'train': 'train', 'validation': 'valid', 'test': 'test'}
_TENTHS = {'train': range(8), 'validation': (8,), 'test': (9,)}
_NUM_GENERATED = {'train': 10_000, 'validation': 1000, 'test': 1000}


def load(source: str, split: str, *, data_dir: str = '') -> Sentences:
  """The sentences of a split.

  Args:
    source: NAME of files NAME.train.txt, NAME.valid.txt and NAME.test.txt in
      the data folder, such as 'ptb', which may be compressed by xz; or the path
      of any text, of whose lines each ninth of ten is for validation and each
      tenth for test; or 'generated', by a small grammar.
    split: one of `SPLITS`.
    data_dir: see `files.data_folder`.

  Raises:
    UserError: no such file, no text, or a text without words.
  """
  if source == 'generated':
    rng = np.random.default_rng(SPLITS.index(split))
    return [generate(rng) for _ in range(_NUM_GENERATED[split])]
  name = f'{source}.{_SUFFIXES[split]}.txt'
  path, tenths = files.locate([name, f'{name}.xz'], data_dir), range(10)
  if path is None:
    path, tenths = pathlib.Path(source).expanduser(), _TENTHS[split]
  if not path.is_file():
    raise UserError(
      f'no text {source!r}: neither a file, nor is there {name} in'
      f' {files.data_folder(data_dir).absolute()} or its sub-folders; or try'
      ' generated text: the :smoke size'
    )
  lines = (line for n, line in enumerate(_read(path)) if n % 10 in tenths)
  sentences = [words for line in lines if (words := line.split())]
  if not sentences:
    raise UserError(f'{path} has no words for {split}')
  return sentences


def vocabulary(sentences: Iterable[Sequence[str]], size: int) -> dict[str, int]:
  """Indices of `END`, `UNKNOWN` and the most frequent words, in that order.

  Raises:
    UserError: `size` leaves no word.
  """
  if size < 3:
    raise UserError(f'config.data.vocabulary_size={size}: at least 3 expected')
  counts = collections.Counter(w for words in sentences for w in words)
  for special in END, UNKNOWN:
    counts.pop(special, None)
  # Of equally frequent ones the alphabet decides.
  ranked = sorted(counts, key=lambda word: (-counts[word], word))
  return {word: n for n, word in enumerate([END, UNKNOWN, *ranked[: size - 2]])}


def encode(words: Iterable[str], indices: dict[str, int]) -> list[int]:
  """The indices of words, `UNKNOWN`'s for those that have none."""
  return [indices.get(word, 1) for word in words]


def generate(rng: np.random.Generator) -> list[str]:
  """A sentence such as 'the big dog sees a cat near the old house .'.

  Frequent words are much more frequent than rare ones, as in true text.
  """

  def word(kind, count):
    return f'{kind}{min(int(rng.pareto(1.0)), count - 1)}'

  def phrase(is_last=False):
    words = [word('determiner', 4)]
    words += [word('adjective', 20) for _ in range(rng.geometric(0.6) - 1)]
    words += [word('noun', 60)]
    if not is_last and rng.random() < 0.4:
      words += [word('preposition', 8), *phrase(is_last=True)]
    return words

  return [*phrase(), word('verb', 40), *phrase(), '.']


def _read(path: pathlib.Path) -> list[str]:
  """The lines of a text in lower case."""
  try:
    data = path.read_bytes()
    if path.suffix == '.xz':
      data = lzma.decompress(data)
    return data.decode().lower().splitlines()
  except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
    raise UserError(f'{path} cannot be read as text: {error}') from error
