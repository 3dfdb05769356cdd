"""The exception that means 'the user can correct this', and its suggestions."""

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
  """A mistake of the user; its text is one line that says what to change.

  `main.py` prints it without a traceback and exits with status 2. `line` is the
  number of the input line that caused it, where it is known.
  """

  def __init__(self, *args: object, line: int | None = None):
    super().__init__(*args)
    self.line = line


def check_choice(name: str, value: str, choices: Iterable[str]):
  """Raise UserError, with all choices, if `value` is none of them."""
  known = tuple(choices)
  if value not in known:
    raise UserError(f'{name}={value!r}: one of {", ".join(known)} expected')


def nearest(name: str, known: Collection[str]) -> str:
  """Return the known name that a user most likely meant.

  An abbreviation stands for the name with these initials: 'optim.lr' is
  'optim.learning_rate'. Any other name is compared by its letters.
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
  return difflib.get_close_matches(name, known, 1, 0)[0]


def _initials(name: str) -> str:
  words = name.rpartition('.')[2].split('_')
  return ''.join(word[:1] for word in words)


def one_line(error: Exception) -> str:
  """Return at most 200 characters of the error's text, without line breaks."""
  return ' '.join(str(error).split())[:200]
