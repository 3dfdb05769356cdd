"""From the arguments of `main.py` to its flags, and mistakes in one line."""

import re
import sys

from absl import flags
from ml_collections import config_flags

from configs import common
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
    common.check_file(path.partition(':')[0])
    if values.mode in ('eval', 'predict') and not values['config'].present:
      path = run_config.file_of(values.weights or values.workdir, path)
    values([argv[0], f'--config={path}'])
    overrides[:] = filter(is_override, argv)
    common.check_overrides(values.config, overrides)
    return values([argv[0], f'--config={path}', *overrides])
  except (UserError, flags.Error, *common.NO_CONFIG) as error:
    sys.exit(complain(error))


def complain(error: Exception) -> int:
  """Prints the error as one line; returns 1 if training failed, else 2."""
  print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
  return 1 if isinstance(error, FloatingPointError) else 2
