"""Trees as sequences of labels, depth first and breadth first, and back.

Words are left out; they are put back from left to right. Of the sentence 'This
is a sentence .' (the paper's Figure 2):

  depth first    S NP DT !DT !NP VP VBZ !VBZ NP DT !DT NN !NN !NP !VP . !. !S
  breadth first  S LEV NP VP . LEV DT PAR VBZ NP LEV PAR PAR DT NN DONE

Depth first, X opens a node and !X closes it. Breadth first, LEV begins a level,
which has the children of each node of the level above, and PAR parts those of
different nodes; empty groups at the end of a level are left out; DONE ends.
"""

from collections.abc import Iterator, Sequence

from core.errors import check_choice
from seq2set.parsing.data import Tree

ORDERS = 'depth_first', 'breadth_first'
LEVEL, PARENT, DONE = 'LEV', 'PAR', 'DONE'
CLOSE = '!'
_UNKNOWN = 'XX'  # a part of speech, of words that a tree has no place for


def linearise(tree: Tree, order: str) -> list[str]:
  """A tree as labels, in one of `ORDERS`."""
  check_choice('order', order, ORDERS)
  return depth_first(tree) if order == 'depth_first' else breadth_first(tree)


def rebuild(
  labels: Sequence[str], words: Sequence[str], order: str, *, repairs: bool
) -> Tree | None:
  """The tree of labels, with its words.

  None where the labels are no tree, or have another number of parts of speech
  than there are words; with `repairs` there is always one.
  """
  check_choice('order', order, ORDERS)
  build = _from_depth if order == 'depth_first' else _from_breadth
  root = build(list(labels), repairs)
  if root is None:
    return None
  left = iter(words)
  tree = _with_words(root, left, repairs)
  rest = list(left)
  if tree is None or (rest and not repairs):
    return None
  if rest:
    tags = tuple(Tree(_UNKNOWN, word=word) for word in rest)
    tree = Tree(tree.label, tree.children + tags)
    if not tree.children[: -len(tags)]:  # the root was a part of speech
      return Tree('S', (Tree(root.label, word=words[0]), *tags))
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


def _from_depth(labels: list[str], repairs: bool) -> _Node | None:
  """Reads opened and closed labels; repairs close what is open too long.

  A closed label that is not open is left out, and what follows the root's end
  goes into it.
  """
  root, stack = None, []
  for label in labels:
    if not (label.startswith(CLOSE) and len(label) > 1):
      node = _Node(label)
      if stack:
        stack[-1].children.append(node)
      elif root is None:
        root = node
      elif repairs:
        root.children.append(node)
      else:
        return None
      stack.append(node)
      continue
    is_open = [node.label == label[1:] for node in stack]
    if is_open and is_open[-1]:
      stack.pop()
    elif not repairs:
      return None
    elif any(is_open):
      del stack[len(stack) - 1 - is_open[::-1].index(True) :]
  if root is None:
    return _Node('S') if repairs else None
  return root if repairs or not stack else None


def _from_breadth(labels: list[str], repairs: bool) -> _Node | None:
  """Reads levels; repairs end early, and drop groups that have no parent."""
  if not labels or labels[0] in (LEVEL, PARENT, DONE):
    if not repairs:
      return None
    labels = ['S', *labels]
  root, *rest = labels
  root = _Node(root)
  above, level, parent = [root], [], None
  for position, label in enumerate(rest):
    if label == DONE:
      is_last = position == len(rest) - 1
      return root if repairs or (is_last and level != [None]) else None
    if label == LEVEL:
      if parent is not None:
        if not level and not repairs:
          return None
        above = level or above
      level, parent = [], 0
    elif label == PARENT:
      if parent is None or parent + 1 >= len(above):
        if not repairs:
          return None
        continue
      parent += 1
    elif parent is None:
      if not repairs:
        return None
    else:
      node = _Node(label)
      above[parent].children.append(node)
      level.append(node)
  return root if repairs else None


def _with_words(
  node: _Node, words: Iterator[str], repairs: bool
) -> Tree | None:
  """The finished tree; None where the words run out too soon."""
  if not node.children:
    word = next(words, None)
    return None if word is None else Tree(node.label, word=word)
  children = []
  for child in node.children:
    tree = _with_words(child, words, repairs)
    if tree is not None:
      children.append(tree)
    elif not repairs:
      return None
  return Tree(node.label, tuple(children)) if children else None
