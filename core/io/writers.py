"""Write measurements to metrics.jsonl, TensorBoard, and the console.

metrics.jsonl is the record; the other two are views of it. Only process 0
writes.
"""

import contextlib
import json
import math
import pathlib
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import tqdm
from etils import epy

from core import metrics
from core.errors import UserError
from core.io import atomic_files

with epy.lazy_imports():  # tensorboardX is imported when training starts
  from tensorboardX import event_file_writer, summary
  from tensorboardX.proto import event_pb2

Value = float | list


class Writer(contextlib.AbstractContextManager):
  """Writes the measurements of a run; a context manager."""

  def __init__(self, folder, *, start: int, total_steps: int):
    """Open the files of a run, and drop the lines of steps after `start`.

    Raises:
      UserError: the folder cannot be written.
    """
    self._folder = pathlib.Path(folder)
    self._total_steps = total_steps
    self._is_active = jax.process_index() == 0
    if not self._is_active:
      return
    path, events = self._folder / 'metrics.jsonl', self._folder / 'tensorboard'
    with atomic_files.reported_writes(folder):
      events.mkdir(parents=True, exist_ok=True)
      seconds = _drop_after(path, start)
      self._lines = path.open('a', encoding='utf-8')
      # SummaryWriter would block the run forever when the disk is full: its
      # thread dies, and its queue fills.
      self._events = event_file_writer.EventsWriter(str(events / 'events'))
    self._origin = time.monotonic() - seconds
    self.start_clock(start)
    self._bar = tqdm.tqdm(
      initial=start,
      total=total_steps,
      unit='step',
      bar_format='{l_bar}{bar}| {n_fmt}/{total_fmt}',  # the log has the ETA
      dynamic_ncols=True,
      disable=None,  # no bar if standard error is not a terminal
    )

  def __exit__(self, *_):
    self.close()

  def start_clock(self, step: int):
    """Estimate the remaining time from the updates after `step`."""
    self._clock_step, self._clock_time = step, time.monotonic()

  def exclude(self, seconds: float):
    """Exclude time that is spent once from the estimate."""
    if self._is_active:
      self._clock_time += seconds

  def write(self, step: int, values: Mapping[str, Value]):
    """Record measurements.

    Args:
      step: number of updates.
      values: tag, such as 'train/loss' -> value. Only metrics.jsonl has lists.

    Raises:
      UserError: a file cannot be written, such as on a full disk.
    """
    if not self._is_active:
      return
    now = time.monotonic()
    line = {'step': step, 'seconds': round(now - self._origin, 3), **values}
    numbers = {k: v for k, v in values.items() if not isinstance(v, list)}
    with atomic_files.reported_writes(self._folder):
      self._lines.write(json.dumps(without_nan(line)) + '\n')
      self._lines.flush()
      for tag, value in numbers.items():
        if not math.isfinite(value):  # tensorboardX would warn
          continue
        scalar = summary.scalar(tag, value)
        self._events.write_event(
          event_pb2.Event(step=step, wall_time=time.time(), summary=scalar)
        )
      self._events.flush()
    remaining = '?'
    if step > self._clock_step:
      pace = (now - self._clock_time) / (step - self._clock_step)
      remaining = tqdm.tqdm.format_interval(pace * (self._total_steps - step))
    progress = f'{step:{len(str(self._total_steps))}}/{self._total_steps}'
    self._bar.update(step - self._bar.n)
    tqdm.tqdm.write(
      f'{progress}  {_summarize(numbers)}  ETA {remaining}', file=sys.stderr
    )

  def close(self):
    """Close the files, which already contain all measurements."""
    if self._is_active:
      self._bar.close()
      with atomic_files.reported_writes(self._folder):
        self._lines.close()
        self._events.close()


def _summarize(numbers: Mapping[str, float]) -> str:
  """Return 'loss 0.4123  accuracy 0.871', aligned across calls."""
  parts = []
  for tag in metrics.headline(numbers):
    value = numbers[tag]
    text = '–' if math.isnan(value) else f'{value:.4g}'
    parts.append(f'{re.sub("^(train|perf|eval)/", "", tag)} {text:<8}')
  return ' '.join(parts).rstrip()


def without_nan(value: Any) -> Any:
  """Replace numbers that JSON lacks, such as NaN, with None."""
  return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _drop_after(path: pathlib.Path, step: int) -> float:
  """Drop incomplete lines and later steps; return the last 'seconds', or 0."""
  kept, seconds = [], 0.0
  for text in path.read_bytes().splitlines() if path.exists() else ():
    try:
      line = atomic_files.parse_json(text, path)
      is_kept, line_seconds = line['step'] <= step, line['seconds']
    except (UserError, KeyError, TypeError):
      continue
    if is_kept:
      kept.append(text + b'\n')
      seconds = line_seconds
  atomic_files.replace_file(path, b''.join(kept))
  return seconds
