"""Text is found, split, counted and encoded; errors name the file."""

import lzma

import numpy as np
import pytest

from core.errors import UserError
from seq2set import text


def test_named_files_in_the_data_folder(tmp_path, monkeypatch):
  (tmp_path / 'texts').mkdir()
  (tmp_path / 'texts/my.train.txt').write_text('A cat\n\nsat .\n')
  packed = lzma.compress(b'The END\n')
  (tmp_path / 'my.valid.txt.xz').write_bytes(packed)
  monkeypatch.setenv('LEARNED_ALGORITHMS_DATA', str(tmp_path))
  assert text.load('my', 'train') == [['a', 'cat'], ['sat', '.']]
  assert text.load('my', 'validation') == [['the', 'end']]
  with pytest.raises(UserError, match='my.test.txt'):
    text.load('my', 'test')


def test_lines_of_any_text_are_assigned_to_splits(tmp_path):
  path = tmp_path / 'any.text'
  path.write_text('\n'.join(f'line {n}' for n in range(100)))
  splits = {name: text.load(str(path), name) for name in text.SPLITS}
  assert [len(splits[name]) for name in text.SPLITS] == [80, 10, 10]
  numbers = {words[1] for part in splits.values() for words in part}
  assert len(numbers) == 100


def test_bad_text(tmp_path):
  empty, binary = tmp_path / 'empty', tmp_path / 'binary'
  empty.write_text('\n \n')
  binary.write_bytes(b'\xff\xfe\x00')
  with pytest.raises(UserError, match='no words for the train split'):
    text.load(str(empty), 'train')
  with pytest.raises(UserError, match='cannot read .*binary'):
    text.load(str(binary), 'train')
  with pytest.raises(UserError, match='not found'):
    text.load(str(tmp_path / 'none'), 'train')


def test_an_empty_vocabulary_is_an_error():
  with pytest.raises(UserError, match='vocabulary_size=2 is too small'):
    text.vocabulary([['a']], 2)


def test_vocabulary_has_the_most_frequent_words():
  sentences = [['b', 'a', 'a', 'c'], ['b', '<unk>', '<unk>', '<unk>']]
  indices = text.vocabulary(sentences, 4)
  assert indices == {'<eos>': 0, '<unk>': 1, 'a': 2, 'b': 3}
  assert text.encode(['c', 'b', '<unk>'], indices) == [1, 3, 1]


def test_generated_text_is_fixed_and_differs_by_split():
  first = text.load('generated', 'train')
  assert first == text.load('generated', 'train')
  assert first[:100] != text.load('generated', 'test')[:100]
  words = [word for sentence in first for word in sentence]
  assert len(set(words)) < 150
  assert np.mean([len(sentence) for sentence in first]) > 5


def test_boms_and_odd_separators_do_not_split_words_or_lines(tmp_path):
  path = tmp_path / 'my.txt'
  lines = ['\ufeffhouse sees', *['a\x85b\u2028c\x0cd'] * 8, 'last']
  path.write_bytes('\r\n'.join(lines).encode())
  train = text.load(str(path), 'train')
  assert len(train) == 8 and train[0] == ['house', 'sees']
  assert text.load(str(path), 'test') == [['last']]
