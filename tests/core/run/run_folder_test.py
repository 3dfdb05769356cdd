"""Run folders: what they hold, when they are refused, and their lock."""

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import pytest

from configs.rrn import sudoku
from core.errors import UserError
from core.run import run_folder

ROOT = pathlib.Path(__file__).parents[3]


def make_config(**changes):
  config = sudoku.get_config()
  config.update_from_flattened_dict(changes)
  return config


def test_folder_holds_config_and_versions(tmp_path):
  config = make_config()
  with run_folder.open_folder(tmp_path / 'a' / 'b', config) as folder:
    assert [path.name for path in folder.iterdir()] == ['lock']
    run_folder.record_start(folder, config)
    saved = json.loads((folder / 'config.json').read_text())
    run = json.loads((folder / 'run.json').read_text())
  assert saved == json.loads(config.to_json())
  assert run.items() >= run_folder.versions().items()
  assert run['num_devices'] == 8 and run['command'] == shlex.join(sys.argv)


def test_same_config_resumes(tmp_path, caplog):
  run_folder.record_start(tmp_path, make_config())
  changed = make_config(**{'total_steps': 7, 'log.every': 3, 'mesh.fsdp': 2})
  with run_folder.open_folder(tmp_path, changed) as folder:
    run_folder.record_start(folder, changed)
    saved = json.loads((folder / 'config.json').read_text())
  assert saved['total_steps'] == 7
  assert 'total_steps was 300000 and is now 7' in caplog.text


def test_another_config_is_refused(tmp_path):
  run_folder.record_start(tmp_path, make_config())
  changed = make_config(**{'seed': 1, 'model.width': 32})
  with pytest.raises(UserError) as caught:
    with run_folder.open_folder(tmp_path, changed):
      pass
  text = str(caught.value)
  assert 'model.width (96 there, 32 now), seed (0 there, 1 now)' in text
  assert 'another --workdir' in text and '\n' not in text
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['model']['width'] == 96


def test_second_run_in_a_folder_is_refused(tmp_path):
  with run_folder.open_folder(tmp_path, make_config()):
    with pytest.raises(UserError, match='in use by another run'):
      with run_folder.open_folder(tmp_path, make_config()):
        pass
  with run_folder.open_folder(tmp_path, make_config()):
    pass  # the lock is free again


def test_systems_without_file_locks(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'fcntl', None)  # the import fails
  spec = importlib.util.find_spec('core.run.run_folder')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  with module.open_folder(tmp_path, make_config()) as folder:
    assert [path.name for path in folder.iterdir()] == ['lock']


def test_bad_folders(tmp_path):
  (tmp_path / 'file').touch()
  (tmp_path / 'link').symlink_to('gone')
  for path, message in [
    (
      tmp_path / 'file',
      'cannot write to .*; check that .* is a folder that you',
    ),
    (tmp_path / 'link', 'link to gone, which does not exist; create that'),
    (tmp_path / 'link' / 'run', 'link to gone, which does not exist'),
    ('gs://bucket/run', 'mount the bucket'),
  ]:
    with pytest.raises(UserError, match=message):
      with run_folder.open_folder(path, make_config()):
        pass


def test_read_only_folder():
  with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder).chmod(0o555)
    with pytest.raises(UserError, match='cannot write to .*Permission denied'):
      with as_nobody(), run_folder.open_folder(folder, make_config()):
        pass


@contextlib.contextmanager
def as_nobody():
  """Drop the privileges of root, who can write anywhere, inside the block."""
  user = os.geteuid()
  os.seteuid(user or 65534)
  try:
    yield
  finally:
    os.seteuid(user)


@pytest.mark.parametrize(
  'contents', [b'{"task": ', bytes(9), b'\xff', b'[]', b'{}', b'{"task": 3}']
)
def test_damaged_config_is_an_error(tmp_path, contents):
  (tmp_path / 'config.json').write_bytes(contents)
  with pytest.raises(UserError, match='config.json is damaged'):
    with run_folder.open_folder(tmp_path, make_config()):
      pass


def test_errors_in_the_block_are_raised_unchanged(tmp_path):
  with pytest.raises(ConnectionError):
    with run_folder.open_folder(tmp_path, make_config()):
      raise ConnectionError


def test_result_files_do_not_make_a_revision_dirty(tmp_path):
  assert run_folder.git_revision(tmp_path) == 'unknown'
  code, result = tmp_path / 'code/a.py', tmp_path / 'results/a.json'
  for path in code, result:
    path.parent.mkdir()
    path.write_text('1')
  identity = '-c', 'user.name=a', '-c', 'user.email=a@b.c'
  for command in (
    ['init', '-q'],
    ['add', '.'],
    [*identity, 'commit', '-qm', 'Start'],
  ):
    subprocess.run(['git', '-C', tmp_path, *command], check=True)
  revision = run_folder.git_revision(code.parent)
  assert re.fullmatch('[0-9a-f]{12}', revision)
  result.write_text('2')
  assert run_folder.git_revision(code.parent) == revision
  code.write_text('2')
  assert run_folder.git_revision(code.parent) == f'{revision}+dirty'
