"""Runtime: run folders, signals, CPU devices, several processes."""

import contextlib
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile

import jax
import pytest

from configs.rrn import sudoku
from core import runtime
from core.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def make_config(**changes):
  config = sudoku.get_config()
  config.update_from_flattened_dict(changes)
  return config


def start_python(code, *args):
  return subprocess.Popen(
    [sys.executable, '-c', code, *args],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
  )


def test_folder_holds_config_and_versions(tmp_path):
  config = make_config()
  with runtime.open_run_folder(tmp_path / 'a' / 'b', config) as folder:
    assert [path.name for path in folder.iterdir()] == ['lock']
    runtime.record_start(folder, config)
    saved = json.loads((folder / 'config.json').read_text())
    run = json.loads((folder / 'run.json').read_text())
  assert saved == json.loads(config.to_json())
  assert run.items() >= runtime.versions().items()
  assert run['num_devices'] == 8 and run['command'] == shlex.join(sys.argv)


def test_same_config_resumes(tmp_path, caplog):
  runtime.record_start(tmp_path, make_config())
  changed = make_config(**{'total_steps': 7, 'log.every': 3, 'mesh.fsdp': 2})
  with runtime.open_run_folder(tmp_path, changed) as folder:
    runtime.record_start(folder, changed)
    saved = json.loads((folder / 'config.json').read_text())
  assert saved['total_steps'] == 7
  assert 'total_steps was 300000 and is 7 now' in caplog.text


def test_another_config_is_refused(tmp_path):
  runtime.record_start(tmp_path, make_config())
  changed = make_config(**{'seed': 1, 'model.width': 32})
  with pytest.raises(UserError) as caught:
    with runtime.open_run_folder(tmp_path, changed):
      pass
  text = str(caught.value)
  assert 'model.width (96 there, 32 now), seed (0 there, 1 now)' in text
  assert 'another --workdir' in text and '\n' not in text
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['model']['width'] == 96


def test_second_run_in_a_folder_is_refused(tmp_path):
  with runtime.open_run_folder(tmp_path, make_config()):
    with pytest.raises(UserError, match='in use by another run'):
      with runtime.open_run_folder(tmp_path, make_config()):
        pass
  with runtime.open_run_folder(tmp_path, make_config()):
    pass  # the lock is free again


def test_bad_folders(tmp_path):
  (tmp_path / 'file').touch()
  (tmp_path / 'link').symlink_to('gone')
  for path, message in [
    (tmp_path / 'file', 'cannot write to .*; make it a folder'),
    (tmp_path / 'link', 'link to gone, which does not exist; create that'),
    (tmp_path / 'link' / 'run', 'link to gone, which does not exist'),
    ('gs://bucket/run', 'mount the bucket'),
  ]:
    with pytest.raises(UserError, match=message):
      with runtime.open_run_folder(path, make_config()):
        pass


def test_read_only_folder():
  with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder).chmod(0o555)
    with pytest.raises(UserError, match='cannot write to .*Permission denied'):
      with as_nobody(), runtime.open_run_folder(folder, make_config()):
        pass


@contextlib.contextmanager
def as_nobody():
  """Makes root, who may write anywhere, somebody else in the block."""
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
    with runtime.open_run_folder(tmp_path, make_config()):
      pass


def test_errors_of_the_run_are_not_the_disk(tmp_path):
  with pytest.raises(ConnectionError):
    with runtime.open_run_folder(tmp_path, make_config()):
      raise ConnectionError


@pytest.mark.parametrize(
  'count, text, is_lost',
  [
    (1, 'UNAVAILABLE: reset by peer', False),
    (2, 'UNAVAILABLE: reset by peer', True),
    (2, 'UNKNOWN: Gloo all-reduce failed', True),
    (1, 'RESOURCE_EXHAUSTED: out of memory', False),
    (2, 'RESOURCE_EXHAUSTED: out of memory', False),
  ],
)
def test_failure_of_a_device_ends_a_process_of_several(
  monkeypatch, capsys, count, text, is_lost
):
  class Ended(BaseException):
    pass

  def end(status):
    assert status == 1
    raise Ended

  monkeypatch.setattr(jax, 'process_count', lambda: count)
  monkeypatch.setattr(os, '_exit', end)
  with pytest.raises(Ended if count > 1 else jax.errors.JaxRuntimeError):
    with runtime.ended_with_others():
      raise jax.errors.JaxRuntimeError(text)
  said = capsys.readouterr().err
  assert ('another process was lost' in said) == is_lost
  assert ('Traceback' in said) == (count > 1 and not is_lost)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_to_stop(number, monkeypatch):
  before = signal.signal(number, signal.SIG_DFL)
  try:
    with runtime.StopSignal() as stop:
      assert not stop()
      os.kill(os.getpid(), number)
      assert stop() and stop()
    assert signal.getsignal(number) == signal.SIG_DFL
  finally:
    signal.signal(number, before)


def test_nohup_ignores_the_loss_of_the_terminal():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with runtime.StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop()
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
  'error', [RuntimeError("Unable to initialize backend 'x'"), AssertionError()]
)
def test_devices_that_are_not_there(monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setattr(jax, 'devices', fail)
  with pytest.raises(UserError, match='JAX_PLATFORMS=cpu.*unset') as caught:
    runtime.use_cpu_cores(4)
  assert '\n' not in str(caught.value)


def test_models_are_float32_whatever_the_environment(caplog):
  jax.config.update('jax_enable_x64', True)
  try:
    runtime.use_float32()
    assert not jax.config.jax_enable_x64
    assert 'JAX_ENABLE_X64 is ignored' in caplog.text
  finally:
    jax.config.update('jax_enable_x64', False)


def test_second_interrupt_interrupts():
  before = signal.getsignal(signal.SIGINT)  # ignored in background jobs
  with runtime.StopSignal() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is before


def test_cpu_devices_divide_the_batch():
  code = """
import os, sys
os.sched_getaffinity = lambda _: range(6)
from core import runtime
import jax
runtime.use_cpu_cores(64)
runtime.use_cpu_cores(5)  # the first choice stays
print(jax.device_count())
"""
  with start_python(code) as process:
    assert process.communicate(timeout=120)[0] == '4\n'


def test_bad_coordinator():
  with pytest.raises(UserError, match='cannot start the distributed run'):
    runtime.start_distributed('localhost:1', 2, 5)


def test_processes_stop_at_the_same_call():
  code = """
import os, signal, sys, time
from core import runtime
port, index = sys.argv[1:]
runtime.start_distributed(f'localhost:{port}', 2, int(index), timeout=60)
with runtime.StopSignal() as stop:
  for call in range(1000):
    if call == 5 and index == '1':
      os.kill(os.getpid(), signal.SIGTERM)
    if stop():
      print('stopped at', call, file=sys.__stdout__)
      break
    time.sleep(0.02)
"""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  processes = [start_python(code, port, index) for index in '01']
  first, second = [p.communicate(timeout=120)[0] for p in processes]
  assert first.startswith('stopped at ')
  assert first == second
