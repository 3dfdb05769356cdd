import logging

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core import datasets

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
