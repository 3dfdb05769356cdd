"""Writers: one line per write, no line twice after a resume, no lost errors."""

import io
import json
import resource
import sys

import pytest

from core.errors import UserError
from core.io import writers


def read(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_lines_hold_step_seconds_and_values(tmp_path, capsys):
  with writers.Writer(tmp_path, start=0, total_steps=1000) as writer:
    writer.write(5, {'train/loss': 0.5, 'perf/examples_per_second': 12345.6})
    writer.write(10, {'eval/test/curve': [1.0, float('nan')], 'a': -1e999})
  first, second = read(tmp_path)
  assert first['step'] == 5 and first['train/loss'] == 0.5
  assert 0 <= first['seconds'] <= second['seconds'] < 60
  assert second['eval/test/curve'] == [1.0, None] and second['a'] is None
  console = capsys.readouterr().err.splitlines()
  assert console[0].startswith('   5/1000  loss 0.5 ')
  assert 'examples_per_second 1.235e+04' in console[0]
  assert 'ETA' in console[0] and 'curve' not in console[1]


def test_remaining_time_excludes_what_precedes_the_clock(
  tmp_path, monkeypatch, capsys
):
  seconds = [0.0]
  monkeypatch.setattr(writers.time, 'monotonic', lambda: seconds[0])
  with writers.Writer(tmp_path, start=0, total_steps=100) as writer:
    seconds[0] = 60.0  # the compilation
    writer.start_clock(10)
    writer.write(10, {'train/loss': 1.0})
    seconds[0] = 65.0
    writer.write(20, {'train/loss': 1.0})
    seconds[0] = 95.0
    writer.exclude(30)  # the compilation of an evaluation
    writer.write(20, {'eval/accuracy': 1.0})
  first, second, third = capsys.readouterr().err.splitlines()
  assert first.endswith('ETA ?') and second.endswith('ETA 00:40')
  assert third.endswith('ETA 00:40')


def test_tensorboard_gets_the_scalars(tmp_path):
  with writers.Writer(tmp_path, start=0, total_steps=10) as writer:
    writer.write(5, {'train/loss': 0.5, 'curve': [1.0]})
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'train/loss' in events.read_bytes()
  assert b'curve' not in events.read_bytes()


def test_undefined_values_are_dashes(tmp_path, capfd, caplog):
  with writers.Writer(tmp_path, start=0, total_steps=10) as writer:
    writer.write(5, {'eval/a/area': float('nan'), 'eval/a/loss': 0.5})
  errors = capfd.readouterr().err
  assert 'a/area –        a/loss 0.5 ' in errors
  assert 'NaN' not in errors + caplog.text
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'eval/a/loss' in events.read_bytes()
  assert b'eval/a/area' not in events.read_bytes()
  assert read(tmp_path)[0]['eval/a/area'] is None


def test_resuming_drops_what_will_be_written_again(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  kept = [{'step': s, 'seconds': 100.0 * s, 'train/loss': 1.0} for s in (1, 2)]
  later = {'step': 3, 'seconds': 300.0}
  lines = [json.dumps(line) + '\n' for line in [*kept, later]]
  half = b'{"step": 2, "sec'
  damaged = bytes(9) + b'\n\xff\n3\n{}\n{"step": null}\n'
  path.write_bytes(damaged + ''.join(lines).encode() + half)
  with writers.Writer(tmp_path, start=2, total_steps=4) as writer:
    assert read(tmp_path) == kept
    writer.write(3, {'train/loss': 0.5})
  *before, last = read(tmp_path)
  assert before == kept
  assert last['step'] == 3 and 200 <= last['seconds'] < 260


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  with writers.Writer(tmp_path, start=0, total_steps=10) as writer:
    writer.write(5, {'train/loss': 0.25})
    writer.write(5, {'eval/test/accuracy': 0.75})
  text = terminal.getvalue()
  assert '5/10' in text and 'loss 0.25' in text
  assert ' test/accuracy 0.75' in text


def test_full_disk_is_an_error_of_one_line(tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  writer = writers.Writer(tmp_path, start=0, total_steps=10)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    with pytest.raises(UserError, match='cannot write to .*: File too large'):
      writer.write(1, {'train/loss': 0.5, 'curve': [0.5] * 100})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  writer.close()


def test_unwritable_folder(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='choose another --workdir'):
    writers.Writer(tmp_path / 'file', start=0, total_steps=1)
