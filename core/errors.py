"""The one exception that means 'the user can mend this'."""

from collections.abc import Iterable


class UserError(Exception):
  """A mistake of the user's; its text is one line that says what to change.

  `main.py` prints it without a traceback and exits with status 2. `line` is the
  number of the input's line that it is about, where that is known.
  """

  def __init__(self, *args: object, line: int | None = None):
    super().__init__(*args)
    self.line = line


def check_choice(name: str, value: str, choices: Iterable[str]):
  """Raises UserError, with all choices, if `value` is none of them."""
  known = tuple(choices)
  if value not in known:
    raise UserError(f'{name}={value!r}: one of {", ".join(known)} expected')


def one_line(error: Exception) -> str:
  """The error's text without line breaks, and not too much of it."""
  return ' '.join(str(error).split())[:200]
