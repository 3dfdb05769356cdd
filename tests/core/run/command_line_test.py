"""Arguments: files that are not configs, unknown keys, and paths."""

import pytest
from absl import flags
from absl.testing import flagsaver

import main
from configs import common
from core.errors import UserError
from core.run import command_line, run_config


def test_file_without_a_config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('x = 1')
  with pytest.raises(UserError, match='defines no get_config'):
    command_line.check_file(str(path))


@pytest.mark.parametrize(
  'text',
  [
    'def get_config(arg=None):\n  pass',
    'from a import b as get_config',
    'get_config = functools.partial(base)',
  ],
)
def test_files_that_may_be_configs(tmp_path, text):
  path = tmp_path / 'config.py'
  path.write_text(text)
  command_line.check_file(str(path))
  command_line.check_file(str(tmp_path / 'missing.py'))


@pytest.mark.parametrize(
  'override',
  [
    '--config.seed=1',
    '-config.optim.l2=0.1',
    '--noconfig.optim',
    '--config.log',
  ],
)
def test_known_keys(override):
  command_line.check_overrides(common.default_config(), [override])


@pytest.mark.parametrize(
  'override, name, near',
  [
    ('--config.optim.learning_rat=1', 'optim.learning_rat', 'learning_rate'),
    ('--config.learning_rate=1', 'learning_rate', 'optim.learning_rate'),
    ('--config.optimm.l2=1', 'optimm.l2', 'optim.l2'),
    ('--noconfig.sed', 'sed', 'seed'),
  ],
)
def test_unknown_keys(override, name, near):
  with pytest.raises(UserError, match=f"'{name}'; did you mean '.*{near}'"):
    command_line.check_overrides(
      common.default_config(), ['--config.seed=1', override]
    )


@pytest.mark.parametrize(
  'text, expected',
  [
    ('seed=1e3', 'seed=1000'),
    ('seed=2.0', 'seed=2'),
    ('seed=1_000', 'seed=1_000'),
    ('seed=1.5', 'seed=1.5'),  # the type of the flag rejects this later
    ('seed=x', 'seed=x'),
    ('optim.l2=1e-3', 'optim.l2=1e-3'),
    ('init_weights=~/w', 'init_weights=/home/me/w'),
    ('init_weights=$RUNS/w', 'init_weights=/data/w'),
    ('optim.l2_paths=.*kernel$', 'optim.l2_paths=.*kernel$'),
  ],
)
def test_values_as_users_write_them(monkeypatch, text, expected):
  monkeypatch.setenv('HOME', '/home/me')
  monkeypatch.setenv('RUNS', '/data')
  config = common.default_config()
  converted = command_line._convert(f'--config.{text}', config)
  assert converted == f'--config.{expected}'


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = command_line.find_config('configs/rrn/sudoku.py:cpu,box=2x3')
  assert path == f'{run_config.ROOT}/configs/rrn/sudoku.py:cpu,box=2x3'
  (tmp_path / 'mine.py').write_text('def get_config(arg=None): ...')
  assert command_line.find_config('mine.py:x') == 'mine.py:x'
  with pytest.raises(UserError, match='did you mean configs/rrn/sudoku.py'):
    command_line.find_config('configs/rrn/sudko.py')


def parse(*args):
  """Parse arguments, and return the values of the flags and the exit status."""
  main.OVERRIDES.clear()
  with flagsaver.flagsaver():
    try:
      command_line.parse(['main.py', *args], main.OVERRIDES)
    except SystemExit as error:
      return {}, error.code
    return flags.FLAGS.flag_values_dict(), 0


@pytest.mark.parametrize(
  'argument, expected',
  [
    ('--config.num_seeds=x', 'a whole number, for example 1'),
    ('--config.seed=1.5', 'a whole number, for example 0'),
    ('--config.seed=a: b=c', 'a whole number, for example 0'),
    ('--index=x', 'a whole number, for example 1'),
    ('--config.optim.l2=1,5', 'a number, for example 0.0'),
    ('--config.model.remat=maybe', 'True or False'),
    ('--distributed=maybe', 'True or False'),
    ('--config.data.givens=(4,5', 'values in parentheses, for example (4, 6)'),
    (
      '--config.model=3',
      'one key of this section, for example --config.model.KEY=VALUE',
    ),
  ],
)
def test_values_of_a_wrong_type(capsys, argument, expected):
  config = '--config=configs/rrn/sudoku.py:smoke'
  assert parse('--mode=sweep', config, argument)[1] == 2
  assert capsys.readouterr().err == f'error: {argument}: expected {expected}\n'


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help_is_complete(capsys, flag):
  assert parse(flag, '--config=configs/rrn/babi.py:smoke')[1] == 0
  text = capsys.readouterr().out
  for name in ('mode', 'config', 'workdir', 'weights', 'input', 'index'):
    assert f'--{name}:' in text or f'--[no]{name}:' in text
  assert 'docs/commands.md' in text
  for mode in main.MODES:
    assert f'\n  {mode:<9} ' in text
  assert 'configs/seq2set/sorting.py: Sorting' in text
  assert '--config.optim.learning_rate=' in text
  assert "--config.task='rrn.babi'" in text


def test_paths_of_flags_are_expanded(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('PLACE', str(tmp_path))
  values, status = parse('--workdir=~/run', '--config.init_weights=$PLACE/w')
  assert status == 0
  assert values['workdir'] == f'{tmp_path}/run'
  assert values['config'].init_weights == f'{tmp_path}/w'


def test_paths_in_a_config_are_expanded(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  path = tmp_path / 'mine.py'
  path.write_text(
    'from configs.rrn import babi\n\n\n'
    'def get_config(arg=None):\n'
    "  config = babi.get_config('smoke')\n"
    "  config.data.dir = '~/data'\n"
    '  return config\n'
  )
  values, status = parse('--config=~/mine.py')
  assert status == 0
  assert values['config'].data.dir == f'{tmp_path}/data'


def test_shipped_weights_are_found_from_any_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  values, status = parse('--mode=eval', '--weights=pretrained/rrn_ages')
  assert status == 0
  assert values['weights'] == f'{run_config.ROOT}/pretrained/rrn_ages'
  assert values['config'].task == 'rrn.ages'


@pytest.mark.parametrize(
  'body, message',
  [
    ('return missing', 'line 2: NameError'),
    ('import missing', 'line 2: ModuleNotFoundError'),
    ('return {}.missing', 'line 2: AttributeError'),
    ('return 1 / 0', 'line 2: ZeroDivisionError'),
    ('return None', 'does not return a ConfigDict'),
    ('return {}', 'does not return a ConfigDict'),
  ],
)
def test_configs_that_fail(capsys, tmp_path, body, message):
  path = tmp_path / 'mine.py'
  path.write_text(f'def get_config(arg=None):\n  {body}\n')
  assert parse(f'--config={path}')[1] == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and message in line


@pytest.mark.parametrize(
  'text, message',
  [
    ('x = 1', 'config.py is not a config: it defines no get_config'),
    ('# Results\n\nare here', 'invalid syntax'),
    ('def get_config(arg=None:', 'config.py, line 1'),
    ('\0', 'null bytes'),
  ],
)
def test_files_that_are_not_configs(capsys, tmp_path, text, message):
  (tmp_path / 'config.py').write_text(text)
  assert parse(f'--config={tmp_path / "config.py"}')[1] == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and message in line
