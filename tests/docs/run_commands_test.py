"""The commands in the documents run, at the sizes of `tests.docs.shrink`.

The commands of a document run in its order and in one folder, because most of
them use the run folder of an earlier one. Training runs that differ only in
their run folder are done once.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import jax
import pytest

from core.errors import UserError
from core.io import data_files
from rrn.sudoku import hard
from tests import main_test
from tests.core.run import distributed_test
from tests.docs import documents, shrink

ROOT = documents.ROOT
# Errors of commands that need data files.
MISSING = re.compile(
  r'error: (sudoku17|rrn_sudoku|babi|tasks_1-20|craft)\S*( or \S+)* not found'
  r"|error: text 'masc_tokens' not found"
  r'|error: found only .* training questions of task'
)
PAGES = {
  str(path.relative_to(ROOT)): [
    command
    for command in documents.commands(path.read_text(encoding='utf-8'))
    if command.is_run
  ]
  for path in documents.DOCUMENTS
}
_done: dict[tuple[str, ...], str] = {}  # `reusable_key` -> run folder


def marks_of(page):
  """Return the mark of the test of a page: the more readers, the more often."""
  if page == 'README.md':
    return []
  is_system = page in (
    'rrn/README.md',
    'seq2set/README.md',
    'hinting/README.md',
  )
  return pytest.mark.slow if is_system else pytest.mark.campaign


def block(document, start):
  """Return the code block of a document that starts with a text."""
  text = (ROOT / document).read_text(encoding='utf-8')
  (found,) = re.findall(
    rf'^```\w*\n({re.escape(start)}.*?)^```', text, re.DOTALL | re.MULTILINE
  )
  return found


def write_inputs(folder):
  """Write the files that commands name but the repository does not hold."""
  puzzle = PAGES['README.md'][-1].feed.split()[1]
  sentence = 'the cat sat on the mat and the dog ran home .\n'
  files = {
    'puzzles.txt': f'{puzzle}\n',
    'scenes.jsonl': block('rrn/pretty_clevr/README.md', '{"objects"'),
    'mazes.txt': '#####\n#S G#\n#####\n',
    'stories.txt': block('rrn/babi/README.md', '1 Mary'),
    'TEXT': sentence * 200,
    'FILE': '0 0 1 0 1 1 0 1 0.5 0.5 output 1 2 3 4 1\n',
    'configs/examples/majority.py': block(
      'CONTRIBUTING.md', '"""Majority of nine bits'
    ),
    'examples/majority/task.py': block('CONTRIBUTING.md', '"""Decide whether'),
  }
  files['home/research/config.py'] = files[
    'configs/examples/majority.py'
  ].replace("'examples.majority'", "'my_lab.majority'")
  files['home/research/my_lab/majority/task.py'] = files[
    'examples/majority/task.py'
  ]
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding='utf-8')


@pytest.fixture(autouse=True)
def two_devices(monkeypatch):
  """Use two devices, because compiling for eight is slower."""
  devices = jax.devices()[:2]
  monkeypatch.setattr(jax, 'devices', lambda: devices)


@pytest.fixture
def problem_of(tmp_path, tmp_path_factory, monkeypatch, capsys):
  """Return a function that runs a command and returns its error, or ''."""
  write_inputs(tmp_path)
  cache = tmp_path_factory.getbasetemp() / 'prepared'
  data = data_files.data_folder().absolute()
  for name, value in {
    'HOME': tmp_path / 'home',
    'LEARNED_ALGORITHMS_CACHE': cache,
    'LEARNED_ALGORITHMS_DATA': data,
    'LEARNED_ALGORITHMS_TASKS': tmp_path,
    'PYTHONPATH': ROOT,
  }.items():
    monkeypatch.setenv(name, str(value))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  quick = functools.partial(hard.generate, num_chains=8, num_steps=50)
  monkeypatch.setattr(hard, 'generate', quick)

  def problem_of(command):
    try:
      arguments = shrink.shrink(command.arguments)
    except UserError as error:  # of the config
      return f'error: {error}'
    workdir = os.path.expandvars(workdir_of(arguments))
    key = reusable_key(command, arguments)
    if key in _done and not (workdir and os.path.exists(workdir)):
      if workdir:
        shutil.copytree(_done[key], workdir)
      return ''
    with monkeypatch.context() as patch:
      for name, value in command.variables:
        patch.setenv(name, os.path.expanduser(value))
      problem = start(command, arguments, patch, capsys)
    if key and not problem:
      _done[key] = os.path.abspath(workdir)
    return problem

  yield problem_of
  for name in [x for x in sys.modules if x.startswith(('examples', 'my_lab'))]:
    del sys.modules[name]


def workdir_of(arguments):
  flag = '--workdir='
  found = [x.removeprefix(flag) for x in arguments if x.startswith(flag)]
  return found[0] if found else ''


def reusable_key(command, arguments):
  """Return what identifies a command that is not repeated; () if it is.

  Training is reused if its run folder has a name, and other modes if they need
  no run folder.
  """
  kept = [
    x for x in arguments if not x.startswith(('--workdir=', '--coordinator='))
  ]
  modes = [x for x in kept if x.startswith('--mode=')]
  if modes in ([], ['--mode=sweep']):
    is_reusable = bool(workdir_of(arguments))
  else:
    is_whole = any(
      'pretrained/' in x or x.startswith('--config=') for x in kept
    )
    is_reusable = is_whole and not any('runs/' in x for x in arguments)
  variables = [f'{name}={value}' for name, value in command.variables]
  return (*sorted(kept), *variables, command.feed) if is_reusable else ()


def start(command, arguments, patch, capsys):
  """Run main.py, and return its last error, or ''."""
  if '--mode=compile' in arguments or '--distributed' in arguments:
    return start_process([str(ROOT / 'main.py'), *arguments])
  with open('stdin', 'w+', encoding='utf-8') as file:
    if command.feed:
      subprocess.run(command.feed, shell=True, check=True, stdout=file)
    file.seek(0)
    patch.setattr(sys, 'stdin', file)
    capsys.readouterr()
    status = main_test.run(*arguments)
  output, errors = capsys.readouterr()
  if status == 0 and '--mode=predict' in arguments:
    return '' if output else 'no answer'  # an empty line is an answer
  return '' if status == 0 else errors.strip().splitlines()[-1]


def start_process(arguments):
  """Run Python in a process of its own, and return its last error, or ''."""
  result = subprocess.run(
    [sys.executable, *arguments],
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=600,
  )
  if result.returncode == 0:
    return ''
  return (result.stderr or result.stdout).strip().splitlines()[-1]


def as_single_process(command):
  """Change a command for several processes to run in a single process."""
  if '--distributed' not in command.arguments:
    return command
  kept = [
    x
    for x in command.arguments
    if not x.startswith(('--coordinator', '--num_processes', '--process_id'))
  ]
  port = distributed_test.free_port()
  address = f'--coordinator=localhost:{port}', '--num_processes=1'
  return documents.Command((*kept, *address, '--process_id=0'))


@pytest.mark.parametrize(
  'line, problem',
  [
    ('uv run main.py --mode=predict --workdir=runs/none', 'there is no folder'),
    (
      'echo 4.....8 | uv run main.py --mode=predict --weights=pretrained/'
      'rrn_sudoku',
      'line 1: the line has length 7',
    ),
    ('uv run main.py --config.optim.name=adan', "name='adan'"),
    (
      'uv run main.py --mode=sweep --config=configs/hinting/sorting.py:cpu,'
      'hint=none',
      'the table sets hint',
    ),
    (
      'uv run main.py --config=configs/seq2set/ngrams.py:cpu,source=NONE',
      "'NONE' not found",
    ),
  ],
)
def test_mistakes_are_found(problem_of, line, problem):
  (command,) = documents.commands(line)
  found = problem_of(command)
  assert problem in found and not MISSING.match(found)


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(page, marks=marks_of(page))
    for page, commands in PAGES.items()
    if commands
  ],
)
def test_commands_run(problem_of, subtests, page):
  for command in PAGES[page]:
    with subtests.test(command=str(command)):
      is_compiled = '--mode=compile' in command.arguments
      if is_compiled and importlib.util.find_spec('libtpu') is None:
        pytest.skip('needs libtpu: uv sync --extra tpu')
      problem = problem_of(as_single_process(command))
      if MISSING.match(problem):
        pytest.skip(problem)
      assert not problem
