"""The commands in the documents that run Python modules, on little input."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from core.io import data_files
from tests.docs import documents, run_commands_test

ROOT = documents.ROOT
COMMANDS = sorted(
  {
    command
    for path in documents.DOCUMENTS
    for command in documents.python_commands(path.read_text(encoding='utf-8'))
  }
)
# Flags that shorten a command.
SHORT = {
  'rrn.sudoku.belief_propagation': ('--num_boards=1', '--variant=parallel'),
  'seq2set.parsing.ceiling': ('--num_trees=2', '--num_generated=100'),
}
# Code that runs a part of a command without flags.
PARTS = {
  'hinting.sorting.construction': """
from hinting.sorting import construction
construction._NUM_LISTS = 2
construction._CASES = dict([*construction._CASES.items()][:1])
construction.run()
""",
}
# Commands of minutes, and benchmarks, which need PyTorch: only their flags.
LONG = 'hinting.sorting.analysis', 'benchmarks'


def run(*arguments, folder=ROOT, path=ROOT):
  """Run Python in a process of its own; return its status and all output."""
  result = subprocess.run(
    [sys.executable, *arguments],
    cwd=folder,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'LEARNED_ALGORITHMS_DATA': str(data_files.data_folder().absolute()),
      'PYTHONPATH': str(path),
    },
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=600,
  )
  return result.returncode, result.stdout + result.stderr


@functools.cache
def help_of(*names):
  """Return the text of --help of a module, or of one of its commands."""
  return run('-m', *names, '--help')[1]


def unknown_flags(help_text, arguments):
  """Return the flags among the arguments that a help text does not list."""
  names = re.findall(
    r'^ *(?:-\w, )?--(?:\[no\])?(\w+)', help_text, re.MULTILINE
  )
  given = [x.removeprefix('--').partition('=')[0] for x in arguments]
  return [name for name in given if name not in names]


def test_unknown_flags_are_found():
  text = '  --num_lists: The number.\n  -f, --[no]fast  Be fast.\n'
  assert not unknown_flags(text, ['--num_lists=3', '--fast'])
  assert unknown_flags(text, ['--lists=3', '--fast']) == ['lists']


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_python_commands_run(command, tmp_path):
  target, *rest = command[1:]
  path = ROOT
  if target in LONG and rest:
    names = [x for x in rest if not x.startswith('--') and x != 'NAME']
    text = help_of(target, *names)
    given = [x for x in rest if x.startswith('--')]
    assert not unknown_flags(text, given), text
    return
  if target == 'core.report.tables':  # it writes to the documents
    path = copy_of_the_repository(tmp_path / 'copy')
  if target == 'core.run.queue':
    (tmp_path / 'results').mkdir()
    (tmp_path / rest[0]).write_text('true\n')
  if target in PARTS:
    arguments = '-c', PARTS[target]
  else:
    arguments = '-m', target, *rest, *SHORT.get(target, ())
  status, text = run(*arguments, folder=tmp_path, path=path)
  if missing := run_commands_test.MISSING.search(text):
    pytest.skip(text[missing.start() :].splitlines()[0])
  assert status == 0, text


def copy_of_the_repository(folder):
  ignored = shutil.ignore_patterns('.*', 'runs', '*.safetensors')
  shutil.copytree(ROOT, folder, ignore=ignored)
  return pathlib.Path(folder)
