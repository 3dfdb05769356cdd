"""Text as word indices: sentences from files, and their vocabulary.

One line is one sentence: words separated by spaces. Files are read again for
each use, which takes a second per million words.
"""

import collections
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
  """Load the sentences of a split, in lower case.

  Args:
    source: one of three kinds. NAME selects the files NAME.train.txt,
      NAME.valid.txt and NAME.test.txt in the data folder, plain or compressed
      with xz. A path selects any text: of every ten lines, the ninth is for
      validation and the tenth for test. 'generated' samples from a small
      grammar.
    split: one of `SPLITS`.
    data_dir: see `files.data_folder`.

  Raises:
    UserError: the file does not exist, is not text, or has no words.
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
      f'text {source!r} not found: {source} is not a file, and'
      f' {files.data_folder(data_dir).absolute()} and its sub-folders hold no'
      f' {name}; give the path of a text as source=PATH, or use generated text'
      ' with the :smoke size'
    )
  lines = files.read_lines(path)
  chosen = (line for n, line in enumerate(lines) if n % 10 in tenths)
  sentences = [words for line in chosen if (words := line.lower().split())]
  if not sentences:
    raise UserError(f'{path} has no words for the {split} split')
  return sentences


def vocabulary(sentences: Iterable[Sequence[str]], size: int) -> dict[str, int]:
  """Map `END`, `UNKNOWN` and the most frequent words to indices, in this order.

  Raises:
    UserError: `size` leaves no room for words.
  """
  if size < 3:
    raise UserError(f'config.data.vocabulary_size={size}: at least 3 expected')
  counts = collections.Counter(w for words in sentences for w in words)
  for special in END, UNKNOWN:
    counts.pop(special, None)
  # The alphabet decides between equally frequent words.
  ranked = sorted(counts, key=lambda word: (-counts[word], word))
  return {word: n for n, word in enumerate([END, UNKNOWN, *ranked[: size - 2]])}


def encode(words: Iterable[str], indices: dict[str, int]) -> list[int]:
  """Map words to indices; words without an index become `UNKNOWN`."""
  return [indices.get(word, 1) for word in words]


def generate(rng: np.random.Generator) -> list[str]:
  """Sample a sentence such as 'the big dog sees a cat near the old house .'.

  Word frequencies follow a power law, as in natural text.
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
