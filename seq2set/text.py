"""Text as word indices: sentences from files, and their vocabulary.

One line is one sentence: words separated by spaces. Each call of `load` reads
the file again, which takes a second per million words.
"""

import collections
import functools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from core.errors import UserError
from core.io import data_files

SPLITS = ('train', 'validation', 'test')
END, UNKNOWN = '<eos>', '<unk>'  # words 0 and 1
Sentences = list[list[str]]

_SUFFIXES = {'train': 'train', 'validation': 'valid', 'test': 'test'}
_TENTHS = {'train': range(8), 'validation': (8,), 'test': (9,)}
_NUM_GENERATED = {'train': 10_000, 'validation': 1000, 'test': 1000}


def load(source: str, split: str, *, data_dir: str = '') -> Sentences:
  """Load the sentences of a split, in lower case.

  Args:
    source: 'generated', a name, or a path. 'generated' samples from a small
      grammar. A name selects the files NAME.train.txt, NAME.valid.txt and
      NAME.test.txt in the data folder, plain or compressed with xz. A path
      selects any text file. The ninth of every ten lines is for validation,
      and the tenth for test.
    split: one of `SPLITS`.
    data_dir: see `data_files.data_folder`.

  Raises:
    UserError: the file does not exist, is not text, or has no words.
  """
  if source == 'generated':
    rng = np.random.default_rng(SPLITS.index(split))
    return [generate(rng) for _ in range(_NUM_GENERATED[split])]
  name = f'{source}.{_SUFFIXES[split]}.txt'
  path = data_files.locate([name, f'{name}.xz'], data_dir)
  tenths = range(10)
  if path is None:
    path = pathlib.Path(source).expanduser()
    tenths = _TENTHS[split]
  if not path.is_file():
    raise UserError(
      f'text {source!r} not found: {source} is not a file, and'
      f' {data_files.data_folder(data_dir).absolute()} and its sub-folders hold'
      f' no {name}; give the path of a text as source=PATH, or use generated'
      ' text with the :smoke size'
    )
  lines = data_files.read_lines(path)
  chosen = (line for n, line in enumerate(lines) if n % 10 in tenths)
  sentences = [words for line in chosen if (words := line.lower().split())]
  if not sentences:
    raise UserError(f'{path} has no words for the {split} split')
  return sentences


def vocabulary(sentences: Iterable[Sequence[str]], size: int) -> dict[str, int]:
  """Map `END`, `UNKNOWN` and the most frequent words to indices, in this order.

  Args:
    sentences: words of the training text.
    size: number of indices.

  Raises:
    UserError: `size` leaves no room for words.
  """
  if size < 3:
    raise UserError(
      f'config.data.vocabulary_size={size} is too small; use at least 3'
    )
  counts = collections.Counter(w for words in sentences for w in words)
  for special in END, UNKNOWN:
    counts.pop(special, None)
  # Equally frequent words are in alphabetical order.
  ranked = sorted(counts, key=lambda word: (-counts[word], word))
  words = [END, UNKNOWN, *ranked[: size - 2]]
  return {word: index for index, word in enumerate(words)}


def encode(words: Iterable[str], indices: dict[str, int]) -> list[int]:
  """Map words to indices; words without an index become `UNKNOWN`."""
  return [indices.get(word, indices[UNKNOWN]) for word in words]


class Corpus:
  """Sentences of a source, encoded by the vocabulary of its training split.

  Files are read on first use.

  Args:
    source: see `load`.
    vocabulary_size: number of indices, see `vocabulary`.
    data_dir: see `load`.
  """

  def __init__(self, source: str, vocabulary_size: int, *, data_dir: str = ''):
    self._load = functools.partial(load, source, data_dir=data_dir)
    self._vocabulary_size = vocabulary_size

  @functools.cached_property
  def _indices(self) -> dict[str, int]:
    return vocabulary(self._load('train'), self._vocabulary_size)

  def encode(self, words: Iterable[str]) -> list[int]:
    """Map words to indices; unknown words become `UNKNOWN`."""
    return encode(words, self._indices)

  def sentences(self, split: str) -> list[list[int]]:
    """Load the sentences of a split as word indices.

    Raises:
      UserError: see `load` and `vocabulary`.
    """
    return [self.encode(words) for words in self._load(split)]


def generate(rng: np.random.Generator) -> list[str]:
  """Sample a sentence such as 'determiner0 noun3 verb0 determiner1 noun0 .'.

  A noun may have adjectives and a prepositional phrase, as in 'the big dog sees
  a cat near the old house .'. Word frequencies follow a power law, as in
  natural text.
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
