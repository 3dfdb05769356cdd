"""The standard streams of `main.py`, which may be closed, full, or lost.

Training continues without standard error, and writes further messages to
`console.txt` in the run folder. Results go to standard output, so the program
ends if it cannot write them.
"""

import codecs
import contextlib
import io
import logging
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TextIO

from absl import logging as absl_logging

from core.errors import UserError, one_line
from core.io import data_files

NAME = 'console.txt'


class StreamError(Exception):
  """A standard stream that cannot be read or written; its text is one line."""


class OutputClosed(Exception):
  """The reader of standard output has read enough, as `head` does."""


def open_missing_streams():
  """Open the standard streams that were closed before the program started.

  Each missing descriptor is opened on the null device, so that no file of the
  program takes its number. Standard input is opened for writing and standard
  output for reading, so that their use is an error.
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
  """Standard output, where a failed write raises an error with its cause."""

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
  """Standard error, which `console.txt` replaces after a failed write.

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
    """Write to the console or its replacement."""
    try:
      return self._stream.write(text)
    except OSError as error:
      self._replace(error)
      return len(text)

  def flush(self):
    """Flush the console or its replacement."""
    try:
      self._stream.flush()
    except OSError as error:
      self._replace(error)

  def set_fallback(self, path: pathlib.Path):
    """Set the file that replaces a lost console."""
    self._path = path
    if self.is_lost:
      self._switch()

  def _replace(self, error: OSError):
    if self.is_lost:  # writing to the file has also failed
      _connect(self._stream, os.devnull)
    else:
      self._cause = one_line(error)
      self._switch()

  def _switch(self):
    try:
      _connect(self._stream, self._path or os.devnull)
      self._stream.write(
        f'standard error was lost ({self._cause}); the run continues, and its'
        ' messages follow\n'
      )
      self._stream.flush()
    except OSError:
      _connect(self._stream, os.devnull)


def _connect(stream: TextIO, path: str | os.PathLike):
  """Redirect the descriptor of a stream, and thus all its users, to a file."""
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

  Standard output is UTF-8, like all files. Warnings of `absl.logging` have the
  form 'warning: text'.

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
  """Formats messages for users, without time, process, and file."""

  def format(self, record: logging.LogRecord) -> str:
    return f'{record.levelname.lower()}: {super().format(record)}'


def set_fallback_folder(folder: str | os.PathLike):
  """Write to `console.txt` in a run folder if standard error is lost."""
  if isinstance(sys.stderr, Console):
    sys.stderr.set_fallback(pathlib.Path(folder) / NAME)


def decode_lines(
  file: Iterable[bytes], unreadable: dict[int, UserError]
) -> Iterator[str]:
  """Yield lines of UTF-8 text without line ends, like `data_files.read_lines`.

  For a line that is not UTF-8, add an error to `unreadable` under its number,
  and yield a blank line.
  """
  try:
    for number, line in enumerate(file, start=1):
      line = line.removesuffix(b'\n').removesuffix(b'\r')
      if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
      try:
        text = line.decode()
      except UnicodeDecodeError as error:
        unreadable[number] = UserError(
          f'not UTF-8 text ({one_line(error)}); save the file as UTF-8'
        )
        text = ''
      yield text
  except OSError as error:
    raise StreamError(
      f'cannot read the input: {error.strerror}; name a file with --input=FILE'
    ) from error


def open_input(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
  """Open a file, or standard input, which stays open for a reading thread."""
  try:
    if path == '-':
      # A thread that waits in sys.stdin itself would abort the exit. Closing
      # the file would wait for that thread.
      file = open(sys.stdin.fileno(), 'rb', closefd=False)
      return contextlib.nullcontext(file)
    return open(data_files.expand(path), 'rb')
  except OSError as error:
    raise UserError(
      f'--input={path}: {error.strerror}; name a text file, or omit the flag to'
      ' read standard input'
    ) from error
