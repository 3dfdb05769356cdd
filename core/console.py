"""The standard streams of `main.py`, which may be closed, full, or lost.

Standard error is a convenience: training goes on without it, and what it would
have shown goes to `console.txt` in the run folder. Standard output holds the
results: an answer that cannot be written ends the program.
"""

import contextlib
import io
import logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO

from absl import logging as absl_logging

from core.errors import one_line

NAME = 'console.txt'


class StreamError(Exception):
  """A standard stream that cannot be read or written; its text is one line."""


class OutputClosed(Exception):
  """The reader of standard output has read enough, as `head` does."""


def open_missing_streams():
  """Open the standard streams that were closed before the program started.

  Each missing descriptor is opened on the null device, so that no file of the
  program takes its number. Standard input and output are opened the wrong way
  round, which turns their use into an error.
  """
  modes = os.O_WRONLY, os.O_RDONLY, os.O_WRONLY
  for descriptor, mode in enumerate(modes):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, mode)  # takes the lowest free number
  if sys.stdin is None:
    sys.stdin = open(0, encoding='utf-8', closefd=False)
  if sys.stdout is None:
    sys.stdout = open(1, 'w', encoding='utf-8', closefd=False)
  if sys.stderr is None:
    sys.stderr = open(2, 'w', encoding='utf-8', closefd=False)


class _Output:
  """Standard output; a failure to write is an error that names its cause."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def __getattr__(self, name):
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    with self._checked():
      return self._stream.write(text)

  def flush(self):
    with self._checked():
      self._stream.flush()

  @contextlib.contextmanager
  def _checked(self):
    try:
      yield
    except OSError as error:
      _connect(self._stream, os.devnull)  # Python flushes it once more at exit
      if isinstance(error, BrokenPipeError):
        raise OutputClosed from error
      raise StreamError(
        f'cannot write to standard output: {error.strerror}; connect it to a'
        ' terminal, a file, or a pipe'
      ) from error


class Console:
  """Standard error; once it cannot be written, `console.txt` takes its place.

  Args:
    stream: standard error.
  """

  def __init__(self, stream: TextIO):
    self._stream = stream
    self._cause = ''
    self._path: pathlib.Path | None = None

  def __getattr__(self, name):
    return getattr(self._stream, name)

  @property
  def is_lost(self) -> bool:
    """Whether a write has failed."""
    return bool(self._cause)

  def write(self, text: str) -> int:
    """Write to the console, or to the file in its place."""
    try:
      return self._stream.write(text)
    except OSError as error:
      self._replace(error)
      return len(text)

  def flush(self):
    """Flush the console, or the file in its place."""
    try:
      self._stream.flush()
    except OSError as error:
      self._replace(error)

  def keep_in(self, path: pathlib.Path):
    """Name the file that takes the place of a lost console."""
    self._path = path
    if self.is_lost:
      self._switch()

  def _replace(self, error: OSError):
    if self.is_lost:  # the file cannot be written either
      _connect(self._stream, os.devnull)
    else:
      self._cause = one_line(error)
      self._switch()

  def _switch(self):
    try:
      _connect(self._stream, self._path or os.devnull)
      self._stream.write(
        f'standard error was lost ({self._cause}); the run goes on, and its'
        ' messages follow\n'
      )
      self._stream.flush()
    except OSError:
      _connect(self._stream, os.devnull)


def _connect(stream: TextIO, path: str | os.PathLike):
  """Point the descriptor of a stream, and so all its users, to a file."""
  file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  try:
    os.dup2(file, stream.fileno())
  except io.UnsupportedOperation:  # a stream without a descriptor
    pass
  finally:
    os.close(file)
  with contextlib.suppress(OSError):
    stream.flush()


@contextlib.contextmanager
def checked_streams() -> Iterator[Console]:
  """Guard standard output and standard error in the block.

  Standard output is UTF-8, as the files are. Warnings of `absl.logging` have
  the form 'warning: text'.

  Raises:
    StreamError: a result cannot be written.
    OutputClosed: the reader of standard output has closed it.
  """
  output, errors = sys.stdout, sys.stderr
  if isinstance(output, io.TextIOWrapper):
    output.reconfigure(encoding='utf-8', errors='backslashreplace')
  handler = absl_logging.get_absl_handler().python_handler
  stream, formatter = handler.stream, handler.formatter
  sys.stdout, console = _Output(output), Console(errors)
  sys.stderr = handler.stream = console
  handler.setFormatter(_Formatter())
  try:
    yield console
  finally:
    sys.stdout, sys.stderr = output, errors
    handler.stream = stream
    handler.setFormatter(formatter)


class _Formatter(logging.Formatter):
  """Messages as a user reads them, without time, process, and file."""

  def format(self, record: logging.LogRecord) -> str:
    return f'{record.levelname.lower()}: {super().format(record)}'


def keep_in(folder: str | os.PathLike):
  """Let `console.txt` in a run folder take the place of a lost console."""
  if isinstance(sys.stderr, Console):
    sys.stderr.keep_in(pathlib.Path(folder) / NAME)
