"""Trees of a treebank, cleaned, or of the grammar; of short sentences."""

import lzma
import pathlib

import numpy as np

from core import files
from core.errors import UserError
from seq2set.parsing import data, grammar

SPLITS = ('train', 'validation', 'test')
_SUFFIXES = {'train': 'train', 'validation': 'dev', 'test': 'test'}


def load(
  source: str,
  split: str,
  *,
  data_dir: str = '',
  max_words: int,
  num_generated: int,
) -> list[data.Tree]:
  """The trees of a split, of at most `max_words` words.

  Args:
    source: NAME of files NAME.train.ptb, NAME.dev.ptb and NAME.test.ptb in the
      data folder, trees in brackets, which may be compressed by xz; or
      'generated', by `seq2set.parsing.grammar`.
    split: one of `SPLITS`.
    data_dir: see `files.data_folder`.
    max_words: of a sentence.
    num_generated: trees of the grammar for training; a tenth of it for the
      other splits each.

  Raises:
    UserError: no such file, brackets that do not match, or no tree so short.
  """
  if source == 'generated':
    rng = np.random.default_rng(SPLITS.index(split))
    count = num_generated if split == 'train' else -(-num_generated // 10)
    trees = [grammar.sample(rng) for _ in range(count)]
  else:
    trees = _read(f'{source}.{_SUFFIXES[split]}.ptb', data_dir)
  short = [tree for tree in trees if len(tree.words()) <= max_words]
  if not short:
    raise UserError(
      f'{source!r} has no {split} trees of at most {max_words} words'
    )
  return short


def _read(name: str, data_dir: str) -> list[data.Tree]:
  path = files.locate([name, f'{name}.xz'], data_dir)
  if path is None:
    raise UserError(
      f'{name} not found in {files.data_folder(data_dir).absolute()} or its'
      ' sub-folders; see seq2set/README.md, or try generated trees:'
      ' --config=configs/seq2set/parsing.py:source=generated'
    )
  trees = map(data.clean, data.read(_lines(path), str(path)))
  # A single word has no phrase to find.
  return [tree for tree in trees if tree is not None and tree.children]


def _lines(path: pathlib.Path) -> list[str]:
  try:
    content = path.read_bytes()
    if path.suffix == '.xz':
      content = lzma.decompress(content)
    # Not splitlines: words may hold other separators.
    return content.decode().split('\n')
  except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
    raise UserError(f'{path} cannot be read as text: {error}') from error
