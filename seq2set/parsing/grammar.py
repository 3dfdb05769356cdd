"""Sentences and trees without a treebank: a small, ambiguous English grammar.

As in natural text, a few words are frequent, and many words have two parts of
speech. The preposition determines where its phrase attaches, and the verb
determines what follows it. The words therefore determine most trees, but not
all. The Viterbi parse of the grammar, by CKY, is a ceiling for parsers.
"""

import functools
import math

import numpy as np

from seq2set.parsing.data import Tree

MAX_WORDS = 40
_NUM_WORDS = 3000
_AMBIGUOUS = 0.2  # share of words that come from another part of speech

# Phrase -> (probability, parts). A suffix after ^ distinguishes variants of a
# label and does not appear in the tree. A phrase whose name starts with _ is
# spliced into its parent.
_RULES = {
  'S^root': ((1.0, ('_CLAUSE', '.')),),
  '_CLAUSE': ((0.95, ('NP', 'VP')), (0.05, ('S', '_AND_S'))),
  'S': ((1.0, ('NP', 'VP')),),
  '_AND_S': ((1.0, ('CC', 'S')),),
  'NP': (
    (0.36, ('DT', 'NN')),
    (0.14, ('DT', '_NOUN')),
    (0.2, ('NNP',)),
    (0.1, ('PRP',)),
    (0.13, ('NP', 'PP^noun')),
    (0.04, ('NP', 'SBAR^noun')),
    (0.03, ('NP', '_AND_NP')),
  ),
  '_NOUN': ((0.7, ('JJ', 'NN')), (0.15, ('JJ', '_NOUN')), (0.15, ('NN', 'NN'))),
  '_AND_NP': ((1.0, ('CC', 'NP')),),
  'VP': (
    (0.38, ('VB^object', 'NP')),
    (0.14, ('VB^alone',)),
    (0.14, ('VB^clause', 'SBAR')),
    (0.22, ('VP', 'PP^verb')),
    (0.06, ('VP', 'ADVP')),
    (0.06, ('MD', 'VP')),
  ),
  'PP^noun': ((1.0, ('IN^noun', 'NP')),),
  'PP^verb': ((1.0, ('IN^verb', 'NP')),),
  'SBAR': ((1.0, ('IN^clause', 'S')),),
  'SBAR^noun': ((1.0, ('WDT', 'VP')),),
  'ADVP': ((1.0, ('RB',)),),
}
# Part of speech -> its share of the vocabulary.
_TAGS = {
  'NN': 0.3,
  'NNP': 0.2,
  'JJ': 0.15,
  'VB^object': 0.1,
  'VB^alone': 0.06,
  'VB^clause': 0.04,
  'RB': 0.1,
  'IN^noun': 0.012,
  'IN^verb': 0.012,
  'IN^clause': 0.004,
  'DT': 0.004,
  'PRP': 0.006,
  'CC': 0.002,
  'MD': 0.003,
  'WDT': 0.002,
}


@functools.cache
def _lexicon() -> dict[str, tuple[list[str], np.ndarray]]:
  """Return the words of each part of speech and their probabilities."""
  rng = np.random.default_rng(0)
  own = {
    tag: [f'{tag.lower().replace("^", "-")}-{k}' for k in range(count)]
    for tag, share in _TAGS.items()
    if (count := max(3, round(share * _NUM_WORDS)))
  }
  lexicon = {'.': (['.'], np.ones(1))}
  for tag, words in own.items():
    words = list(words)
    others = [w for other, ws in own.items() if other != tag for w in ws]
    for place in np.flatnonzero(rng.random(len(words)) < _AMBIGUOUS):
      words[place] = others[rng.integers(len(others))]
    words = list(dict.fromkeys(words))
    weights = 1 / np.arange(1, len(words) + 1)
    lexicon[tag] = words, weights / weights.sum()
  return lexicon


def sample(rng: np.random.Generator) -> Tree:
  """Sample a tree of at most `MAX_WORDS` words."""
  while True:
    (tree,) = _sample('S^root', rng, [MAX_WORDS])
    if tree is not None:
      return tree


def _sample(symbol, rng, budget) -> list[Tree | None]:
  """Expand a symbol to trees; return [None] if the words exceed the budget.

  Args:
    symbol: a phrase or a part of speech.
    rng: random generator.
    budget: a list of one number, the remaining words, which this function
      updates.
  """
  if symbol not in _RULES:
    budget[0] -= 1
    words, p = _lexicon()[symbol]
    return [Tree(_bare(symbol), word=words[rng.choice(len(words), p=p)])]
  rules = _RULES[symbol]
  _, parts = rules[rng.choice(len(rules), p=[p for p, _ in rules])]
  children = []
  for part in parts:
    if budget[0] <= 0:
      return [None]
    children += _sample(part, rng, budget)
  if None in children:
    return [None]
  if symbol.startswith('_'):
    return children
  return [Tree(_bare(symbol), tuple(children))]


def parse(words: list[str]) -> Tree | None:
  """Return the most probable tree of a sentence; None if there is none."""
  count = len(words)
  index_of = {symbol: k for k, symbol in enumerate([*_RULES, *_TAGS, '.'])}
  best = np.full((count, count + 1, len(index_of)), -np.inf)
  back: dict[tuple[int, int, str], tuple] = {}
  for k, word in enumerate(words):
    for tag, log_p in _tags_of().get(word, {}).items():
      best[k, k + 1, index_of[tag]] = log_p
    _apply_unary_rules(best, back, index_of, k)
  for width in range(2, count + 1):
    for start in range(count - width + 1):
      _apply_binary_rules(best, back, index_of, start, start + width)
  if best[0, count, index_of['S^root']] == -np.inf:
    return None
  return _build(back, words, 0, count, 'S^root')[0]


def _apply_unary_rules(best, back, index_of, start):
  """Fill the chart for the word at `start`.

  Args:
    best: log p of each span and symbol [start, end, symbol].
    back: the parts of each span and symbol.
    index_of: the index of each symbol in the chart.
    start: the index of the word.
  """
  cell = best[start, start + 1]
  for symbol, rules in _RULES.items():
    for p, parts in rules:
      if len(parts) == 1:
        log_p = math.log(p) + cell[index_of[parts[0]]]
        if log_p > cell[index_of[symbol]]:
          cell[index_of[symbol]] = log_p
          back[start, start + 1, symbol] = parts


def _apply_binary_rules(best, back, index_of, start, end):
  """Fill the chart for a span of words; see `_apply_unary_rules`."""
  cell = best[start, end]
  middles = np.arange(start + 1, end)
  for symbol, rules in _RULES.items():
    for p, parts in rules:
      if len(parts) == 2:
        left, right = (index_of[part] for part in parts)
        total = best[start, middles, left] + best[middles, end, right]
        place = total.argmax()
        log_p = math.log(p) + total[place]
        if log_p > cell[index_of[symbol]]:
          cell[index_of[symbol]] = log_p
          back[start, end, symbol] = *parts, middles[place]


def _build(back, words, start, end, symbol) -> list[Tree]:
  """Return the trees of a symbol over a span of words."""
  if symbol not in _RULES:
    return [Tree(_bare(symbol), word=words[start])]
  parts = back[start, end, symbol]
  if len(parts) == 1:
    children = _build(back, words, start, end, parts[0])
  else:
    left, right, middle = parts
    children = [
      *_build(back, words, start, middle, left),
      *_build(back, words, middle, end, right),
    ]
  if symbol.startswith('_'):
    return children
  return [Tree(_bare(symbol), tuple(children))]


@functools.cache
def _tags_of() -> dict[str, dict[str, float]]:
  """Map each word to its parts of speech and its log p given each."""
  tags: dict[str, dict[str, float]] = {}
  for tag, (words, p) in _lexicon().items():
    for word, log_p in zip(words, np.log(p), strict=True):
      tags.setdefault(word, {})[tag] = log_p
  return tags


def _bare(symbol: str) -> str:
  """Strip the suffix of a variant: PP^noun becomes PP."""
  return symbol.partition('^')[0]
