"""Parse trees: reading, cleaning, and scores.

A tree is a label with children. A pre-terminal is a part of speech with one
word in place of children. `seq2set.parsing.linearize` converts trees to
sequences.
"""

import collections
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from core.errors import UserError

# Ignored in scores, as in EVALB.
PUNCTUATION = {',', '.', ':', '``', "''"}
_WRAPPERS = {'', 'ROOT', 'TOP'}
MAX_DEPTH = 200  # functions on trees are recursive
# Words may contain other Unicode spaces, such as thin spaces.
_TOKEN = re.compile(r'[()]|[^ \t\r\n()]+')
_WORD = re.compile(r'[^ \t\r\n]+')
_TREE = re.compile(r'\s*\([^()]*\(')  # the first bracket holds another one


class Tree(NamedTuple):
  """A node: a phrase with children, or a part of speech with a word."""

  label: str
  children: tuple[Self, ...] = ()
  word: str = ''

  @property
  def is_tag(self) -> bool:
    """Whether this node is a pre-terminal, which has no children."""
    return not self.children

  def tags(self) -> Iterator[Self]:
    """Yield the pre-terminals from left to right."""
    if self.is_tag:
      yield self
    for child in self.children:
      yield from child.tags()

  def words(self) -> list[str]:
    """Return the words from left to right."""
    return [tag.word for tag in self.tags()]

  def __str__(self) -> str:
    """Format the tree in brackets, on one line."""
    inside = self.word if self.is_tag else ' '.join(map(str, self.children))
    return f'({self.label} {inside})'


def read(lines: Iterable[str], name: str) -> Iterator[Tree]:
  """Read trees in brackets, without cleaning them.

  A tree may span any number of lines. Comments, which start with `#`, are
  skipped between trees.

  Args:
    lines: lines of text.
    name: name of the file, for messages; '' for a single line.

  Raises:
    UserError: brackets do not match or nest too deeply, or text is outside of
      brackets. The message gives the line.
  """

  def error_at(number: int, reason: str) -> UserError:
    return UserError(f'{name}, line {number}: {reason}' if name else reason)

  stack: list[tuple[str, list, list]] = []  # label, children, words
  start = 0  # line on which the current tree starts
  is_label = False  # whether the next word is a label
  for number, line in enumerate(lines, start=1):
    if not stack and line.lstrip().startswith('#'):
      continue
    for token in _TOKEN.findall(line):
      if token == '(':
        if not stack:
          start = number
        stack.append(('', [], []))
        if len(stack) > MAX_DEPTH:
          raise error_at(number, f'more than {MAX_DEPTH} brackets are open')
        is_label = True
      elif token == ')':
        if not stack:
          raise error_at(number, "')' without '('")
        label, children, words = stack.pop()
        if bool(children) == bool(words) or len(words) > 1:
          raise error_at(
            number, f'({label} ...) must contain either trees or one word'
          )
        tree = Tree(label, tuple(children), *words)
        if stack:
          stack[-1][1].append(tree)
        else:
          yield tree
        is_label = False
      elif not stack:
        raise error_at(number, f'{token[:20]!r} is outside of brackets')
      elif is_label:
        stack[-1] = token, *stack[-1][1:]
        is_label = False
      else:
        stack[-1][2].append(token)
  if stack:
    raise error_at(start, "'(' is never closed")


def parse_line(line: str) -> tuple[list[str], Tree | None]:
  """Parse one line: a sentence, or a tree in brackets, which is an answer.

  Returns:
    The words, with brackets as treebanks write them, and the cleaned tree, or
    None for a sentence.

  Raises:
    UserError: the line starts like a tree but is not a tree with phrases.
  """
  if not _TREE.match(line):
    sentence = line.replace('(', '-LRB-').replace(')', '-RRB-')
    return _WORD.findall(sentence), None
  trees = list(read([line], ''))
  if len(trees) != 1:
    raise UserError(f'{len(trees)} trees; expected one tree per line')
  tree = clean(trees[0])
  if tree is None or not tree.children:
    raise UserError(
      'the tree has no words or no phrase above its words; expected a tree such'
      ' as (S (NP (PRP he)) (VP (VBZ sees)))'
    )
  return tree.words(), tree


def clean(tree: Tree) -> Tree | None:
  """Drop traces, function tags, and unlabeled wrappers.

  A wrapper of several trees stays, with the label ROOT.

  Returns:
    The cleaned tree; None if no word is left.
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
  """Strip function tags: NP-SBJ-1 becomes NP; -LRB- stays."""
  return label if label.startswith('-') else re.split('[-=|]', label)[0]


def brackets(tree: Tree) -> collections.Counter[tuple[str, int, int]]:
  """Count the phrases below the root as (label, start, end), as EVALB does.

  `start` and `end` do not count punctuation. ADVP and PRT count as the same
  label. Phrases that contain only punctuation are ignored. The root is always
  ignored, while EVALB ignores only a root with the label TOP.
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
  """The numbers of matched, true, and predicted brackets."""

  matched: int
  true: int
  predicted: int

  @property
  def f1(self) -> float:
    """The labeled F1, from 0 to 1."""
    total = self.true + self.predicted
    return 2 * self.matched / total if total else 1.0


def score(true: Iterable[Tree], predicted: Iterable[Tree | None]) -> Score:
  """Sum the brackets over pairs of trees; None counts as no brackets."""
  matched = num_true = num_predicted = 0
  for tree, other in zip(true, predicted, strict=True):
    expected = brackets(tree)
    found = brackets(other) if other else collections.Counter()
    matched += (found & expected).total()
    num_true += expected.total()
    num_predicted += found.total()
  return Score(matched, num_true, num_predicted)
