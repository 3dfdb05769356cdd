"""The one exception that means 'the user can mend this'."""


class UserError(Exception):
  """A mistake of the user's; its text is one line that says what to change.

  `main.py` prints it without a traceback and exits with status 2.
  """
