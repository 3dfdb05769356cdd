"""The exceptions that `main.py` tells in one line."""

from collections.abc import Iterable


class UserError(Exception):
  """A mistake of the user's; its text is one line that says what to change.

  `main.py` prints it without a traceback and exits with status 2.
  """


def check_choice(name: str, value: str, choices: Iterable[str]):
  """Raises UserError, with all choices, if `value` is none of them."""
  known = tuple(choices)
  if value not in known:
    raise UserError(f'{name}={value!r}: one of {", ".join(known)} expected')


class LostProcessError(RuntimeError):
  """Another process of the run has ended, so this one cannot go on."""
