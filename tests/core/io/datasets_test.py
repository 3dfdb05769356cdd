import logging
import os
import resource

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core.errors import UserError
from core.io import datasets

NUM_ROWS = 3000  # several blocks, the last one not full


class Squares(tfds.core.GeneratorBasedBuilder):
  """A data set of squares that counts how often it is prepared."""

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


def flip(path):
  contents = bytearray(path.read_bytes())
  contents[len(contents) // 2] ^= 1
  path.write_bytes(contents)


def truncate(path):
  os.truncate(path, path.stat().st_size // 2)


def zero(path):
  path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize('damage', [flip, truncate, zero, os.unlink])
@pytest.mark.parametrize(
  'pattern', ['*array_record*', 'dataset_info.json', 'features.json']
)
def test_damaged_files_are_prepared_anew(cache, caplog, pattern, damage):
  datasets.load(Squares, 'train', name='tiny')
  assert len(list(cache.iterdir())) == 3  # all of them are damaged in turn
  (file,) = cache.glob(pattern)
  damage(file)
  with caplog.at_level(logging.WARNING):
    check(datasets.load(Squares, 'train', name='tiny'))
  is_read = pattern != 'features.json'  # the builder defines the features
  assert ('damaged' in caplog.text) == is_read
  assert Squares.times_prepared == 1 + is_read


def test_wrong_number_of_records(cache):
  datasets.load(Squares, 'train', name='tiny')
  path = cache / 'dataset_info.json'
  path.write_text(path.read_text().replace('"3"', '"2"'))
  check(datasets.load(Squares, 'train', name='tiny'))
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


def test_failing_builder_is_not_mistaken_for_a_rival(monkeypatch):
  def fail(self, dl_manager):
    raise OSError('disk full')

  monkeypatch.setattr(Squares, '_split_generators', fail)
  with pytest.raises(UserError, match='disk full; .*_ALGORITHMS_CACHE'):
    datasets.load(Squares, 'train', name='tiny')


def test_full_disk(cache):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    with pytest.raises(UserError, match='cannot prepare .*File too large'):
      datasets.load(Squares, 'train', name='tiny')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  check(datasets.load(Squares, 'train', name='tiny'))


def test_errors_of_the_builder_are_raised_unchanged(monkeypatch):
  def fail(self, dl_manager):
    raise RuntimeError('a bug')

  monkeypatch.setattr(Squares, '_split_generators', fail)
  with pytest.raises(RuntimeError, match='a bug'):
    datasets.load(Squares, 'train', name='tiny')
