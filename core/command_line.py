"""From the arguments of `main.py` to its flags, and mistakes in one line."""

import ast
import difflib
import pathlib
import re
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from core import run_config
from core.errors import UserError

# The modes that read a flag; others would ignore it.
_MODES = {
  'weights': ('eval', 'predict'),
  'input': ('predict',),
  'topology': ('compile',),
  'index': ('sweep',),
  'workdir': ('train', 'eval', 'predict', 'sweep', 'report'),
}
# What a file that is no config raises when it is loaded.
_NO_CONFIG = OSError, LookupError, TypeError, SyntaxError, ValueError


def parse(argv: list[str], overrides: list[str]) -> list[str]:
  """Parses the flags of `main.py`; a mistake ends with one line and status 2.

  `overrides` stands in for sys.argv in the definition of --config: arguments
  `--config.name=value` come there once that config is known, as only then its
  keys can become flags.
  """
  is_override = re.compile(r'--?(no)?config\.').match
  values = flags.FLAGS
  try:
    if rest := values([x for x in argv if not is_override(x)])[1:]:
      raise UserError(f'{rest[0]!r} is no flag; write --name=value')
    for name, modes in _MODES.items():
      if values[name].present and values.mode not in modes:
        raise UserError(
          f'--{name} has no use in --mode={values.mode}, only in'
          f' {", ".join(modes)}'
        )
    path = config_flags.get_config_filename(values['config'])
    check_file(path.partition(':')[0])
    if values.mode in ('eval', 'predict') and not values['config'].present:
      path = run_config.file_of(values.weights or values.workdir, path)
    values([argv[0], f'--config={path}'])
    overrides[:] = filter(is_override, argv)
    check_overrides(values.config, overrides)
    return values([argv[0], f'--config={path}', *overrides])
  except (UserError, flags.Error, *_NO_CONFIG) as error:
    sys.exit(complain(error))


def complain(error: Exception) -> int:
  """Prints the error as one line; returns 1 if training failed, else 2."""
  print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
  return 1 if isinstance(error, FloatingPointError) else 2


def check_file(path: str):
  """Checks that a Python file, if there is one, has a `get_config`.

  Where it has none, that of the file read before it would be called.

  Raises:
    UserError: it has none.
  """
  if not (file := pathlib.Path(path)).exists():
    return
  nodes = ast.walk(ast.parse(file.read_bytes()))
  names = ((getattr(n, 'name', ''), getattr(n, 'asname', '')) for n in nodes)
  if not any('get_config' in pair for pair in names):
    raise UserError(f'{path} is no config: it defines no get_config(arg)')


def check_overrides(config: ConfigDict, overrides: list[str]):
  """Checks that a config has what arguments `--config.name=value` change.

  Raises:
    UserError: it has not; the text names the nearest that it has.
  """
  known = _names(config)
  for override in overrides:
    name = override.partition('=')[0].partition('.')[2]
    if name not in known:
      near = difflib.get_close_matches(name, known, 1, 0)
      raise UserError(f'unknown config key {name!r}; did you mean {near[0]!r}?')


def _names(config: ConfigDict, prefix: str = '') -> list[str]:
  """All keys by dotted name, those of sections before what they hold."""
  names = []
  for key, value in config.items():
    names.append(prefix + key)
    if isinstance(value, ConfigDict):
      names += _names(value, f'{prefix}{key}.')
  return names
