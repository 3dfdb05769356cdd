"""Convert trees to sequences of labels, depth first or breadth first, and back.

The sequences do not contain the words; `rebuild` inserts them from left to
right. The sentence 'This is a sentence .' in Figure 2 of the paper becomes:

  depth first    S NP DT !DT !NP VP VBZ !VBZ NP DT !DT NN !NN !NP !VP . !. !S
  breadth first  S LEV NP VP . LEV DT PAR VBZ NP LEV PAR PAR DT NN DONE

Depth first, X opens a node and !X closes it. Breadth first, LEV starts a level,
which lists the children of each node of the level above. PAR separates the
children of different nodes. Empty groups at the end of a level are omitted.
DONE ends the sequence.
"""

from collections.abc import Iterable, Iterator, Sequence

from core.errors import check_choice
from seq2set.parsing.data import MAX_DEPTH, Tree

ORDERS = 'depth_first', 'breadth_first'
LEVEL, PARENT, DONE = 'LEV', 'PAR', 'DONE'
CLOSE = '!'
_UNKNOWN = 'XX'  # the part of speech of words that a repair appends


def linearize(tree: Tree, order: str) -> list[str]:
  """Convert a tree to labels, in one of `ORDERS`."""
  check_choice('order', order, ORDERS)
  return depth_first(tree) if order == 'depth_first' else breadth_first(tree)


def rebuild(
  labels: Sequence[str], words: Sequence[str], order: str, *, repairs: bool
) -> Tree | None:
  """Convert labels and words to a tree.

  A repair closes nodes that stay open, ignores closing labels without a node,
  drops parts of speech without a word, appends words without a part of speech,
  and drops nodes deeper than `MAX_DEPTH`.

  Args:
    labels: labels in the format of `linearize`.
    words: words of the sentence.
    order: one of `ORDERS`.
    repairs: repair labels that are not a tree of the sentence.

  Returns:
    The tree. None if there are no words, or if the labels need a repair and
    `repairs` is False.
  """
  check_choice('order', order, ORDERS)
  build = _from_depth if order == 'depth_first' else _from_breadth
  remaining = iter(words)
  tree = _insert_words(build(labels), remaining)
  if tree is None:
    return None
  rest = tuple(Tree(_UNKNOWN, word=word) for word in remaining)
  if rest and tree.is_tag:
    tree = Tree('S', (tree, *rest))
  elif rest:
    tree = Tree(tree.label, tree.children + rest)
  if not repairs and linearize(tree, order) != list(labels):
    return None
  return tree


def depth_first(tree: Tree) -> list[str]:
  """Return the opening and closing labels of each node."""
  inside = [label for child in tree.children for label in depth_first(child)]
  return [tree.label, *inside, CLOSE + tree.label]


def breadth_first(tree: Tree) -> list[str]:
  """Return the labels level by level."""
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
  """A mutable node."""

  def __init__(self, label: str):
    self.label = label
    self.children: list[_Node] = []


def _from_depth(labels: Iterable[str]) -> _Node:
  """Build nodes from labels in depth-first order.

  Nodes after the end of the root become its children.
  """
  root, stack = None, []
  for label in labels:
    if label.startswith(CLOSE) and len(label) > 1:
      open_nodes = [
        k for k, node in enumerate(stack) if node.label == label[1:]
      ]
      if open_nodes:
        del stack[open_nodes[-1] :]
      continue
    if len(stack) == MAX_DEPTH:
      continue
    node = _Node(label)
    if root is None:
      root = node
    else:
      parent = stack[-1] if stack else root
      parent.children.append(node)
    stack.append(node)
  return root or _Node('S')


def _from_breadth(labels: Sequence[str]) -> _Node:
  """Build nodes from labels in breadth-first order.

  Groups without a parent are added to the last parent.
  """
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


def _insert_words(node: _Node, words: Iterator[str]) -> Tree | None:
  """Convert a node to a tree; return None if no words are left for it."""
  if not node.children:
    word = next(words, None)
    return None if word is None else Tree(node.label, word=word)
  children = [_insert_words(child, words) for child in node.children]
  children = tuple(child for child in children if child is not None)
  return Tree(node.label, children) if children else None
