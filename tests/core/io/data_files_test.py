"""Source files are found, named when missing, and checked."""

import hashlib
import lzma

import pytest

from core.errors import UserError
from core.io import data_files


def find(names, folder):
  return data_files.find_file(
    names, str(folder), url='https://example.org/x', hint='or generate it'
  )


def test_expand(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  monkeypatch.setenv('RUNS', '/data/runs')
  monkeypatch.delenv('UNSET', raising=False)
  assert data_files.expand('~/x') == '/home/me/x'
  assert (
    data_files.expand('$RUNS/1')
    == data_files.expand('${RUNS}/1')
    == '/data/runs/1'
  )
  assert data_files.expand('a~/x$') == 'a~/x$'
  for path, message in [
    ('$UNSET/x', 'variable UNSET is not set'),
    ('~nobody-here/x', '~nobody-here is not a user'),
  ]:
    with pytest.raises(UserError, match=message):
      data_files.expand(path)


def test_paths_are_expanded_where_they_are_used(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('PLACE', str(tmp_path))
  (tmp_path / 'text').write_text('a line')
  assert data_files.read_lines('~/text') == data_files.read_lines('$PLACE/text')
  assert data_files.data_folder('~/data') == tmp_path / 'data'
  monkeypatch.setenv('LEARNED_ALGORITHMS_DATA', '$PLACE/data')
  assert data_files.data_folder() == tmp_path / 'data'


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
  assert data_files.data_folder() == tmp_path
  assert str(data_files.data_folder('mine')) == 'mine'
  monkeypatch.delenv('LEARNED_ALGORITHMS_DATA')
  assert str(data_files.data_folder()) == 'data_cache'


def test_read_lines_ends_lines_with_line_feeds_only(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes('\ufefffirst\r\nse\x85co\u2028nd\n\n'.encode())
  assert data_files.read_lines(path) == ['first', 'se\x85co\u2028nd', '']
  path = tmp_path / 'a.txt.xz'
  path.write_bytes(lzma.compress(b'last\nwithout end'))
  assert data_files.read_lines(path) == ['last', 'without end']


@pytest.mark.parametrize('contents', [None, b'\xff\xfe'])
def test_read_lines_names_a_file_that_is_not_text(contents, tmp_path):
  path = tmp_path / 'a.txt'
  if contents:
    path.write_bytes(contents)
  with pytest.raises(UserError, match=r'cannot read .*a\.txt'):
    data_files.read_lines(path)
