"""Replace files atomically, and read JSON that may be damaged."""

import contextlib
import errno
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from core.errors import UserError, one_line

_FULL = 'ENOSPC', 'EDQUOT'


def read_json(path: pathlib.Path, **types: Any) -> dict[str, Any]:
  """Read a JSON object with `parse_json`; {} if there is no file."""
  return parse_json(path.read_bytes(), path, **types) if path.is_file() else {}


def parse_json(
  contents: bytes, path: pathlib.Path, **types: Any
) -> dict[str, Any]:
  """Parse the contents of a file as a JSON object.

  Args:
    contents: contents of the file.
    path: path of the file, for errors.
    **types: see `check_object`.

  Raises:
    UserError: the contents are not an object with these types.
  """
  try:
    # Parse bytes, so that a wrong encoding gives the same error.
    value = json.loads(contents, parse_constant=_finite, parse_float=_finite)
  except (ValueError, RecursionError) as error:
    raise _damaged(path, one_line(error)) from error
  return check_object(value, path, **types)


def _finite(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f'{text} is not a finite number')
  return value


def check_object(
  value: Any, path: pathlib.Path, /, **types: Any
) -> dict[str, Any]:
  """Check that a value from a file is an object, and return it.

  Args:
    value: the value.
    path: path of the file, for errors.
    **types: required keys and the types of their values.

  Raises:
    UserError: it is not an object, or a value is missing or has a wrong type.
  """
  if not isinstance(value, dict):
    raise _damaged(path, f'{json.dumps(value)[:40]} is not an object')
  for key, kind in types.items():
    if not isinstance(value.get(key, ...), kind):
      raise _damaged(path, f'{key} is missing or has the wrong type')
  return value


def _damaged(path: pathlib.Path, why: str) -> UserError:
  return UserError(f'{path} is damaged ({why}); repair it, or move it away')


def write_json(path: pathlib.Path, value: Any):
  """Replace the contents of a file with a value as JSON."""
  replace_file(path, (json.dumps(value, indent=2) + '\n').encode())


def replace_file(path: pathlib.Path, contents: bytes):
  """Replace a file atomically: a kill leaves the old or the new contents."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_bytes(contents)
  temporary.replace(path)


@contextlib.contextmanager
def reported_writes(
  folder: str | os.PathLike, flag: str = '--workdir'
) -> Iterator[None]:
  """Convert an OSError in the block, such as a full disk, to a UserError.

  Args:
    folder: folder that the block writes to.
    flag: flag that selects another folder.
  """
  try:
    yield
  except OSError as error:
    path = pathlib.Path(error.filename or folder)
    raise UserError(
      f'cannot write to {path}: {_reason(error, path, folder)}, or choose'
      f' another {flag}'
    ) from error


def _reason(
  error: OSError, path: pathlib.Path, folder: str | os.PathLike
) -> str:
  """Return why a path in a folder is not writable, and what the user can do."""
  broken = [p for p in (path, *path.parents) if is_dangling(p)]
  if broken:
    return (
      f'{broken[0]} is a link to {os.readlink(broken[0])}, which does not'
      ' exist; create that folder'
    )
  why = error.strerror or one_line(error)
  code = errno.errorcode.get(error.errno or 0)
  if code in _FULL:
    return f'{why}; free disk space'
  if code == 'EFBIG':
    return f'{why}; raise the limit on file sizes (ulimit -f)'
  return f'{why}; check that {folder} is a folder that you may write to'


def is_dangling(path: pathlib.Path) -> bool:
  """Return whether a path is a symbolic link to nothing."""
  return os.path.islink(path) and not os.path.exists(path)
