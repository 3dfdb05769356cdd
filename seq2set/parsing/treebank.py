"""Load trees of short sentences, from a treebank or from the grammar."""

import numpy as np

from core.errors import UserError
from core.io import data_files
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
  """Load the trees of a split, cleaned, with at most `max_words` words each.

  Args:
    source: 'generated' samples trees from `seq2set.parsing.grammar`. A name
      selects the files NAME.train.ptb, NAME.dev.ptb and NAME.test.ptb in the
      data folder. They contain trees in brackets, plain or compressed with xz.
    split: one of `SPLITS`.
    data_dir: see `data_files.data_folder`.
    max_words: largest number of words in a sentence.
    num_generated: number of sampled training trees; each of the other splits
      has a tenth of it.

  Raises:
    UserError: the file does not exist, brackets do not match, or no tree is
      short enough.
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
  path = data_files.locate([name, f'{name}.xz'], data_dir)
  if path is None:
    raise UserError(
      f'{name} not found in {data_files.data_folder(data_dir).absolute()} or'
      ' its sub-folders; see seq2set/README.md for the data, or use generated'
      ' trees: --config=configs/seq2set/parsing.py:source=generated'
    )
  trees = map(data.clean, data.read(data_files.read_lines(path), str(path)))
  # A single word has no phrases to predict.
  return [tree for tree in trees if tree is not None and tree.children]
