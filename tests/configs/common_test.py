"""What stands behind `file.py:`, and the keys of overrides."""

import pytest

from configs import common
from core.errors import UserError


def test_file_without_a_config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('x = 1')
  with pytest.raises(UserError, match='defines no get_config'):
    common.check_file(str(path))


@pytest.mark.parametrize(
  'text', ['def get_config(arg=None):\n  pass', 'from a import b as get_config']
)
def test_files_that_may_be_configs(tmp_path, text):
  path = tmp_path / 'config.py'
  path.write_text(text)
  common.check_file(str(path))
  common.check_file(str(tmp_path / 'missing.py'))


def parse(arg):
  return common.parse_arg(
    arg, steps=32, rate=0.1, source='file', shuffle=False
  ).to_dict()


DEFAULTS = {
  'size': 'paper',
  'steps': 32,
  'rate': 0.1,
  'source': 'file',
  'shuffle': False,
}


@pytest.mark.parametrize(
  'arg, changes',
  [
    (None, {}),
    ('', {}),
    ('cpu', {'size': 'cpu'}),
    ('smoke,steps=64', {'size': 'smoke', 'steps': 64}),
    ('rate=1,source=other', {'rate': 1.0, 'source': 'other'}),
    ('shuffle', {'shuffle': True}),
    ('shuffle=False', {'shuffle': False}),
    ('shuffle=TRUE', {'shuffle': True}),
  ],
)
def test_values_keep_their_types(arg, changes):
  parsed, expected = parse(arg), DEFAULTS | changes
  assert parsed == expected
  assert {k: type(v) for k, v in parsed.items()} == {
    k: type(v) for k, v in expected.items()
  }


@pytest.mark.parametrize(
  'arg, message',
  [
    ('smok', "unknown config argument 'smok'; did you mean 'smoke'"),
    ('stepz=3', "'stepz'; did you mean 'steps'.*rate, source, shuffle"),
    ('cpu=1', "unknown config argument 'cpu=1'; did you mean 'cpu'"),
    ('steps=1.5', 'steps=1.5: int expected, for example steps=32'),
    ('steps', 'steps=True: int expected'),
    ('rate=high', 'rate=high: float expected'),
    ('shuffle=yes', 'shuffle=yes: bool expected'),
  ],
)
def test_mistakes_are_named(arg, message):
  with pytest.raises(UserError, match=message):
    parse(arg)


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
  common.check_overrides(common.default_config(), [override])


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
    common.check_overrides(
      common.default_config(), ['--config.seed=1', override]
    )
