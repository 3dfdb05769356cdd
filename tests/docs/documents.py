"""The commands in the READMEs and in docs/."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted(
  path
  for pattern in ('*.md', 'docs/**/*.md', '*/README.md', '*/*/README.md')
  for path in ROOT.glob(pattern)
)
# A pipe, variables and `uv run`, main.py, and its arguments up to the end of a
# line or code span.
_MAIN = re.compile(
  r'(?:\b((?:echo|printf)\b[^`|\n]*)\|)?([^`|\n]*)\bmain\.py\b([^`"|\n]*)'
)
_PYTHON = re.compile(r'\bpython (-m [^`\n]*)')


@dataclasses.dataclass(frozen=True)
class Command:
  """A command with main.py.

  Attributes:
    arguments: what follows main.py.
    feed: shell command that writes its standard input; '' if there is none.
    variables: environment variables.
    is_run: whether `uv run` starts it; otherwise, a text mentions main.py.
  """

  arguments: tuple[str, ...]
  feed: str = ''
  variables: tuple[tuple[str, str], ...] = ()
  is_run: bool = True

  def __str__(self):
    return ' '.join(('main.py', *self.arguments))


def commands(text: str) -> Iterator[Command]:
  """Yield the commands with main.py of a Markdown text."""
  for feed, before, arguments in _MAIN.findall(_joined(text)):
    yield Command(
      tuple(shlex.split(arguments, comments=True)),
      feed.strip(),
      tuple(re.findall(r'\b([A-Z_]+)=(\S+)', before)),
      'uv run' in before,
    )


def python_commands(text: str) -> Iterator[tuple[str, ...]]:
  """Yield the arguments of each `python` that runs code of the repository."""
  for arguments in _PYTHON.findall(_joined(text)):
    yield tuple(shlex.split(arguments, comments=True))


def _joined(text: str) -> str:
  return text.replace('\\\n', ' ')
