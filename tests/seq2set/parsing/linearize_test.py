"""Both orders match the paper's, can be undone, and are repaired."""

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.io import data_files
from seq2set.parsing import data, linearize
from seq2set.parsing.data import Tree

FIGURE_2 = '(S (NP (DT This)) (VP (VBZ is) (NP (DT a) (NN sentence))) (. .))'
LABELS = {
  'depth_first': (
    'S NP DT !DT !NP VP VBZ !VBZ NP DT !DT NN !NN !NP !VP . !. !S'
  ),
  'breadth_first': 'S LEV NP VP . LEV DT PAR VBZ NP LEV PAR PAR DT NN DONE',
}


@pytest.mark.parametrize('order', linearize.ORDERS)
def test_figure_2(order):
  (tree,) = data.read([FIGURE_2], 'figure')
  labels = linearize.linearize(tree, order)
  assert ' '.join(labels) == LABELS[order]
  assert str(tree) == FIGURE_2


def trees():
  labels = st.sampled_from(['S', 'NP', 'VP', 'X'])
  tags = st.builds(lambda label: Tree(label, word='w'), labels)
  return st.recursive(
    tags,
    lambda child: st.builds(
      lambda label, children: Tree(label, tuple(children)),
      labels,
      st.lists(child, min_size=1, max_size=4),
    ),
    max_leaves=12,
  )


def numbered(tree, words=None):
  """Number the words, so that each word is different."""
  words = words or iter(range(1000))
  if tree.is_tag:
    return Tree(tree.label, word=f'w{next(words)}')
  return Tree(tree.label, tuple(numbered(c, words) for c in tree.children))


@pytest.mark.parametrize('order', linearize.ORDERS)
@given(trees())
def test_round_trip(order, tree):
  tree = numbered(tree)
  labels, words = linearize.linearize(tree, order), tree.words()
  for repairs in False, True:
    assert linearize.rebuild(labels, words, order, repairs=repairs) == tree
  # The labels do not fit a sentence with one word more or less.
  for other in words[:-1], [*words, 'more']:
    assert linearize.rebuild(labels, other, order, repairs=False) is None


@pytest.mark.parametrize('order', linearize.ORDERS)
@given(
  st.lists(
    st.sampled_from(['S', 'NP', '!S', '!NP', 'LEV', 'PAR', 'DONE', '!']),
    max_size=15,
  ),
  st.integers(1, 5),
)
def test_repaired_trees_have_all_words(order, labels, count):
  words = [f'w{k}' for k in range(count)]
  tree = linearize.rebuild(labels, words, order, repairs=True)
  assert tree is not None and tree.words() == words
  strict = linearize.rebuild(labels, words, order, repairs=False)
  if strict is not None:
    assert strict == tree
    assert linearize.linearize(strict, order) == labels


@pytest.mark.parametrize(
  'labels', ['S LEV DONE', 'S LEV A B LEV C PAR DONE', 'S DONE A', 'S LEV A']
)
def test_sequences_that_are_not_a_tree_give_none(labels):
  labels = labels.split()
  for words in ['w'], ['w', 'v']:
    tree = linearize.rebuild(labels, words, 'breadth_first', repairs=False)
    assert tree is None


@pytest.mark.parametrize('order', linearize.ORDERS)
def test_outputs_deeper_than_the_limit_are_repaired(order):
  labels = ['NP'] * 2000 if order == 'depth_first' else ['NP', 'LEV'] * 2000
  assert linearize.rebuild(labels, ['w'], order, repairs=False) is None
  tree = linearize.rebuild(labels, ['w'], order, repairs=True)
  assert tree.words() == ['w']


@pytest.mark.parametrize('order', linearize.ORDERS)
def test_round_trip_of_real_trees(order):
  folder = pathlib.Path(os.environ.get('LEARNED_ALGORITHMS_DATA', ''))
  paths = sorted(folder.glob('**/craft.*.ptb.xz'))
  if not os.environ.get('LEARNED_ALGORITHMS_DATA') or not paths:
    pytest.skip('LEARNED_ALGORITHMS_DATA names no folder with craft.*.ptb.xz')
  count = 0
  for path in paths:
    lines = data_files.read_lines(path)
    for tree in map(data.clean, data.read(lines, path.name)):
      if tree is not None:
        labels = linearize.linearize(tree, order)
        words = tree.words()
        again = linearize.rebuild(labels, words, order, repairs=False)
        assert again == tree
        count += 1
  assert count > 1000
