"""Trees as sequences of labels, depth first and breadth first, and back.

Words are left out; they are put back from left to right. Of the sentence 'This
is a sentence .' (the paper's Figure 2):

  depth first    S NP DT !DT !NP VP VBZ !VBZ NP DT !DT NN !NN !NP !VP . !. !S
  breadth first  S LEV NP VP . LEV DT PAR VBZ NP LEV PAR PAR DT NN DONE

Depth first, X opens a node and !X closes it. Breadth first, LEV begins a level,
which has the children of each node of the level above, and PAR parts those of
different nodes; empty groups at the end of a level are left out; DONE ends.
"""

from collections.abc import Iterable, Iterator, Sequence

from core.errors import check_choice
from seq2set.parsing.data import MAX_DEPTH, Tree

ORDERS = 'depth_first', 'breadth_first'
LEVEL, PARENT, DONE = 'LEV', 'PAR', 'DONE'
CLOSE = '!'
_UNKNOWN = 'XX'  # a part of speech, of words that a tree has no place for


def linearize(tree: Tree, order: str) -> list[str]:
  """A tree as labels, in one of `ORDERS`."""
  check_choice('order', order, ORDERS)
  return depth_first(tree) if order == 'depth_first' else breadth_first(tree)


def rebuild(
  labels: Sequence[str], words: Sequence[str], order: str, *, repairs: bool
) -> Tree | None:
  """The tree of labels, with its words; None where there are none.

  Labels that are no tree, or have another number of parts of speech than there
  are words, are repaired: what is open too long is closed, what nothing has
  opened is left out, parts of speech without a word go, and words without one
  are put at the end; what is deeper than any tree that is read goes. Without
  `repairs` such labels give None.
  """
  check_choice('order', order, ORDERS)
  build = _from_depth if order == 'depth_first' else _from_breadth
  left = iter(words)
  tree = _with_words(build(labels), left)
  if tree is None:
    return None
  rest = tuple(Tree(_UNKNOWN, word=word) for word in left)
  if rest:
    children = tree.children or (Tree(tree.label, word=tree.word),)
    tree = Tree(tree.label if tree.children else 'S', children + rest)
  if not repairs and linearize(tree, order) != list(labels):
    return None
  return tree


def depth_first(tree: Tree) -> list[str]:
  """The labels, each opened and closed."""
  inside = [label for child in tree.children for label in depth_first(child)]
  return [tree.label, *inside, CLOSE + tree.label]


def breadth_first(tree: Tree) -> list[str]:
  """The labels, level by level."""
  labels, level = [tree.label], [tree]
  while any(node.children for node in level):
    groups = [[child.label for child in node.children] for node in level]
    while not groups[-1]:
      groups.pop()
    labels.append(LEVEL)
    for index, group in enumerate(groups):
      labels += [PARENT] * (index > 0) + group
    level = [child for node in level for child in node.children]
  return [*labels, DONE]


class _Node:
  """A tree in the making."""

  def __init__(self, label: str):
    self.label = label
    self.children: list[_Node] = []


def _from_depth(labels: Iterable[str]) -> _Node:
  """Reads opened and closed labels; what follows the root goes into it."""
  root, stack = None, []
  for label in labels:
    if label.startswith(CLOSE) and len(label) > 1:
      is_open = [node.label == label[1:] for node in stack]
      if any(is_open):
        del stack[len(stack) - 1 - is_open[::-1].index(True) :]
      continue
    if len(stack) == MAX_DEPTH:
      continue
    node = _Node(label)
    if root is None:
      root = node
    else:
      (stack[-1] if stack else root).children.append(node)
    stack.append(node)
  return root or _Node('S')


def _from_breadth(labels: Sequence[str]) -> _Node:
  """Reads levels; groups that have no parent are the last parent's."""
  if not labels or labels[0] in (LEVEL, PARENT, DONE):
    labels = ['S', *labels]
  root = _Node(labels[0])
  above, level, parent, depth = [root], [], 0, 1
  for label in labels[1:]:
    if label == DONE or depth > MAX_DEPTH:
      break
    if label == LEVEL:
      depth += 1
      above, level, parent = level or above, [], 0
    elif label == PARENT:
      parent = min(parent + 1, len(above) - 1)
    else:
      node = _Node(label)
      above[parent].children.append(node)
      level.append(node)
  return root


def _with_words(node: _Node, words: Iterator[str]) -> Tree | None:
  """The finished tree; None where the words run out before it."""
  if not node.children:
    word = next(words, None)
    return None if word is None else Tree(node.label, word=word)
  children = [_with_words(child, words) for child in node.children]
  children = tuple(child for child in children if child is not None)
  return Tree(node.label, children) if children else None
