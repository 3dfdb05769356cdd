"""Find, check, and read the data files of the user."""

import hashlib
import lzma
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

from core.errors import UserError, one_line

_VARIABLE = re.compile(r'\$(\w+|\{\w+\})')


def expand(path: str | os.PathLike) -> str:
  """Replace a leading `~` and environment variables, `$NAME` or `${NAME}`.

  Raises:
    UserError: a variable is not set, or `~name` is not a user.
  """
  text = os.fspath(path)
  expanded = os.path.expanduser(os.path.expandvars(text))
  unset = _VARIABLE.search(expanded)
  if unset and not os.path.exists(expanded):
    raise UserError(
      f'{text}: the environment variable {unset[1].strip("{}")} is not set;'
      ' set it, or write the path without it'
    )
  if expanded.startswith('~'):
    raise UserError(
      f'{text}: {expanded.split("/")[0]} is not a user; write the path without'
      ' it, or ./~ for a name that starts with ~'
    )
  return expanded


def is_expandable(text: str) -> bool:
  """Return whether `expand` would change a text."""
  return text.startswith('~') or _VARIABLE.search(text) is not None


def data_folder(folder: str = '') -> pathlib.Path:
  """Return the folder of source files.

  Args:
    folder: path of the folder. '' selects $LEARNED_ALGORITHMS_DATA or, if it is
      not set, `data_cache`.
  """
  default = os.environ.get('LEARNED_ALGORITHMS_DATA', 'data_cache')
  return pathlib.Path(expand(folder or default))


def locate(names: Iterable[str], folder: str = '') -> pathlib.Path | None:
  """Return the first of these files in `data_folder` or its sub-folders."""
  root = data_folder(folder)
  paths = (p for n in names for p in (root / n, *sorted(root.glob(f'*/{n}'))))
  return next((path for path in paths if path.is_file()), None)


def find_file(
  names: Mapping[str, str], folder: str, *, url: str, hint: str
) -> pathlib.Path:
  """Find a source file with `locate`, and verify its contents.

  Args:
    names: maps each possible file name, in order of preference, to its SHA-256.
    folder: see `data_folder`.
    url: public address of the file.
    hint: an alternative, such as 'or generate data: --config=...'.

  Raises:
    UserError: there is no such file, or its contents differ.
  """
  path = locate(names, folder)
  if path is None:
    raise UserError(
      f'{" or ".join(names)} not found in {data_folder(folder).absolute()} or'
      f' its sub-folders; get it from {url} and set'
      ' --config.data.dir or the environment variable LEARNED_ALGORITHMS_DATA'
      f' to its folder, {hint}'
    )
  with path.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if digest != names[path.name]:
    raise UserError(
      f'{path} is damaged or another version (SHA-256 {digest}, expected'
      f' {names[path.name]}); replace it with {url}'
    )
  return path


def read_lines(path: str | os.PathLike) -> list[str]:
  """Read the lines of a UTF-8 text file, without line ends.

  A line ends with a line feed, or with a carriage return and a line feed. Other
  Unicode line separators are part of the line. A byte-order mark is dropped.

  Args:
    path: path of the file, see `expand`; files `*.xz` are decompressed.

  Raises:
    UserError: the file cannot be read, or is not UTF-8 text.
  """
  path = pathlib.Path(expand(path))
  try:
    contents = path.read_bytes()
    if path.suffix == '.xz':
      contents = lzma.decompress(contents)
    text = contents.decode('utf-8-sig')
  except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
    raise UserError(f'cannot read {path}: {one_line(error)}') from error
  lines = [line.removesuffix('\r') for line in text.split('\n')]
  return lines[:-1] if lines[-1] == '' else lines
