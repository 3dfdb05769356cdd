"""Refused arguments: files that are no configs, and unknown keys."""

import pytest

from configs import common
from core import command_line
from core.errors import UserError


def test_file_without_a_config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('x = 1')
  with pytest.raises(UserError, match='defines no get_config'):
    command_line.check_file(str(path))


@pytest.mark.parametrize(
  'text', ['def get_config(arg=None):\n  pass', 'from a import b as get_config']
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
