"""Parse trees: brackets, cleaning, and the score of one against another.

A tree is a label and its children; those of a pre-terminal, a part of speech,
are one word. `seq2set.parsing.linearize` writes trees as sequences.
"""

import collections
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from core.errors import UserError

# Left out of scores, as EVALB does.
PUNCTUATION = {',', '.', ':', '``', "''"}
_WRAPPERS = {'', 'ROOT', 'TOP'}
MAX_DEPTH = 200  # all that follows trees calls itself
# Words may hold spaces of other widths, such as thin ones.
_TOKEN = re.compile(r'[()]|[^ \t\r\n()]+')


class Tree(NamedTuple):
  """A node: a phrase with children, or a part of speech with a word."""

  label: str
  children: tuple[Self, ...] = ()
  word: str = ''

  @property
  def is_tag(self) -> bool:
    """Whether it is a pre-terminal: it has no children."""
    return not self.children

  def tags(self) -> Iterator[Self]:
    """Its pre-terminals, from left to right."""
    if self.is_tag:
      yield self
    for child in self.children:
      yield from child.tags()

  def words(self) -> list[str]:
    """Its words, from left to right."""
    return [tag.word for tag in self.tags()]

  def __str__(self) -> str:
    """In brackets, on one line."""
    inside = self.word if self.is_tag else ' '.join(map(str, self.children))
    return f'({self.label} {inside})'


def read(lines: Iterable[str], name: str) -> Iterator[Tree]:
  """Reads trees in brackets, over any number of lines, uncleaned.

  Raises:
    UserError: brackets that do not match, or nest too deeply, or text outside
      of them; `name` and the line stand in the message.
  """
  stack: list[tuple[str, list, list]] = []  # label, children, words
  number = 0

  def wrong(number: int, what: str) -> UserError:
    return UserError(f'{name}, line {number}: {what}')

  start = 0  # of the tree, its line
  is_label = False  # whether the next word is one
  for number, line in enumerate(lines, start=1):
    for token in _TOKEN.findall(line):
      if token == '(':
        if not stack:
          start = number
        stack.append(('', [], []))
        if len(stack) > MAX_DEPTH:
          raise wrong(number, f'more than {MAX_DEPTH} brackets are open')
        is_label = True
      elif token == ')':
        if not stack:
          raise wrong(number, "')' without '('")
        label, children, words = stack.pop()
        if bool(children) == bool(words) or len(words) > 1:
          raise wrong(
            number, f'({label} ...) needs either trees or one word in it'
          )
        tree = Tree(label, tuple(children), *words)
        if stack:
          stack[-1][1].append(tree)
        else:
          yield tree
        is_label = False
      elif not stack:
        raise wrong(number, f'{token[:20]!r} outside of brackets')
      elif is_label:
        stack[-1] = token, *stack[-1][1:]
        is_label = False
      else:
        stack[-1][2].append(token)
  if stack:
    raise wrong(start, "'(' is never closed")


def clean(tree: Tree) -> Tree | None:
  """Drops traces and function tags, and wrappers without a label of their own.

  A wrapper of several trees stays, as ROOT. None where no word is left.
  """

  def simplify(tree: Tree) -> Tree | None:
    if tree.is_tag:
      return None if tree.label == '-NONE-' else tree
    children = tuple(filter(None, map(simplify, tree.children)))
    return Tree(_bare(tree.label), children) if children else None

  simple = simplify(tree)
  while simple and simple.label in _WRAPPERS and len(simple.children) == 1:
    simple = simple.children[0]
  if simple and simple.label in _WRAPPERS:
    return simple._replace(label='ROOT')
  return simple


def _bare(label: str) -> str:
  """NP-SBJ-1 -> NP; -LRB- stays."""
  return label if label.startswith('-') else re.split('[-=|]', label)[0]


def brackets(tree: Tree) -> collections.Counter[tuple[str, int, int]]:
  """The phrases below the root as (label, start, end), as EVALB counts them.

  Punctuation has no place, so start and end count the other words; ADVP and PRT
  are one label; phrases of punctuation alone do not count. The root never does;
  EVALB leaves out a root of the label TOP alone.
  """
  found: collections.Counter[tuple[str, int, int]] = collections.Counter()

  def visit(tree: Tree, start: int) -> int:
    if tree.is_tag:
      return start + (tree.label not in PUNCTUATION)
    end = start
    for child in tree.children:
      end = visit(child, end)
    if end > start:
      label = 'ADVP' if tree.label == 'PRT' else tree.label
      found[label, start, end] += 1
    return end

  end = 0
  for child in tree.children:
    end = visit(child, end)
  return found


class Score(NamedTuple):
  """Brackets: in both trees, in the true ones, in the predicted ones."""

  matched: int
  true: int
  predicted: int

  @property
  def f1(self) -> float:
    """The labeled F1, from 0 to 1."""
    total = self.true + self.predicted
    return 2 * self.matched / total if total else 1.0


def score(true: Iterable[Tree], predicted: Iterable[Tree | None]) -> Score:
  """Sums the brackets of pairs of trees; None, no tree, has none."""
  matched = num_true = num_predicted = 0
  for a, b in zip(true, predicted, strict=True):
    ours = brackets(b) if b else collections.Counter()
    theirs = brackets(a)
    matched += (ours & theirs).total()
    num_true += theirs.total()
    num_predicted += ours.total()
  return Score(matched, num_true, num_predicted)
