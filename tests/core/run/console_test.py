"""The program handles standard streams that are closed, full, or lost."""

import logging as std_logging
import os
import pathlib
import pty
import signal
import subprocess
import sys

import pytest
from absl import logging

from core.errors import UserError
from core.run import command_line, console, signals
from tests.core import loop_test

ROOT = pathlib.Path(__file__).parents[3]


def closed_pipe():
  """Open the write end of a pipe whose read end is closed."""
  read, write = os.pipe()
  os.close(read)
  return open(write, 'w', encoding='utf-8')


def closed_terminal():
  """Open a terminal whose other side is closed, as by a lost SSH connection."""
  ours, theirs = pty.openpty()
  os.close(ours)
  return open(theirs, 'w', encoding='utf-8')


def full_device():
  return open('/dev/full', 'w', encoding='utf-8')


LOST = {
  closed_pipe: 'Broken pipe',
  closed_terminal: 'Input/output error',
  full_device: 'No space left on device',
}
FULL_DEVICE = pytest.param(
  full_device,
  marks=pytest.mark.skipif(
    not os.path.exists('/dev/full'), reason='needs /dev/full'
  ),
)


@pytest.mark.parametrize('is_late', [True, False])
@pytest.mark.parametrize(
  'open_stream', [closed_pipe, closed_terminal, FULL_DEVICE]
)
def test_messages_go_to_a_file_after_the_console_is_lost(
  tmp_path, open_stream, is_late
):
  path = tmp_path / 'console.txt'
  with open_stream() as stream:
    errors = console.Console(stream)
    if is_late:
      print('before', file=errors, flush=True)
      assert errors.is_lost
    errors.set_fallback(path)
    print('after', file=errors, flush=True)
    assert errors.is_lost
    text = path.read_text()
  assert f'standard error was lost ({LOST[open_stream]})' in text.replace(
    '[Errno 32] ', ''
  ).replace('[Errno 5] ', '').replace('[Errno 28] ', '')
  assert 'after' in text


def test_a_console_that_works_leaves_no_file(tmp_path):
  with open(tmp_path / 'log', 'w', encoding='utf-8') as stream:
    errors = console.Console(stream)
    errors.set_fallback(tmp_path / 'console.txt')
    print('text', file=errors)
    assert not errors.is_lost
  assert [path.name for path in tmp_path.iterdir()] == ['log']


def run_with(monkeypatch, capsys, name, stream, main):
  """Return the exit status of `main` with a replaced stream, and its errors."""
  with stream:
    monkeypatch.setattr(sys, name, stream)
    status = command_line.run(main, [])
    stream.flush()  # as Python does at its exit
  return status, capsys.readouterr().err


def test_a_lost_console_gives_exit_status_1(monkeypatch, capsys):
  def main(_):
    logging.warning('text')
    print('text', file=sys.stderr)
    return 0

  status, _ = run_with(monkeypatch, capsys, 'stderr', closed_pipe(), main)
  assert status == 1


def test_warnings_take_one_line(capsys):
  handler = logging.get_absl_handler().python_handler
  with console.checked_streams():
    record = std_logging.LogRecord(
      'absl', std_logging.WARNING, '', 1, 'line %d: wrong', (3,), None
    )
    handler.emit(record)
  assert capsys.readouterr().err.endswith('warning: line 3: wrong\n')


@pytest.mark.parametrize(
  'stream, status, complaint',
  [
    (closed_pipe, 0, ''),  # `| head` has read enough
    pytest.param(
      full_device,
      1,
      'standard output: No space left on device',
      marks=FULL_DEVICE.marks,
    ),
    (closed_terminal, 1, 'standard output: Input/output error'),
  ],
)
def test_output_that_cannot_be_written(
  monkeypatch, capsys, stream, status, complaint
):
  def main(_):
    print('an answer')
    return 0

  result = run_with(monkeypatch, capsys, 'stdout', stream(), main)
  assert result[0] == status
  assert complaint in result[1] and result[1].count('\n') == bool(complaint)


def raising(error):
  def main(_):
    raise error

  return main


@pytest.mark.parametrize(
  'error, status',
  [
    (UserError('a mistake\nof the user'), 2),
    (FloatingPointError('not finite'), 1),
    (console.StreamError('cannot read'), 1),
  ],
)
def test_errors_take_one_line(capsys, error, status):
  assert command_line.run(raising(error), []) == status
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ')


def test_an_interrupt_ends_the_program_at_once(monkeypatch, capsys):
  monkeypatch.setattr(os, '_exit', sys.exit)
  with pytest.raises(SystemExit, match='1'):
    command_line.run(raising(KeyboardInterrupt()), [])
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: interrupted')


def test_other_errors_are_raised():
  with pytest.raises(BrokenPipeError):  # such as from a socket
    command_line.run(raising(BrokenPipeError()), [])


CODE = """
import os, sys
from core.run import console
console.open_missing_streams()
file = open(sys.argv[1], 'w')
file.write(str(file.fileno()))
file.flush()
print('error', file=sys.stderr, flush=True)
try:
  sys.stdin.read()
except OSError:
  file.write(' no input')
with console.checked_streams():
  try:
    print('text', flush=True)
  except console.StreamError:
    file.write(' no output')
"""


def test_streams_that_are_closed_at_the_start(tmp_path):
  """No file that the program opens becomes its standard error."""
  path = tmp_path / 'file'
  command = [sys.executable, '-c', CODE, str(path)]
  result = subprocess.run(
    ['sh', '-c', '"$@" <&- >&- 2>&-', 'sh', *command], cwd=ROOT, timeout=60
  )
  assert result.returncode == 0
  number, *rest = path.read_text().split(' ', 1)
  assert int(number) > 2 and rest == ['no input no output']


def test_output_is_utf8_in_any_locale():
  code = """
from core.run import console
with console.checked_streams():
  print('\u2013')
"""
  result = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env=os.environ | {'PYTHONIOENCODING': 'ascii'},
    capture_output=True,
    timeout=60,
  )
  assert result.stdout == '\u2013\n'.encode(), result.stderr


def test_losing_the_terminal_saves_a_checkpoint(tmp_path, monkeypatch):
  class StopSignal(signals.StopSignal):
    def __call__(self):
      os.kill(os.getpid(), signal.SIGHUP)
      return super().__call__()

  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  monkeypatch.setattr(signals, 'StopSignal', StopSignal)
  try:
    assert not loop_test.train(tmp_path)
  finally:
    signal.signal(signal.SIGHUP, before)
  assert loop_test.steps(tmp_path) == ['1']
