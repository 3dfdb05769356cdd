"""The commands in the documents name flags and configs that there are."""

import importlib

import pytest
from absl import flags

import main
from core.errors import UserError
from core.run import command_line
from tests.docs import documents

# CONTRIBUTING.md builds these configs itself.
EXAMPLES = (
  'configs/examples/majority.py:smoke',
  '$HOME/research/config.py:smoke',
)


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
  (found,) = documents.commands(command)
  assert problem in complaint(found.arguments)


@pytest.mark.parametrize(
  'path',
  documents.DOCUMENTS,
  ids=lambda path: str(path.relative_to(documents.ROOT)),
)
def test_flags_and_configs_exist(path):
  problems = {
    str(command): complaint(command.arguments)
    for command in documents.commands(path.read_text())
  }
  assert not any(problems.values()), problems
