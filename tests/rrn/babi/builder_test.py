"""Tests of loading bAbI from archives and folders, and of the real data."""

import hashlib
import io
import logging
import os
import tarfile

import numpy as np
import pytest

from core.errors import UserError
from core.io import data_files
from rrn.babi import builder, data

FOLDER = 'tasks_1-20_v1-2/en-valid-10k'
# A sentence with one of these words is a question.
QUESTION_WORDS = 'where what who why how does did will'.split()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('LEARNED_ALGORITHMS_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def small(own_cache, monkeypatch):
  """Replace the official numbers of questions by small ones."""
  counts = {'train': 3, 'validation': 2, 'test': 1}
  monkeypatch.setattr(builder, '_COUNTS', counts)
  monkeypatch.setattr(builder, '_OTHER_COUNTS', {('train', 18): 4})
  monkeypatch.setattr(builder, '_PARTIAL_COUNT', 1)


def story(task, count):
  """Write a story with as many facts as the number of its task."""
  lines = [f'{n} Mary moved to the garden.' for n in range(1, task + 1)]
  lines += [
    f'{task + 1 + n} Where is Mary?\tgarden\t{task}' for n in range(count)
  ]
  return '\n'.join(lines) + '\n'


def texts(partial=False):
  """Write the small data set; the first file has all words."""
  made = {}
  for task in range(1, 21):
    for split, count in (('train', 3), ('valid', 2), ('test', 1)):
      if (split, task) == ('train', 18):
        count = 4
      name = f'qa{task}_{split}.txt'
      if partial and (split, task) == ('train', 3):
        name, count = 'qa3_train_partial.txt', 1
      made[name] = story(task, count)
  words = [w for w in data.vocabulary() if w not in (*QUESTION_WORDS, '<unk>')]
  lines = [' '.join(words[start : start + 9]) for start in range(0, 168, 9)]
  lines = [f'{n} {line}.' for n, line in enumerate(lines, start=1)]
  lines += [f'20 {" ".join(QUESTION_WORDS)}?\tyes\t1']
  lines += [f'{n} Where is Mary?\tyes\t1' for n in (21, 22)]
  return made | {'qa1_train.txt': '\n'.join(lines) + '\n'}


def write_archive(path, made, folder=FOLDER):
  kind = 'w:gz' if path.suffix == '.gz' else 'w:xz'
  with tarfile.open(path, kind) as archive:
    for name, text in {'../en/qa1_train.txt': 'other', **made}.items():
      member = tarfile.TarInfo(f'{folder}/{name}')
      contents = text.encode()
      member.size = len(contents)
      archive.addfile(member, io.BytesIO(contents))


def check_small(splits):
  sizes = {name: len(columns['task']) for name, columns in splits.items()}
  assert sizes == {'train': 61, 'validation': 40, 'test': 20}
  test = splits['test']
  np.testing.assert_array_equal(test['task'], np.arange(1, 21))
  np.testing.assert_array_equal(test['num_facts'], np.arange(1, 21))
  np.testing.assert_array_equal(
    (test['facts'][..., 0] > 0).sum(1), np.arange(1, 21)
  )


def load_all(folder, source='official'):
  return {
    split: builder.load(source, split, data_dir=str(folder))
    for split in builder.SPLITS
  }


def test_official_archive(small, tmp_path, caplog):
  write_archive(tmp_path / 'tasks_1-20_v1-2.tar.gz', texts())
  with caplog.at_level(logging.WARNING):
    check_small(load_all(tmp_path))
  assert 'task 3' not in caplog.text


@pytest.mark.parametrize('place', ['.', '..', '../..'])
def test_unpacked_folder(small, tmp_path, place):
  folder = tmp_path / 'data' / FOLDER
  folder.mkdir(parents=True)
  for name, text in texts().items():
    (folder / name).write_text(text)
  check_small(load_all(folder / place))


@pytest.mark.parametrize('kind', ['folder', 'archive'])
def test_unicode_separators_end_no_line(small, tmp_path, kind):
  # With a byte-order mark and a next-line character within a word.
  made = texts()
  made['qa2_test.txt'] = '\ufeff' + made['qa2_test.txt']
  made['qa3_test.txt'] = made['qa3_test.txt'].replace('garden.', 'gar\x85den.')
  if kind == 'archive':
    write_archive(tmp_path / 'tasks_1-20_v1-2.tar.gz', made)
  else:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name, text in made.items():
      (folder / name).write_text(text, encoding='utf-8')
  with pytest.raises(UserError, match='qa3_test.txt, line 1: unknown words'):
    load_all(tmp_path if kind == 'archive' else tmp_path / FOLDER)


def test_a_missing_partial_archive_suggests_the_official_one(
  own_cache, tmp_path
):
  write_archive(tmp_path / 'tasks_1-20_v1-2.tar.gz', texts())
  with pytest.raises(UserError, match='not found, but .*data.source=official'):
    builder.load('partial', 'test', data_dir=str(tmp_path))


def test_partial_archive_is_checked_and_warns(
  small, tmp_path, monkeypatch, caplog
):
  path = tmp_path / 'babi_en-valid-10k.tar.xz'
  with pytest.raises(UserError, match='tasks_1-20.* not found'):
    builder.load('partial', 'train', data_dir=str(tmp_path))
  write_archive(path, texts(partial=True), 'babi/en-valid-10k')
  with pytest.raises(UserError, match='SHA-256'):
    builder.load('partial', 'train', data_dir=str(tmp_path))
  with pytest.raises(UserError, match='1 of the 3.*data.source=partial'):
    builder.load('official', 'train', data_dir=str(tmp_path))
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  monkeypatch.setattr(builder, '_PARTIAL', {path.name: digest})
  with caplog.at_level(logging.WARNING):
    train = builder.load('partial', 'train', data_dir=str(tmp_path))
  assert (train['task'] == 3).sum() == 1
  assert 'task 3 has only 1 of its 3 training questions' in caplog.text
  write_archive(tmp_path / 'tasks_1-20_v1-2.tar.gz', texts())
  check_small(load_all(tmp_path))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'qa7_test.txt': ''}, '0 test questions of task 7, expected 1'),
    ({'qa3_train.txt': story(3, 1)}, '1 train questions of task 3, expected 3'),
    ({'qa1_train.txt': story(1, 3)}, 'lacks the words a, above'),
    ({'qa2_valid.txt': '1 Xyzzy.'}, 'qa2_valid.txt, line 1: unknown words'),
  ],
)
def test_other_contents_are_refused(small, tmp_path, change, message):
  write_archive(tmp_path / 'tasks_1-20_v1-2.tar.gz', texts() | change)
  with pytest.raises(UserError, match=message):
    builder.load('official', 'train', data_dir=str(tmp_path))


def test_damaged_archive(small, tmp_path):
  path = tmp_path / 'tasks_1-20_v1-2.tar.gz'
  write_archive(path, texts())
  path.write_bytes(path.read_bytes()[:-500])
  with pytest.raises(UserError, match='is damaged'):
    builder.load('official', 'train', data_dir=str(tmp_path))


def test_missing_file_says_what_to_do(own_cache, tmp_path):
  with pytest.raises(UserError, match='tasks_1-20.*thespermwhale.*:smoke'):
    builder.load('official', 'train', data_dir=str(tmp_path))
  with pytest.raises(UserError, match='official, partial, generated'):
    builder.load('nowhere', 'train')


def test_generated_splits_differ():
  train, test = (builder.load('generated', s) for s in ('train', 'test'))
  assert (train['task'] == 1).all() and train['is_supported'].all()
  assert len(train['task']) == 5000 and len(test['task']) == 500
  assert (train['facts'][:500] != test['facts']).any()


@pytest.fixture(scope='module')
def real(tmp_path_factory):
  folder = os.environ.get('LEARNED_ALGORITHMS_DATA')
  if not folder:
    pytest.skip('LEARNED_ALGORITHMS_DATA does not name the folder of real data')
  if data_files.locate(builder._OFFICIAL, folder):
    source = 'official'
  elif data_files.locate(builder._PARTIAL, folder):
    source = 'partial'
  else:
    pytest.skip('the bAbI data set is not in LEARNED_ALGORITHMS_DATA')
  with pytest.MonkeyPatch.context() as patch:
    cache = tmp_path_factory.mktemp('cache')
    patch.setenv('LEARNED_ALGORITHMS_CACHE', str(cache))
    yield load_all('', source)


def test_real_counts(real):
  for split, columns in real.items():
    tasks, counts = np.unique(columns['task'], return_counts=True)
    np.testing.assert_array_equal(tasks, np.arange(1, 21))
    expected = dict.fromkeys(range(1, 21), builder._COUNTS[split])
    if split != 'test':
      is_train = split == 'train'
      expected |= {18: 8996, 20: 9002} if is_train else {18: 1004, 20: 998}
      if is_train and counts[2] != 9000:
        expected[3] = 925
    assert dict(zip(tasks.tolist(), counts.tolist(), strict=True)) == expected
    assert (np.diff(columns['task'].astype(int)) >= 0).all()


def test_real_lengths(real):
  for name in ('facts', 'question'):
    lengths = [(columns[name] > 0).sum(-1).max() for columns in real.values()]
    assert max(lengths) == 11


def test_real_answers(real):
  train, test = real['train'], real['test']
  assert len(np.unique(train['answer'])) == 60
  for columns in (test, real['validation']):
    for task in range(1, 21):
      seen = set(train['answer'][train['task'] == task].tolist())
      assert set(columns['answer'][columns['task'] == task].tolist()) <= seen
  words = list(data.vocabulary())
  for task, classes, lists in ((8, 16, 12), (19, 12, 12)):
    answers = {
      words[i] for i in np.unique(train['answer'][train['task'] == task])
    }
    assert len(answers) == classes
    assert sum(',' in answer for answer in answers) == lists


def test_real_facts_that_are_cut_off(real):
  test = real['test']
  share = {
    name: [
      round(100 * float(x[test['task'] == task].mean()), 1)
      for task in range(1, 21)
    ]
    for name, x in (
      ('long', test['num_facts'] > 20),
      ('supported', test['is_supported']),
    )
  }
  long = {2: 18.9, 3: 84.7, 5: 36.1, 7: 1.8, 8: 2.0}
  assert share['long'] == [long.get(task, 0.0) for task in range(1, 21)]
  supported = {2: 99.8, 3: 96.7}
  assert share['supported'] == [
    supported.get(task, 100.0) for task in range(1, 21)
  ]
