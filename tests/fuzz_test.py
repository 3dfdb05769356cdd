"""Whatever a user gives: it is read, or refused by a UserError of one line."""

import functools
import importlib
import itertools
import json
import pathlib
import re
import struct

import jax
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import common
from core import inference, sharding, step
from core.errors import UserError
from core.io import atomic_files, weights
from core.run import command_line
from hinting.increment import data as increment
from hinting.sorting import data as integers
from rrn.ages import data as ages
from rrn.babi import data as babi
from rrn.mazes import data as mazes
from rrn.pretty_clevr import data as pretty_clevr
from rrn.sudoku import puzzle_text
from seq2set import point_sets
from seq2set.parsing import data as trees
from seq2set.parsing import linearize
from seq2set.sorting import data as numbers

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(
  f'configs.{path.parent.name}.{path.stem}'
  for path in ROOT.glob('configs/*/[a-z]*.py')
  if path.stem != 'common'
)
bounded = settings(
  max_examples=50, derandomize=True, deadline=None, database=None
)


def attempt(read, *args):
  """Call `read`, and return whether it accepted the input."""
  try:
    read(*args)
  except UserError as error:
    assert len(str(error).splitlines()) == 1
    return False
  return True


def mixed(pieces, max_size=40):
  """Make text from pieces of the format, and from other pieces."""
  odd = st.text(max_size=3) | st.sampled_from(['9' * 5000, '-1', '1e999', '\0'])
  item = st.one_of(*[st.sampled_from(pieces)] * 4, odd)
  return st.lists(item, max_size=max_size).map(''.join)


def read_babi(text):
  return list(babi.read_questions(text.split('\n'), 'qa1.txt'))


def read_trees(text):
  for tree in map(trees.clean, trees.read(text.split('\n'), 'trees.mrg')):
    if tree:
      linearize.linearize(tree, 'depth_first')
      linearize.linearize(tree, 'breadth_first')


def read_sudoku(text):
  for problem in puzzle_text.read_puzzles(text.split('\n')):
    if isinstance(problem, UserError):
      raise problem
    if problem is not None:
      assert problem.puzzle.size == problem.units.shape[1] ** 2
      assert (problem.puzzle <= problem.units.shape[1]).all()


def read_mazes(text):
  for maze in mazes.read_mazes(text.split('\n')):
    if isinstance(maze, UserError):
      raise maze


# Reader, a good text, and the pieces that others are made of.
FORMATS = {
  'sudoku': (
    read_sudoku,
    '1' + '.' * 15,
    ['1', '2', '3', '4', '....', '\n', '1234\n', '-+-', '|', ',', '4321' * 4]
    + ['G', ' ', '0', '\ufeff', '[Puzzle]\n', 'puzzle,solution\n', '# x\n'],
  ),
  'babi': (
    read_babi,
    '1 Mary moved to the garden.\n2 Where is Mary?\tgarden\t1',
    ['1 ', '2 ', 'Mary moved to the garden.', 'Where is Mary?', '\t', '\n']
    + ['garden', '1', '0 '],
  ),
  'mazes': (
    read_mazes,
    '#####\n#S G#\n#####',
    ['#####\n', '#S G#\n', '#', ' ', 'S', 'G', '.', '\n', '# x\n'],
  ),
  'trees': (
    read_trees,
    '(S (NP (N dogs)) (VP (V bark)))',
    ['(', ')', ' ', 'S ', '(N dogs)', '(NP-SBJ-1 ', '(-NONE- *)', '\n'],
  ),
  'numbers': (
    numbers.parse,
    '0.3 0.1, 2',
    ['0.3', ' ', ',', '-', '1e3', 'nan'],
  ),
  'integers': (
    functools.partial(integers.parse, num_values=8, max_length=9),
    '7 3 7 1',
    ['7', '1', ' ', ', ', '+', '0'],
  ),
  'increment': (
    functools.partial(increment.parse, max_length=9),
    '1399',
    ['0', '1', '99', '+', ' '],
  ),
  'ages': (
    ages.parse,
    'A=B+1; B=C+1; C=D+1; D=E+1; E=F+1; F=G+1; G=H+1; H=31; A=?',
    ['A=B+1; B=C+1; C=D+1; D=E+1; E=F+1; F=G+1; G=H+1;', 'H=31;', 'A=?', ';']
    + ['A', '=', '+', '-', '7'],
  ),
  'points': (
    point_sets.parse,
    '0 0 1 0 0 1 output 1 2 3 1',
    ['0 ', '1 ', '0.5 ', 'output ', '2 ', '-', 'inf '],
  ),
  'scene': (
    pretty_clevr.parse,
    None,
    [
      '{"objects": ',
      '[',
      ']',
      '{',
      '}',
      ', ',
      '"question": ',
      '"x": 1',
      'null',
    ],
  ),
}


@pytest.mark.parametrize('name', FORMATS)
def test_lines(name):
  read, good, pieces = FORMATS[name]
  assert good is None or attempt(read, good)

  @bounded
  @given(text=mixed(pieces))
  def check(text):
    attempt(read, text)

  check()


def test_trees_of_any_depth():
  for depth, is_read in (50, True), (100_000, False):
    text = '(S ' * depth + '(N dogs)' + ')' * depth
    assert attempt(read_trees, text) == is_read


def known_arguments(get_config):
  """Return the arguments of a config, as its error message lists them."""
  with pytest.raises(UserError) as caught:
    get_config('?')
  return re.search(r'known: (.*)\)', str(caught.value))[1].split(', ')


@pytest.mark.parametrize('module', CONFIGS)
def test_config_arguments(module):
  get_config = importlib.import_module(module).get_config
  names = st.sampled_from(known_arguments(get_config)) | st.text(max_size=3)
  values = st.sampled_from(
    ['', '0', '-1', '7', '1.5', '1e9', 'nan', 'True', '2x3', '9' * 5000, '=']
  ) | st.text(max_size=3)
  item = names | st.tuples(names, values).map('='.join)

  @bounded
  @given(arg=st.lists(item, max_size=3).map(','.join))
  def check(arg):
    attempt(get_config, arg)

  assert attempt(get_config, 'smoke')
  check()


@bounded
@given(name=st.text(max_size=9), value=st.text(max_size=3))
def test_overrides(name, value):
  config = common.default_config()
  attempt(command_line.check_overrides, config, [f'--config.{name}={value}'])


PARAMS = {'a': np.ones((2, 3), np.float32), 'b': np.zeros(4, np.float16)}
TYPES = ['F32', 'F16', 'BF16', 'I64', 'BOOL', 'C64', 'F4', 'F8_E4M3', 'F9']
SIZES = st.integers(-1, 5) | st.sampled_from([2**31, 2**63, 2**70])
HEADERS = st.dictionaries(
  st.sampled_from(['a', 'b', 'c', '__metadata__']),
  st.fixed_dictionaries(
    {},
    optional={
      'dtype': st.sampled_from(TYPES),
      'shape': st.lists(SIZES, max_size=3),
      'data_offsets': st.lists(SIZES | st.just(24), max_size=3),
    },
  )
  | st.none(),
)


@pytest.fixture(scope='module')
def read_weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  weights.save_weights(folder, PARAMS, step=7)

  def read(contents):
    (folder / weights.NAME).write_bytes(contents)
    weights.load_weights(folder, PARAMS)

  read.good = (folder / weights.NAME).read_bytes()
  return read


def with_header(header, body=b'', size=None):
  text = json.dumps(header).encode()
  return struct.pack('<Q', len(text) if size is None else size) + text + body


@pytest.mark.parametrize(
  'module', ['rrn.sudoku', 'seq2set.sorting', 'hinting.sorting']
)
def test_settings_of_models(module):
  """Try the number 0, an unknown name, and an empty tuple."""
  get_config = importlib.import_module(f'configs.{module}').get_config
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  other = {int: 0, str: 'x', tuple: ()}
  for name, value in get_config('smoke').model.items():
    config = get_config('smoke')
    config.model[name] = other.get(type(value), value)

    def build(config=config):
      task = inference.make_task(config)
      step.make_init(task, config, mesh).eval_shape()

    attempt(build)


TUPLES = (), (0,), (2**40,), (1.5,), ('a',), ((1, 2),), (3, 2), (1, 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
  'module',
  ['rrn.ages', 'rrn.babi', 'rrn.mazes', 'rrn.pretty_clevr', 'rrn.sudoku']
  + ['seq2set.sorting', 'hinting.sorting', 'hinting.increment'],
)
def test_settings_that_are_tuples(module, monkeypatch):
  """Errors are raised when the task or its validation set is made."""
  monkeypatch.delenv('LEARNED_ALGORITHMS_DATA', raising=False)
  get_config = importlib.import_module(f'configs.{module}').get_config
  leaves = traverse_util.flatten_dict(get_config('smoke').to_dict(), sep='.')
  names = [name for name, value in leaves.items() if isinstance(value, tuple)]
  assert names
  for name, value in itertools.product(names, TUPLES):
    config = get_config('smoke')
    config.update_from_flattened_dict({name: value})

    def build(config=config):
      task = inference.make_task(config)
      for evaluator in task.evaluators().values():
        if evaluator.every:  # the others may need files
          evaluator.arrays()

    attempt(build)


def test_weights_with_another_header(read_weights):
  @bounded
  @given(header=HEADERS, body=st.binary(max_size=40))
  def check(header, body):
    attempt(read_weights, with_header(header, body))

  check()
  for dtype in TYPES:  # a tensor as it should be, but for its type
    for size in range(49):
      entry = {'dtype': dtype, 'shape': [2, 3], 'data_offsets': [0, size]}
      assert not attempt(read_weights, with_header({'a': entry}, bytes(size)))
  for size in (0, 3, 10**8, 2**40, 2**63, 2**64 - 1):
    assert not attempt(read_weights, with_header({}, size=size))


def test_weights_cut_and_overwritten(read_weights):
  good = read_weights.good
  assert attempt(read_weights, good)
  for size in range(len(good)):
    assert not attempt(read_weights, good[:size])

  @bounded
  @given(start=st.integers(0, len(good)), piece=st.binary(max_size=9))
  def check(start, piece):
    attempt(read_weights, good[:start] + piece + good[start + len(piece) :])

  check()


@bounded
@given(
  contents=st.binary(max_size=20)
  | st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
  ).map(lambda value: json.dumps(value).encode())
)
def test_json_files(contents):
  attempt(atomic_files.parse_json, contents, pathlib.Path('config.json'))
