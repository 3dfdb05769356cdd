"""The commands in the documents name flags and configs that there are."""

import importlib
import pathlib
import re
import shlex

import pytest
from absl import flags

import main
from core.errors import UserError
from core.run import command_line

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted(
  path
  for pattern in ('*.md', 'docs/**/*.md', '*/README.md', '*/*/README.md')
  for path in ROOT.glob(pattern)
)
# CONTRIBUTING.md builds these configs itself.
EXAMPLES = (
  'configs/examples/majority.py:smoke',
  '$HOME/research/config.py:smoke',
)


def commands(text):
  """Yield the arguments after main.py, up to the end of a line or code span."""
  text = text.replace('\\\n', ' ')
  for line in re.findall(r'\bmain\.py\b([^`"|\n]*)', text):
    yield shlex.split(line, comments=True)


def complaint(arguments):
  """Return what is wrong with the flags of a command, or ''."""
  config, overrides = None, []
  for argument in arguments:
    name, _, value = argument.removeprefix('--').partition('=')
    if argument == '...':
      continue
    if not argument.startswith('--'):
      return f'{argument!r} is not a flag'
    if name.startswith('config.'):
      overrides.append(argument)
    elif name not in flags.FLAGS:
      return f'no flag --{name}'
    elif name == 'mode' and value not in main.MODES:
      return f'no mode {value}'
    elif name == 'config' and value not in ('...', *EXAMPLES):
      path, _, arg = value.partition(':')
      module = path.removesuffix('.py').replace('/', '.')
      try:
        config = importlib.import_module(module).get_config(arg or None)
      except (ImportError, UserError) as error:
        return str(error)
  try:
    if config:  # else that of a folder
      command_line.check_overrides(config, overrides)
  except UserError as error:
    return str(error)
  return ''


@pytest.mark.parametrize(
  'command, problem',
  [
    ('main.py --confg=configs/rrn/sudoku.py', '--confg'),
    ('main.py --config=configs/rrn/soduku.py', 'soduku'),
    ('main.py --config=configs/rrn/sudoku.py:cpu,boxes=2x3', "'boxes'"),
    ('main.py \\\n --config=configs/rrn/sudoku.py --config.sed=1', "'sed'"),
    ('`main.py --mode=evaluate`', 'evaluate'),
    ('main.py eval  # evaluates', "'eval'"),
  ],
)
def test_mistakes_are_found(command, problem):
  (arguments,) = commands(command)
  assert problem in complaint(arguments)


@pytest.mark.parametrize(
  'path', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
def test_flags_and_configs_exist(path):
  found = list(commands(path.read_text()))
  wrong = [(line, complaint(line)) for line in found if complaint(line)]
  assert not wrong
