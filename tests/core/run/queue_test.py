"""The queue runs each command once, keeps logs, and stops when asked."""

import os
import signal
import subprocess
import sys
import time

from core.run import queue

WRITE = f'{sys.executable} -c "print(\'from {{}}\')"'
FAIL = f'{sys.executable} -c "raise SystemExit(3)"'


def done(folder):
  return (folder / 'done.txt').read_text().splitlines()


def test_finished_commands_are_skipped_and_failed_ones_are_not(tmp_path):
  lines = ['# comment', '', WRITE.format('a'), FAIL, f' {WRITE.format("b")} ']
  assert queue.run(lines, tmp_path, processes=2) == 1
  assert sorted(done(tmp_path)) == sorted(WRITE.format(x) for x in 'ab')
  logs = [path.read_text() for path in tmp_path.glob('*.log')]
  assert sorted(logs) == ['', 'from a\n', 'from b\n']
  assert queue.run(lines, tmp_path, processes=1) == 1  # the failed one only
  assert len(done(tmp_path)) == 2
  assert sorted(p.read_text() for p in tmp_path.glob('*.log')) == sorted(logs)


def test_a_command_that_cannot_start_does_not_stop_the_others(tmp_path, capfd):
  lines = ['no-such-program', 'echo "unclosed', WRITE.format('a')]
  assert queue.run(lines, tmp_path, processes=1) == 2
  assert done(tmp_path) == [WRITE.format('a')]
  assert 'cannot start no-such-program' in capfd.readouterr().err


def test_commands_after_a_wait_need_those_before_it(tmp_path):
  path = tmp_path / 'made'
  make = f'{sys.executable} -c "open({str(path)!r}, chr(119))"'
  read = f'{sys.executable} -c "open({str(path)!r})"'
  folder = tmp_path / 'queue'
  assert queue.run([make, 'wait', read, 'wait'], folder, processes=2) == 0
  assert done(folder) == [make, read]
  lines = [FAIL, WRITE.format('a'), 'wait', WRITE.format('b')]
  assert queue.run(lines, folder, processes=2) == 1
  assert done(folder)[2:] == [WRITE.format('a')]


def test_a_signal_reaches_the_commands(tmp_path):
  """A stopped training ends with status 0, but is not finished."""
  script = tmp_path / 'command.py'
  script.write_text(
    'import signal, sys, time\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n'
    'print("ready", flush=True)\n'
    'time.sleep(60)\n'
  )
  (tmp_path / 'queue.txt').write_text(
    f'{sys.executable} {script}\n{WRITE.format("late")}\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-m', 'core.run.queue', tmp_path / 'queue.txt']
    + ['--processes=1'],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': os.getcwd()},
  )
  folder = tmp_path / 'runs' / 'queue'
  while not any(path.read_text() for path in folder.glob('*.log')):
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=60) == 1
  assert not (folder / 'done.txt').exists()
  assert len(list(folder.glob('*.log'))) == 1
