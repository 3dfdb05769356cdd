"""Brackets are parsed, cleaned, and scored as in EVALB."""

import pytest

from core.errors import UserError
from seq2set.parsing import data


def read(text):
  (tree,) = data.read(text.splitlines(), 'file')
  return tree


def test_trees_over_several_lines():
  text = '( (S\n (NP (DT a)\n (NN b))) )\n(X (Y c))'
  first, second = data.read(text.splitlines(), 'file')
  assert str(data.clean(first)) == '(S (NP (DT a) (NN b)))'
  assert second.words() == ['c']


@pytest.mark.parametrize(
  'text, why',
  [
    ('(S (A b))\n(S (A b)\n(S (A b))\n', "line 2: '\\(' is never closed"),
    ('(A b)\n)', "line 2: '\\)' without"),
    ('word (A b)', "'word' is outside"),
    ('(A b c)', 'either trees or one word'),
    ('(A (B c) d)', 'either trees or one word'),
    ('(A)', 'either trees or one word'),
    ('()', 'either trees or one word'),
  ],
)
def test_bad_brackets(text, why):
  with pytest.raises(UserError, match=f'file, .*{why}'):
    list(data.read(text.splitlines(), 'file'))


def test_cleaning():
  tree = read(
    '( (S (NP-SBJ-1 (-NONE- *T*)) (VP=2 (-LRB- -LRB-) (VB-x go))'
    ' (NP|PP (NN home))) )'
  )
  assert str(data.clean(tree)) == (
    '(S (VP (-LRB- -LRB-) (VB-x go)) (NP (NN home)))'
  )
  assert data.clean(read('(S (NP (-NONE- *)))')) is None
  two = '(ROOT (S (A b)) (X (C d)))'
  for label in '', 'TOP', 'ROOT':
    assert str(data.clean(read(two.replace('ROOT', label)))) == two


def test_brackets_exclude_punctuation_tags_and_the_root():
  tree = read(
    '(S (`` ``) (NP (DT a) (, ,) (NN b)) (PRN (, ,)) (PRT (RP up)) (. .))'
  )
  assert data.brackets(tree) == {('NP', 0, 2): 1, ('ADVP', 2, 3): 1}


def test_scores():
  true = read('(S (NP (DT a) (NN b)) (VP (VB c) (NP (NN d))))')
  same = data.score([true], [true])
  assert same == (3, 3, 3) and same.f1 == 1
  flat = read('(S (NP (DT a) (NN b)) (VB c) (NP (NN d)) (. .))')
  assert data.score([true], [flat]) == (2, 3, 2)
  assert data.score([true, true], [flat, None]) == (2, 6, 2)
  assert data.score([true, true], [flat, None]).f1 == pytest.approx(0.5)
  # The same phrase twice counts twice.
  twice = read('(S (NP (NP (NN a))))')
  assert data.score([twice], [read('(S (NP (NN a)))')]) == (1, 2, 1)


def test_lines_contain_a_sentence_or_a_tree():
  words, tree = data.parse_line('a (b) thin\u2009space .')
  assert words == ['a', '-LRB-b-RRB-', 'thin\u2009space', '.'] and tree is None
  assert data.parse_line('(b c) d')[0] == ['-LRB-b', 'c-RRB-', 'd']
  words, tree = data.parse_line('( (S (NP-SBJ (NN a)) (VP (VB b))) )')
  assert words == ['a', 'b'] and str(tree) == '(S (NP (NN a)) (VP (VB b)))'
  for line, why in [
    ('(S (A b)', 'never closed'),
    ('(S (A b)) (S (A b))', '2 trees'),
    ('(S (NP (-NONE- *)))', 'no words'),
    ('((A b))', 'no phrase'),
  ]:
    with pytest.raises(UserError, match=f'^[^,]*{why}'):
      data.parse_line(line)


def test_comments_between_trees_are_skipped():
  text = '# first\n(S (A b))\n\n (X\n(# #))\n # last'
  first, second = data.read(text.split('\n'), 'file')
  assert first.words() == ['b'] and second.words() == ['#']
