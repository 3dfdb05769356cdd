"""The exception for user errors, and checks that raise it."""

import difflib
import pathlib
from collections.abc import Collection, Iterable

from ml_collections import ConfigDict


class UserError(Exception):
  """A user error; its text is one line that says what to change.

  `main.py` prints it without a traceback and exits with status 2.

  Attributes:
    line: 1-based number of the input line that caused it; None if unknown.
  """

  def __init__(self, *args: object, line: int | None = None):
    super().__init__(*args)
    self.line = line


def check_choice(name: str, value: str, choices: Iterable[str]):
  """Raise UserError, with all choices, unless `value` is one of them."""
  known = tuple(choices)
  if value not in known:
    raise UserError(f'{name}={value!r}: expected one of {", ".join(known)}')


def check_positive(config: ConfigDict, *names: str):
  """Raise UserError if a setting such as 'model.width' is less than 1."""
  for name in names:
    section, _, leaf = name.partition('.')
    if config[section][leaf] < 1:
      raise UserError(
        f'config.{name}={config[section][leaf]!r}: expected a whole number'
        ' from 1 to 2147483647'
      )


def check_numbers(
  config: ConfigDict,
  name: str,
  *,
  least: int = 1,
  lengths: Collection[int] = (),
  allow_floats: bool = False,
):
  """Check a setting that is a tuple of numbers.

  Args:
    config: the whole config.
    name: name of the setting, such as 'evals.num_steps'.
    least: smallest allowed number.
    lengths: allowed lengths of the tuple. () allows every length but 0.
    allow_floats: whether the numbers may be floats.

  Raises:
    UserError: a number is out of range, or the length is not allowed.
  """
  section, _, leaf = name.partition('.')
  values = config[section][leaf]
  types = (int, float) if allow_floats else (int,)
  expected = 'numbers' if allow_floats else 'whole numbers'
  for value in values:
    if type(value) not in types or not least <= value < 2**31:
      raise UserError(
        f'config.{name}={values}: expected {expected} of at least {least} and'
        ' at most 2147483647'
      )
  if lengths and len(values) not in lengths:
    allowed = ' or '.join(map(str, lengths))
    raise UserError(f'config.{name}={values}: expected {allowed} numbers')
  if not lengths and not values:
    raise UserError(f'config.{name}=(): expected at least one number')


def nearest(name: str, known: Collection[str]) -> str:
  """Return the known name that a user most likely meant.

  An abbreviation matches the name with these initials: 'optim.lr' matches
  'optim.learning_rate'. For any other name, the most similar one is returned.
  """
  section, _, last = name.rpartition('.')
  abbreviated = [
    candidate
    for candidate in known
    if len(last) > 1 and _initials(candidate) == last.lower()
  ]
  if abbreviated:
    in_section = [x for x in abbreviated if x.rpartition('.')[0] == section]
    return (in_section or abbreviated)[0]
  return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]


def suggest_path(path: str, known: Collection[str]) -> str:
  """Return 'did you mean FOLDER/NAME?', or all known paths if none is near.

  Args:
    path: path of a config file or a folder that does not exist.
    known: paths that exist. Those with the most similar name are near.
  """
  names = {x: pathlib.PurePath(x).name.removesuffix('.py') for x in known}
  name = pathlib.PurePath(path).name.removesuffix('.py')
  if not (near := difflib.get_close_matches(name, names.values(), n=1)):
    return f'known: {", ".join(known)}'
  best = nearest(path, [x for x in known if names[x] == near[0]])
  return f'did you mean {best}?'


def _initials(name: str) -> str:
  words = name.rpartition('.')[2].split('_')
  return ''.join(word[:1] for word in words)


def one_line(error: Exception) -> str:
  """Return at most 200 characters of the error's text, without line breaks."""
  return ' '.join(str(error).split())[:200]
