"""Imports point one way, files stay short, and some packages stay out."""

import ast
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import safetensors

ROOT = pathlib.Path(__file__).parents[2]
CODE = [
  path
  for pattern in ('*.py', '[a-z]*/**/*.py')
  for path in sorted(ROOT.glob(pattern))
]
IDS = [str(path.relative_to(ROOT)) for path in CODE]
SHARED = ('configs', 'core', 'tests', 'benchmarks')  # all others are systems
SYSTEMS = sorted(
  {
    path.relative_to(ROOT).parts[0]
    for path in CODE
    if path.parent != ROOT and path.relative_to(ROOT).parts[0] not in SHARED
  }
)
# File of an experiment -> the modules of core that it may import.
CORE = {
  'data': {'errors'},
  'model': {'errors', 'layers'},
  'builder': {'errors', 'io.data_files', 'io.datasets'},
  'plots': {'report.plots'},
  'task': {'errors', 'io.datasets', 'layers', 'answers', 'metrics', 'task'},
  # Programs that print a table.
  'belief_propagation': {
    'errors',
    'io.data_files',
    'report.markdown',
    'report.measurements',
    'run.command_line',
  },
  'construction': {
    'errors',
    'report.markdown',
    'report.measurements',
    'run.command_line',
  },
}
DATA_LIBRARIES = {'numpy', 'scipy'}
SHARED_NAMES = {
  # Settings that core documents for all experiments.
  'every',
  'batch_size',
  'dir',
  'source',
  # Parameters of core's own layers.
  'kernel',
  'bias',
  'layers',
  'embedding',
  'scale',
  # Common words that happen to be the name of a setting.
  'length',
  'main',
  'mode',
  'norm',
  'paper',
  'start',
  'update',
  'value',
}
PICKLES = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'shelve'}


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


def imports(path):
  """Return the modules that a file imports, 'a.b' for `from a import b`."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} imports relatively'
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        names.add(full if is_module(full) else node.module)
  return names


def is_module(name):
  path = ROOT / name.replace('.', '/')
  return path.is_dir() or path.with_suffix('.py').is_file()


def is_ours(name):
  return name.split('.')[0] in {'main', *SHARED, *SYSTEMS}


def allowed(module, imported):
  """Return whether the architecture allows a module to import another."""
  package, *rest = module.split('.')
  target, *target_rest = imported.split('.')
  if package in ('tests', 'benchmarks'):
    return True
  if package == 'main':
    return target == 'core' or imported == 'configs.common'
  if package == 'core':
    return target == 'core'
  if package == 'configs':
    shared = 'configs.common', f'configs.{rest[0]}.common'
    shared += f'configs.{rest[0]}.tables.{rest[-1]}', 'core.errors'
    return imported in (*shared, 'core.io.data_files')
  if target == 'core':
    if 'analysis' in rest:  # A tool for trained models, like a benchmark.
      return True
    uses = CORE.get(rest[-1], set().union(*CORE.values()))
    return '.'.join(target_rest) in uses if len(rest) > 1 else True
  if target != package:
    return False
  is_own = len(target_rest) > 1 and target_rest[0] == rest[0]
  is_shared = len(target_rest) == 1
  if rest[-1] == 'data' and len(rest) > 1:
    return False
  # An experiment may import its own files and those of its system, but not
  # those of another experiment. Nothing imports a task.
  return (is_own or is_shared) and target_rest[-1] != 'task'


@pytest.mark.parametrize('path', CODE, ids=IDS)
def test_imports_point_one_way(path):
  module = module_name(path)
  wrong = [
    name
    for name in imports(path)
    if is_ours(name) and not allowed(module, name)
  ]
  assert not wrong


@pytest.mark.parametrize('path', CODE, ids=IDS)
def test_imports_of_other_packages(path):
  module, names = module_name(path), imports(path)
  packages = {name.split('.')[0] for name in names}
  assert 'tensorflow' not in packages
  assert not packages & PICKLES
  if module not in ('core.checkpoints', 'tests.core.checkpoints_test'):
    assert not packages & {'orbax', 'tensorstore'}
  others = {
    name
    for name in packages
    if name not in sys.stdlib_module_names and not is_ours(name)
  }
  if module.split('.')[0] == 'configs':
    assert others <= {'ml_collections', 'absl'}
  if module.split('.')[0] in SYSTEMS and module.endswith('.data'):
    assert others <= DATA_LIBRARIES


@pytest.mark.parametrize('path', CODE, ids=IDS)
def test_files_are_short(path):
  limit = 100 if path.name == 'main.py' else 400
  assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize(
  'path',
  [path for path in CODE if 'tests' not in path.parts],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_text_files_are_utf8(path):
  """No file is opened with the encoding of the locale."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call):
      assert has_encoding(node), f'{path}, line {node.lineno}: no encoding'


def has_encoding(call):
  """Return False for a call that opens a text file without an encoding."""
  name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
  owner = getattr(getattr(call.func, 'value', None), 'id', '')
  keywords = {keyword.arg for keyword in call.keywords}
  if name not in ('open', 'read_text', 'write_text') or 'encoding' in keywords:
    return True
  if owner in ('os', 'tarfile', 'zipfile'):
    return True
  texts = [x.value for x in call.args if isinstance(x, ast.Constant)]
  if name == 'open':
    return any('b' in text for text in texts[-1:] if isinstance(text, str))
  return name == 'read_text' and texts == ['utf-8']


@pytest.mark.parametrize(
  'code, expected',
  [
    ('path.read_text()', False),
    ('path.write_text(text)', False),
    ("path.open('a')", False),
    ('open(path)', False),
    ("open(path, 'rb')", True),
    ("path.read_text('utf-8')", True),
    ("path.write_text(text, encoding='utf-8')", True),
    ('tarfile.open(path)', True),
  ],
)
def test_calls_without_an_encoding_are_found(code, expected):
  call = ast.parse(code, mode='eval').body
  assert has_encoding(call) == expected


def own_names():
  """Return the names of all experiments' own settings and layers."""
  names = set()
  for path in sorted(ROOT.glob('configs/*/[a-z]*.py')):
    if path.stem != 'common':
      module = runpy.run_path(str(path))
      names |= set(module.get('RENAMED_LAYERS', {}).values())
      config = module['get_config']()
      for section in config.model, config.data, config.evals:
        names |= set(section)
  for path in ROOT.glob('pretrained/*/weights.safetensors'):
    with safetensors.safe_open(path, 'numpy') as file:
      names |= {part for name in file.keys() for part in name.split('/')}
  return {name for name in names if not name.isdecimal()} - SHARED_NAMES


def strings(path):
  """Return the words in the strings of a file, except docstrings and prose."""
  tree = ast.parse(path.read_text())
  docstrings = {
    id(node.value)
    for node in ast.walk(tree)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
  }
  for node in ast.walk(tree):
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if is_text and id(node) not in docstrings and ' ' not in node.value:
      yield from re.findall(r'\w+', node.value)


@pytest.mark.parametrize(
  'path',
  sorted(ROOT.glob('core/**/*.py')),
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_core_knows_no_experiment(path):
  assert not own_names() & set(strings(path))


def test_forbidden_imports_are_found():
  """The rules above are not empty."""
  for module, imported in [
    ('core.loop', 'rrn.sudoku.task'),
    ('core.loop', 'configs.common'),
    ('configs.rrn.sudoku', 'core.loop'),
    ('rrn.sudoku.task', 'core.loop'),
    ('rrn.sudoku.data', 'rrn.network'),
    ('rrn.sudoku.model', 'rrn.sudoku.task'),
    ('rrn.sudoku.task', 'rrn.babi.data'),
    ('rrn.network', 'rrn.sudoku.model'),
    ('rrn.sudoku.task', 'seq2set.order_search'),
    ('main', 'rrn.sudoku.task'),
  ]:
    assert not allowed(module, imported), (module, imported)


@pytest.mark.slow
def test_tensorflow_is_never_loaded():
  code = """
import sys
import main
from rrn.sudoku import builder
builder.load('generated', 'test', box=(2, 2))
bad = {'tensorflow', 'torch'} & set(sys.modules)
sys.exit(f'loaded: {bad}' if bad else 0)
"""
  result = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 0, result.stderr
