"""The command line: what a user types, and what comes back."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import array_record.python.array_record_data_source  # noqa: F401
import pytest
from absl.testing import flagsaver

import main

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = '--config=configs/rrn/sudoku.py:smoke,network=cells'
SHORT = '--config.total_steps=20', '--config.model.num_steps=2'
SORTING = '--config=configs/seq2set/sorting.py:smoke', '--config.total_steps=20'


def run(*args):
  """Call main.py in this process, and return the exit status.

  array_record defines flags when it is imported. This file imports it at the
  top, because flagsaver would delete flags that are defined here.
  """
  argv = ['main.py', *map(str, args)]
  main.OVERRIDES.clear()
  with flagsaver.flagsaver():
    try:
      return main.guarded(main.command_line.parse(argv, main.OVERRIDES))
    except SystemExit as error:
      return error.code


@pytest.fixture
def call(capsys):
  """Return a function that returns exit status, output, and errors."""

  def call(*args):
    capsys.readouterr()
    return run(*args), *capsys.readouterr()

  return call


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp('trained')
  assert run(SMOKE, *SHORT, f'--workdir={folder}') == 0
  return folder


def test_default_trains_in_its_own_folder(call, tmp_path, monkeypatch):
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  monkeypatch.chdir(tmp_path)
  short = '--config.total_steps=5e1', '--config.evals.num_sets=500'
  status, output, errors = call(*short)
  assert status == 0, errors
  (folder,) = (tmp_path / 'runs').iterdir()
  assert output == (folder / 'report.md').read_text() + '\n'
  last = (folder / 'metrics.jsonl').read_text().splitlines()[-1]
  assert json.loads(last)['step'] == 50
  end = (
    'runs/seq2set.sorting has the weights, report.md, and plots; --mode=eval'
    ' --workdir=runs/seq2set.sorting runs all evaluations'
  )
  assert errors.splitlines()[-1] == end
  # A finished run: nothing to do.
  status, _, errors = call(*short)
  assert status == 0 and errors.splitlines()[-1] == end


@pytest.mark.slow
def test_overrides_change_the_config_of_the_folder(call, trained):
  puzzle = ROOT / 'tests' / 'main_test.py'  # no line of it is a puzzle
  options = f'--workdir={trained}', f'--input={puzzle}'
  override = '--config.evals.boards_per_givens=1'  # sorting has no such key
  status, _, errors = call('--mode=predict', *options, override)
  assert status == 2 and 'line 1' in errors and 'config key' not in errors
  wrong = '--config.evals.boards_per_given=1'
  status, _, errors = call('--mode=predict', *options, wrong)
  assert status == 2 and "did you mean 'evals.boards_per_givens'" in errors


def test_eval_ends_with_one_line_of_json(call, trained):
  status, output, errors = call('--mode=eval', f'--workdir={trained}')
  assert status == 0, errors
  values = json.loads(output.splitlines()[-1])
  assert values['step'] == 20
  assert 0 <= values['validation/steps_16/solved'] <= 1
  saved = json.loads((trained / 'results.json').read_text())['metrics']
  assert '| `test/steps_16/solved` |' in (trained / 'report.md').read_text()
  cells = 'test/steps_8/cells'
  assert values[cells] == saved[cells]['value']
  assert 'low' not in saved[cells]  # the cells of a board depend on each other
  assert 'low' in saved['test/steps_8/solved_9_givens']


STAGED = """
from configs.seq2set import star

TABLES = ('mine',)

def get_config(arg=None):
  config = star.get_config('smoke')
  config.total_steps = 20
  return config

def stages(arg=None):
  first = get_config()
  first.seed = 1
  return {'first': first, 'second': get_config()}

def sweep(arg=None):
  return {'staged': stages(), 'single': get_config()}
"""


@pytest.mark.slow
def test_a_sweep_of_stages_becomes_a_result_file(call, tmp_path, monkeypatch):
  (tmp_path / 'mine.py').write_text(STAGED)
  args = (
    '--mode=sweep',
    f'--config={tmp_path}/mine.py',
    '--config.log.every=10',
    f'--workdir={tmp_path}/sweep',
    f'--results={tmp_path}/results',
  )
  monkeypatch.setattr(sys, 'argv', ['main.py', *args])
  status, _, errors = call(*args)
  assert status == 0, errors
  table = json.loads((tmp_path / 'results/seq2set/star/mine.json').read_text())
  assert table == json.loads((tmp_path / 'sweep/table.json').read_text())
  assert {name: row['updates'] for name, row in table['rows'].items()} == {
    'staged': 40,
    'single': 20,
  }
  # A single run, in stages: all of them are finished.
  args = f'--config={tmp_path}/mine.py', f'--workdir={tmp_path}/sweep/staged'
  status, output, errors = call(*args, '--config.log.every=10')
  assert status == 0, errors
  assert '40 of 40 updates' in output


@pytest.mark.slow
def test_eval_takes_overrides(call, trained, tmp_path):
  status, output, errors = call(
    '--mode=eval',
    f'--weights={trained}',
    f'--workdir={tmp_path}',
    SMOKE,
    '--config.evals.num_steps=(4,)',
  )
  assert status == 0, errors
  values = json.loads(output.splitlines()[-1])
  assert 'test/steps_4/solved' in values
  assert 'test/steps_8/solved' not in values


@pytest.mark.slow
def test_eval_with_zero_positions(call, trained, tmp_path):
  status, output, errors = call(
    '--mode=eval',
    f'--weights={trained}',
    f'--workdir={tmp_path}',
    SMOKE,
    '--config.model.zero_positions=True',
  )
  assert status == 0, errors
  assert 'test_zero_positions/steps_16/solved' in json.loads(
    output.splitlines()[-1]
  )
  override = {'model.zero_positions': True}
  for overrides in ({}, override):
    model = main.inference.load(str(trained), overrides).model
    assert model.zero_positions == bool(overrides)


PUZZLES = """\
1.......2.......
123
12x4............
11..............
0000000000000000
"""
COMPLAINTS = """\
error: line 2: the line has length 3
error: line 3: character 'x' at position 3
error: line 4: no solution: digit 1 twice in row 1 (cells r1c1 and r1c2)
"""


def test_predict_answers_all_lines_it_can(call, trained, tmp_path):
  (tmp_path / 'puzzles.txt').write_text(PUZZLES)
  status, output, errors = call(
    '--mode=predict',
    f'--weights={trained}',
    f'--input={tmp_path / "puzzles.txt"}',
  )
  assert status == 2
  answers = output.splitlines()
  assert [len(answer) for answer in answers] == [16, 0, 0, 0, 16]
  assert all(answer.isdigit() for answer in answers if answer)
  complaints = [x for x in errors.splitlines() if x.startswith('error')]
  expected = COMPLAINTS.splitlines()
  assert len(complaints) == len(expected)
  assert all(map(str.startswith, complaints, expected))


def test_training_goes_on_without_a_console(tmp_path, monkeypatch):
  read, write = os.pipe()
  os.close(read)
  with open(write, 'w') as closed:
    monkeypatch.setattr(sys, 'stderr', closed)
    status = run(SMOKE, *SHORT, f'--workdir={tmp_path}')
  assert status == 1
  assert (tmp_path / 'weights.safetensors').exists()
  text = (tmp_path / 'console.txt').read_text()
  assert 'Broken pipe' in text and '20/20' in text


def test_a_closed_reader_is_not_an_error(monkeypatch):
  read, write = os.pipe()
  os.close(read)
  with open(write, 'w') as closed:
    monkeypatch.setattr(sys, 'stdout', closed)
    monkeypatch.setattr(main, 'main', lambda argv: print('an answer'))
    assert not main.guarded([])  # status 0


@pytest.mark.slow
def test_predict_skips_a_byte_order_mark(call, trained, tmp_path):
  path = tmp_path / 'puzzles.txt'
  path.write_bytes(b'\xef\xbb\xbf' + b'0' * 16 + b'\n')
  status, output, errors = call(
    '--mode=predict', f'--workdir={trained}', f'--input={path}'
  )
  assert status == 0, errors
  assert len(output.splitlines()) == 1


@pytest.mark.slow
def test_predict_reads_standard_input(call, trained, tmp_path, monkeypatch):
  (tmp_path / 'puzzles').write_text('0' * 16 + '\n')
  with open(tmp_path / 'puzzles') as stdin:
    monkeypatch.setattr(sys, 'stdin', stdin)
    status, output, _ = call('--mode=predict', f'--workdir={trained}')
  assert status == 0
  assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
  'args, message',
  [
    (
      (SMOKE, '--config.optim.learning_rat=1'),
      "unknown config key 'optim.learning_rat'; did you mean"
      " 'optim.learning_rate'?",
    ),
    (('--config.optim.lr=1',), "did you mean 'optim.learning_rate'?"),
    (
      ('--mode=predict', '--weights=pretrained/rrn_sudko'),
      'did you mean pretrained/rrn_sudoku?',
    ),
    (('--workdir={link}/run',), 'link is a link to gone, which does not exist'),
    (('--workdir=$NOT_SET/run',), 'variable NOT_SET is not set'),
    (('--config.sed=1',), "unknown config key 'sed'; did you mean 'seed'?"),
    ((SMOKE, '--config.seed=1.5'), '--config.seed=1.5'),
    (('--config.optim.l2=small',), '--config.optim.l2=small'),
    (
      ('--config=configs/rrn/sudoku.py:smoke,width=3',),
      "unknown config argument 'width'",
    ),
    (
      ('--config=configs/rrn/none.py',),
      '--config=configs/rrn/none.py: no such file; known: ',
    ),
    (('--config=sudko.py',), 'did you mean configs/rrn/sudoku.py?'),
    (('--mode=trian',), 'train|eval|predict'),
    (('--process_id=1',), 'cannot start the distributed run'),
    (('--weights=x',), 'not apply to --mode=train, only to eval'),
    (('--results=x',), 'not apply to --mode=train, only to sweep'),
    (('--index=0', '--mode=report'), '--index does not apply to --mode=report'),
    (('--config=/dev/null',), '/dev/null is not a config'),
    (('--workdri=x',), "'workdri'. Did you mean: workdir"),
    ((SMOKE, 'eval'), "'eval' is not a flag; write --mode=eval"),
    (('--mode=eval', '--workdir=none'), 'there is no folder none; known: '),
    (('--mode=predict', '--weights=none'), 'there is no folder none; known: '),
    (('--mode=report', '--workdir=none'), 'there is no folder none; known: '),
    (
      ('--mode=eval', '--workdir={run}/checkpoints'),
      'it has no config.json; known: ',
    ),
    (('--config={plain}:smoke', '--mode=sweep'), 'defines no sweep'),
    ((SMOKE, '--config.mesh.fsdp=3', '--workdir={new}'), 'set config.mesh'),
    (
      (SMOKE, '--config.batch_size=12', '--workdir={new}'),
      'batch_size=12 is not divisible by 8',
    ),
    (
      ('--config=configs/rrn/sudoku.py:source=royle17', '--workdir={new}')
      + ('--config.data.dir={new}',),
      '--config.data.dir',
    ),
    (
      (SMOKE, '--config.data.dir={new}', '--workdir={new}'),
      'add source=royle17',
    ),
    ((SMOKE, *SHORT, '--config.seed=5', '--workdir={run}'), 'seed (0 there, 5'),
    (
      ('--mode=predict', '--workdir={run}', '--input=none.txt'),
      '--input=none.txt: No such file',
    ),
  ],
)
def test_mistakes_end_with_one_line(
  call, trained, tmp_path, monkeypatch, args, message
):
  monkeypatch.setenv('LEARNED_ALGORITHMS_CACHE', str(tmp_path))
  paths = {name: tmp_path / name for name in ('new', 'plain', 'link')}
  paths['link'].symlink_to('gone')
  paths['plain'].write_text('from configs.rrn.sudoku import get_config\n')
  args = [arg.format(run=trained, **paths) for arg in args]
  status, output, errors = call(*args)
  assert status == 2
  assert output == ''
  *before, last = errors.splitlines()
  assert last.startswith('error: ') and message in last
  assert all('preparing' in line for line in before)  # from TFDS


def test_checkpoint_of_another_model(call, trained, tmp_path):
  (tmp_path / 'checkpoints').symlink_to(trained / 'checkpoints')
  status, _, errors = call(
    SMOKE, *SHORT, '--config.model.width=16', f'--workdir={tmp_path}'
  )
  assert status == 2
  assert 'belongs to another model: params.' in errors


@pytest.mark.slow
def test_failed_training_has_its_own_status(call, tmp_path):
  status, _, errors = call(
    *SORTING,
    '--config.optim.learning_rate=inf',
    f'--workdir={tmp_path}',
  )
  assert status == 1
  assert 'update 1 has a non-finite' in errors.splitlines()[-1]


@pytest.mark.slow
def test_process_ends_with_the_status():
  result = subprocess.run(
    [sys.executable, 'main.py', '--config.seed=x', '--config.log.every=5'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 2
  assert result.stderr.startswith('error: ')
  assert '--config.seed=x' in result.stderr
  assert result.stderr.count('\n') == 1


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
  def find_spec(self, name, path=None, target=None):
    if name == 'absl':
      os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
runpy.run_path('main.py', run_name='__main__')
"""


def test_interrupt_during_the_imports():
  result = subprocess.run(
    [sys.executable, '-c', INTERRUPTED],
    cwd=ROOT,
    capture_output=True,
    timeout=300,
  )
  assert result.returncode == -signal.SIGINT
  assert not result.stderr
