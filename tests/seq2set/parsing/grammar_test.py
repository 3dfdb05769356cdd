"""Sampled trees: their words, and the Viterbi parse as a ceiling."""

import re
import subprocess
import sys

import numpy as np
import pytest

from seq2set.parsing import data, grammar


def test_probabilities_sum_to_one():
  for rules in grammar._RULES.values():
    assert sum(p for p, _ in rules) == pytest.approx(1)
    assert all(len(parts) in (1, 2) for _, parts in rules)
  for words, p in grammar._lexicon().values():
    assert p.sum() == pytest.approx(1) and len(set(words)) == len(words)


def test_sentences_vary_and_end():
  rng = np.random.default_rng(0)
  trees = [grammar.sample(rng) for _ in range(300)]
  lengths = np.array([len(tree.words()) for tree in trees])
  assert 5 < lengths.mean() < 25 and lengths.max() <= grammar.MAX_WORDS
  assert len({str(tree) for tree in trees}) > 290
  for tree in trees:
    assert tree.label == 'S' and tree.words()[-1] == '.'
    assert '^' not in str(tree) and '(_' not in str(tree)


def test_the_parse_is_a_tree_of_the_sentence_and_often_the_true_one():
  rng = np.random.default_rng(1)
  trees = [grammar.sample(rng) for _ in range(60)]
  trees = [tree for tree in trees if len(tree.words()) <= 20]
  parsed = [grammar.parse(tree.words()) for tree in trees]
  for tree, ours in zip(trees, parsed, strict=True):
    assert ours is not None and ours.words() == tree.words()
  f1 = data.score(trees, parsed).f1
  assert 0.85 < f1 < 1  # ambiguous, but not hopeless


def test_no_parse():
  assert grammar.parse(['nothing', '.']) is None
  assert grammar.parse(['.']) is None


def test_the_ceiling_is_printed():
  result = subprocess.run(
    [sys.executable, '-m', 'seq2set.parsing.ceiling', '--num_trees=30'],
    capture_output=True,
    text=True,
    check=True,
  )
  f1 = re.fullmatch(r'F1 ([\d.]+)% on 30 trees\n', result.stdout)
  assert 80 < float(f1[1]) < 100
