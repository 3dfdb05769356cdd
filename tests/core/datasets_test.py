import hashlib
import logging

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core import datasets
from core.errors import UserError

NUM_ROWS = 3000  # several blocks, the last one not full


class Squares(tfds.core.GeneratorBasedBuilder):
  """Counts, and how often they were prepared."""

  VERSION = tfds.core.Version('1.0.0')
  code_path = None
  times_prepared = 0

  def _info(self):
    return datasets.info(
      self, {'root': ((), np.int64), 'powers': ((2,), np.float32)}
    )

  def _split_generators(self, dl_manager):
    type(self).times_prepared += 1
    return {'train': self._generate_examples(np.arange(NUM_ROWS))}

  def _generate_examples(self, roots):
    powers = np.stack([roots, roots**2], axis=1).astype(np.float32)
    return datasets.blocks({'root': roots, 'powers': powers})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('LEARNED_ALGORITHMS_CACHE', str(tmp_path / 'cache'))
  Squares.times_prepared = 0
  return tmp_path / 'cache' / 'tiny' / 'squares' / '1.0.0'


def check(columns):
  roots = np.arange(NUM_ROWS)
  np.testing.assert_array_equal(columns['root'], roots)
  np.testing.assert_array_equal(columns['powers'][:, 1], roots**2)
  assert columns['powers'].dtype == np.float32


def test_prepares_once_and_keeps_rows_in_order(capsys):
  check(datasets.load(Squares, 'train', name='tiny'))
  check(datasets.load(Squares, 'train', name='tiny'))
  assert Squares.times_prepared == 1
  assert capsys.readouterr().out == ''


def _flip_a_byte(file):
  contents = bytearray(file.read_bytes())
  contents[len(contents) // 2] ^= 1
  file.write_bytes(contents)


@pytest.mark.parametrize(
  ('pattern', 'damage'),
  [
    ('*array_record*', _flip_a_byte),
    ('*array_record*', lambda file: file.write_bytes(b'')),
    ('*array_record*', lambda file: file.unlink()),
    ('dataset_info.json', lambda file: file.write_text('{')),
    ('dataset_info.json', lambda file: file.unlink()),
  ],
)
def test_damaged_files_are_prepared_anew(cache, caplog, pattern, damage):
  datasets.load(Squares, 'train', name='tiny')
  (file,) = cache.glob(pattern)
  damage(file)
  with caplog.at_level(logging.WARNING):
    check(datasets.load(Squares, 'train', name='tiny'))
  assert 'damaged' in caplog.text
  assert Squares.times_prepared == 2


def test_another_process_was_faster(monkeypatch):
  split_generators = Squares._split_generators

  def while_another_prepares(self, dl_manager):
    monkeypatch.setattr(Squares, '_split_generators', split_generators)
    rival = Squares(data_dir=self.data_dir_root, file_format='array_record')
    rival.download_and_prepare()
    return self._split_generators(dl_manager)

  monkeypatch.setattr(Squares, '_split_generators', while_another_prepares)
  check(datasets.load(Squares, 'train', name='tiny'))
  assert Squares.times_prepared == 2


def test_failing_builder_is_not_taken_for_a_rival(monkeypatch):
  def fail(self, dl_manager):
    raise OSError('disk full')

  monkeypatch.setattr(Squares, '_split_generators', fail)
  with pytest.raises(OSError, match='disk full'):
    datasets.load(Squares, 'train', name='tiny')


def find(names, folder):
  return datasets.find_file(
    names, str(folder), url='https://example.org/x', hint='or generate it'
  )


def test_find_file_takes_the_first_name_and_looks_in_sub_folders(tmp_path):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'sub' / 'b.txt').write_bytes(b'contents')
  sha256 = hashlib.sha256(b'contents').hexdigest()
  names = {'a.txt': '00', 'b.txt': sha256}
  assert find(names, tmp_path) == tmp_path / 'sub' / 'b.txt'


def test_find_file_says_where_it_looked_and_what_to_do(tmp_path):
  with pytest.raises(UserError) as error:
    find({'a.txt': '00', 'b.txt': '11'}, tmp_path)
  for text in ('a.txt or b.txt', str(tmp_path), 'https://', 'or generate it'):
    assert text in str(error.value)


def test_find_file_refuses_other_contents(tmp_path):
  (tmp_path / 'a.txt').write_bytes(b'contents')
  with pytest.raises(UserError, match='damaged or another version'):
    find({'a.txt': '00'}, tmp_path)


def test_data_folder_prefers_the_argument(monkeypatch, tmp_path):
  monkeypatch.setenv('LEARNED_ALGORITHMS_DATA', str(tmp_path))
  assert datasets.data_folder() == tmp_path
  assert str(datasets.data_folder('mine')) == 'mine'
  monkeypatch.delenv('LEARNED_ALGORITHMS_DATA')
  assert str(datasets.data_folder()) == 'data_cache'
