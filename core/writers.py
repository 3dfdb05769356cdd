"""Where measurements go: metrics.jsonl, TensorBoard and the console.

metrics.jsonl is the record; the other two are views of it. Only process 0
writes.
"""

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
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from core import metrics, runtime

Value = float | list


class Writer:
  """The record of a run in training; a context manager."""

  def __init__(self, folder, *, start: int, total_steps: int):
    """Opens the files of a run and drops what a resumed run will write again.

    Args:
      folder: of the run; created if needed.
      start: completed updates. Lines of later steps are dropped.
      total_steps: of the run; for the progress shown.

    Raises:
      UserError: the folder cannot be written.
    """
    self._folder = pathlib.Path(folder)
    self._is_active = jax.process_index() == 0
    if not self._is_active:
      return
    path = self._folder / 'metrics.jsonl'
    with runtime.reported_writes(self._folder):
      (self._folder / 'tensorboard').mkdir(parents=True, exist_ok=True)
      seconds = _drop_after(path, start)
      self._lines = path.open('a')
      # Not SummaryWriter: when the disk is full, its thread dies and its queue
      # blocks the run for ever.
      self._events = event_file_writer.EventsWriter(
        str(self._folder / 'tensorboard' / 'events')
      )
    self._origin = time.monotonic() - seconds
    self._progress = _Progress(start, total_steps)

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *_):
    self.close()

  def write(self, step: int, values: Mapping[str, Value]):
    """Records what was measured after `step` updates.

    Args:
      step: completed updates.
      values: by tag, such as 'train/loss'; lists go to metrics.jsonl alone.

    Raises:
      UserError: the disk is full.
    """
    if not self._is_active:
      return
    line = {'step': step, 'seconds': self._seconds(), **values}
    with runtime.reported_writes(self._folder):
      self._lines.write(json.dumps(without_nan(line), allow_nan=False) + '\n')
      self._lines.flush()
      for tag, value in values.items():
        if not isinstance(value, list):
          self._write_event(step, tag, value)
      self._events.flush()
    self._progress.show(step, values)

  def close(self):
    """Closes the files; all that was written is in them already."""
    if self._is_active:
      self._progress.close()
      with runtime.reported_writes(self._folder):
        self._lines.close()
        self._events.close()

  def _seconds(self) -> float:
    return round(time.monotonic() - self._origin, 3)

  def _write_event(self, step: int, tag: str, value: float):
    scalar = summary.scalar(tag, value)
    event = event_pb2.Event(step=step, wall_time=time.time(), summary=scalar)
    self._events.write_event(event)


class _Progress:
  """A bar on a terminal, else a line for each set of values; on stderr."""

  def __init__(self, start: int, total_steps: int):
    self._start, self._total = start, total_steps
    self._opened = time.monotonic()
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        initial=start, total=total_steps, unit='step', dynamic_ncols=True
      )

  def show(self, step: int, values: Mapping[str, Value]):
    """Shows the training values in the bar, all others as a line above it."""
    text = _summarize(values)
    if self._bar is None:
      width = len(str(self._total))
      print(
        f'{step:{width}}/{self._total}  {text}  ETA {self._remaining(step)}',
        file=sys.stderr,
        flush=True,
      )
    elif 'train/loss' in values:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    else:
      self._bar.write(f'{step}  {text}', file=sys.stderr)

  def close(self):
    """Leaves the bar as it is."""
    if self._bar is not None:
      self._bar.close()

  def _remaining(self, step: int) -> str:
    if step <= self._start:
      return '?'
    pace = (time.monotonic() - self._opened) / (step - self._start)
    return tqdm.tqdm.format_interval(pace * (self._total - step))


def _summarize(values: Mapping[str, Value]) -> str:
  """'loss 0.4123  accuracy 0.871', aligned from one call to the next."""
  numbers = [tag for tag in values if not isinstance(values[tag], list)]
  parts = (
    f'{re.sub("^(train|perf|eval)/", "", tag)} {_short(values[tag]):<8}'
    for tag in metrics.headline(numbers)
  )
  return ' '.join(parts).rstrip()


def _short(value: Any) -> str:
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def without_nan(value: Any) -> Any:
  """The same with null for the numbers that JSON does not know."""
  if isinstance(value, dict):
    return {key: without_nan(item) for key, item in value.items()}
  if isinstance(value, list):
    return [without_nan(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _drop_after(path: pathlib.Path, step: int) -> float:
  """Drops the lines of later steps, and a last one that a kill cut short.

  Returns:
    The seconds of the last line that stays, 0 if there is none.
  """
  kept, seconds = [], 0.0
  if path.exists():
    for text in path.read_text(errors='replace').splitlines():
      try:
        line = json.loads(text)
      except ValueError:
        continue
      if line['step'] <= step:
        kept.append(text + '\n')
        seconds = line['seconds']
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(''.join(kept))
  temporary.replace(path)
  return seconds
