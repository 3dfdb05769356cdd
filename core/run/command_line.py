"""Parse the arguments of programs, and print their errors as one line."""

import ast
import os
import pathlib
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from core.errors import UserError, nearest, one_line, suggest_path
from core.io import data_files
from core.run import console, distributed, run_config

# The modes that use each flag; other modes would ignore it.
_MODES = {
  'weights': ('eval', 'predict'),
  'input': ('predict',),
  'topology': ('compile',),
  'index': ('sweep',),
  'results': ('sweep', 'report', 'compile'),
  'workdir': ('train', 'eval', 'predict', 'sweep', 'report'),
}
# Type of a flag -> the value that it expects.
_EXPECTED = {
  'int': 'a whole number',
  'float': 'a number',
  'bool': 'True or False',
  'multi tuple': 'values in parentheses',
}
_PATHS = 'workdir', 'weights', 'input', 'results'
_HELP = '--help', '-help', '-h', '--helpshort', '--helpfull'
_USAGE = """\
usage: main.py [--mode=MODE] [--config=FILE[:ARGUMENTS]] [--config.KEY=VALUE]...
               [--workdir=FOLDER] [--weights=FOLDER] [--input=FILE] [FLAG]...

  main.py                                      train the default config (1 min)
  main.py --config=configs/rrn/sudoku.py:cpu   train an experiment
  main.py --mode=eval --workdir=runs/...       evaluate a run
  main.py --mode=config --config=...           show the settings of a config
  main.py --mode=predict --weights=pretrained/rrn_sudoku --input=puzzles.txt

Modes (docs/commands.md has an example of each, and describes the run folder):
  train     train a config, or resume its run; the default
  eval      measure a run or weights with all evaluators
  predict   answer the lines of a file or of standard input
  sweep     train and evaluate each run of a table
  report    write the tables and figures of a run or a sweep
  compile   compile for TPUs that are not present
  config    print the settings, and how they differ from the paper's
"""


def run(main: Callable[[list[str]], int], argv: list[str]) -> int:
  """Run `main`, print user errors as one line, and return the exit status.

  The status is 0 for success, 2 for a user error, and 1 for anything
  else, such as a failed standard stream or Ctrl-C.
  """
  if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # see main.py
    signal.signal(signal.SIGINT, signal.default_int_handler)
  with console.checked_streams() as errors:
    try:
      with distributed.exit_on_failure():
        status = main(argv)
        sys.stdout.flush()
    except console.OutputClosed:  # `| head` has read enough
      status = 0
    except (UserError, FloatingPointError, console.StreamError) as error:
      status = distributed.exit_process(print_error(error))
    except KeyboardInterrupt:
      _exit_interrupted()
    errors.flush()
    return 1 if errors.is_lost and not status else status


def run_program(function: Callable[[], None]):
  """Run a program whose arguments are absl flags, and exit; see `run`."""

  def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)
    if argv[1:]:
      raise UserError(f'{argv[1]!r} is not a flag; write --name=value')
    function()
    return 0

  app.run(lambda argv: run(main, argv))


def _exit_interrupted():
  """End the program at once; an exit that waits for compilation may crash."""
  flag_values = flags.FLAGS
  is_training = 'mode' in flag_values and flag_values['mode'].value in (
    'train',
    'sweep',
  )
  text = 'error: interrupted'
  if is_training:
    text += '; the same command resumes from the last checkpoint, if any'
  print(text, file=sys.stderr, flush=True)
  os._exit(1)


def announce_end(folder: str):
  """Print where a finished run is, and how to evaluate it, on process 0."""
  if jax.process_index() == 0:
    print(
      f'{folder} has the weights, report.md, and plots;'
      f' --mode=eval --workdir={shlex.quote(folder)} runs all evaluations',
      file=sys.stderr,
    )


def parse(argv: list[str], overrides: list[str]) -> list[str]:
  """Parse the flags of `main.py`; exit with status 2 on a user error.

  Args:
    argv: the name of the program and its arguments.
    overrides: the `sys_argv` of the definition of --config. This function adds
      the arguments `--config.name=value` when the config is known, because
      its keys become flags only then.
  """
  is_override = re.compile(r'--?(no)?config\.').match
  flag_values = flags.FLAGS
  try:
    argv = run_config.join_config_flag(argv)
    others = [_with_path(x) for x in argv if not is_override(x)]
    is_help = not set(_HELP).isdisjoint(others)
    if rest := flag_values([x for x in others if x not in _HELP])[1:]:
      raise UserError(f'{rest[0]!r} is not a flag; write {_as_flag(rest[0])}')
    path = _choose_config(flag_values)
    flag_values([argv[0], f'--config={path}'])
    if not isinstance(flag_values.config, ConfigDict):
      raise UserError(f'{path}: get_config() does not return a ConfigDict')
    if is_help:
      sys.exit(run(_show_help, argv))
    given = [x for x in argv if is_override(x)]
    check_overrides(flag_values.config, given)
    overrides[:] = [_convert(x, flag_values.config) for x in given]
    rest = flag_values([argv[0], f'--config={path}', *overrides])
    _expand_leaves(flag_values.config)
    return rest
  except flags.IllegalFlagValueError as error:
    sys.exit(print_error(_explain(error, flag_values)))
  except (UserError, flags.Error) as error:
    sys.exit(print_error(error))
  except Exception as error:  # the code of a config can raise any error
    sys.exit(print_error(_in_config(error)))


def _as_flag(word: str) -> str:
  """Return the flag that a user most likely meant by a word."""
  modes = flags.FLAGS['mode'].parser.enum_values  # pyrefly: ignore
  return f'--mode={word}' if word in modes else '--name=value'


def _with_path(argument: str) -> str:
  """Resolve the path of an argument --config=PATH."""
  name, has_value, path = argument.partition('=')
  if name.lstrip('-') != 'config' or not has_value:
    return argument
  return f'{name}={find_config(path)}'


def find_config(text: str) -> str:
  """Return the file of `FILE[:ARGUMENTS]`, with its arguments.

  A relative path is looked up in the working directory, then in the repository.

  Raises:
    UserError: there is no such file, or it defines no `get_config`.
  """
  path, colon, argument = text.partition(':')
  path = data_files.expand(path)
  if not os.path.exists(path):
    if not (run_config.ROOT / path).is_file():
      known = [
        str(pathlib.Path(x).relative_to(run_config.ROOT))
        for x in _config_files()
      ]
      raise UserError(
        f'--config={path}: no such file; {suggest_path(path, known)}'
      )
    path = str(run_config.ROOT / path)
  check_file(path)
  return f'{path}{colon}{argument}'


def _config_files() -> list[str]:
  return list(run_config.tasks().values())


def _choose_config(flag_values: flags.FlagValues) -> str:
  """Check the flags, expand their paths, and return the config to load."""
  for name, modes in _MODES.items():
    if flag_values[name].present and flag_values.mode not in modes:
      raise UserError(
        f'--{name} does not apply to --mode={flag_values.mode}, only to'
        f' {", ".join(modes)}'
      )
  for name in _PATHS:
    if flag_values[name].value:
      flag_values[name].value = data_files.expand(str(flag_values[name].value))
  if weights := flag_values['weights'].value:
    flag_values['weights'].value = run_config.find_folder(weights)
  path = config_flags.get_config_filename(flag_values['config'])
  check_file(path.partition(':')[0])
  if (
    flag_values.mode in ('eval', 'predict')
    and not flag_values['config'].present
  ):
    path = run_config.config_file_of(
      flag_values.weights or flag_values.workdir, path
    )
  return path


def _convert(override: str, config: ConfigDict) -> str:
  """Convert an override to the syntax of ml_collections.

  Convert a whole number such as 1e3 to 1000 if the setting is an int. Expand
  `~` and environment variables in strings.
  """
  name, has_value, text = override.partition('=')
  old = _entries(config).get(name.partition('.')[2])
  if type(old) is int:
    if re.fullmatch(r'[-+]?[\d_]+', text) is None:
      try:
        number = float(text)
      except ValueError:
        return override
      if number.is_integer():
        return f'{name}={int(number)}'
  elif isinstance(old, str) and data_files.is_expandable(text):
    return f'{name}={data_files.expand(text)}'
  return f'{name}{has_value}{text}'


def _expand_leaves(config: ConfigDict):
  """Expand `~` and variables in the strings of a config, such as its paths."""
  for name, value in _entries(config).items():
    if isinstance(value, str) and data_files.is_expandable(value):
      config.update_from_flattened_dict({name: data_files.expand(value)})


def _explain(
  error: flags.IllegalFlagValueError, flag_values: flags.FlagValues
) -> flags.Error:
  """Return the error for an invalid flag value; say what the flag expects.

  absl reports '--seed=x: invalid literal for int() with base 10'.
  """
  reason = str(error.__context__)
  given = str(error).removeprefix('flag ').removesuffix(f': {reason}')
  name = given.partition('=')[0].removeprefix('--')
  if name not in flag_values:
    return error
  if 'as a ConfigDict' in reason:
    expected = f'one key of this section, for example --{name}.KEY=VALUE'
  elif expected := _EXPECTED.get(flag_values[name].flag_type()):
    default = flag_values[name].default
    if isinstance(default, list):
      default = tuple(default)
    if type(default) is not bool:
      expected += f', for example {1 if default is None else default}'
  else:
    return error
  return flags.IllegalFlagValueError(f'{given}: expected {expected}')


def _in_config(error: Exception) -> UserError:
  """Return a UserError that names the line of the config that failed."""
  frames = traceback.extract_tb(error.__traceback__)
  core_folder = run_config.ROOT / 'core'
  in_config = [
    frame
    for frame in frames
    if core_folder not in pathlib.Path(frame.filename).parents
    and 'site-packages' not in frame.filename
  ]
  place = ''
  # The text of a SyntaxError names the line.
  if in_config and not isinstance(error, SyntaxError):
    place = f'{in_config[-1].filename}, line {in_config[-1].lineno}: '
  return UserError(
    f'the config cannot be loaded: {place}{type(error).__name__}:'
    f' {one_line(error)}'
  )


def print_error(error: Exception) -> int:
  """Print an error as one line; return 2 for a user error, else 1."""
  print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
  return 2 if isinstance(error, UserError | flags.Error) else 1


def _show_help(argv: list[str]) -> int:
  del argv
  print(describe(flags.FLAGS))
  return 0


def describe(flag_values: flags.FlagValues) -> str:
  """Return the text of --help: all flags, configs, and keys of the config."""
  module = flag_values.find_module_defining_flag('mode')
  lines = [_USAGE, 'Flags:', flag_values.module_help(module), '', 'Configs:']
  for path in _config_files():
    code = pathlib.Path(path).read_text(encoding='utf-8')
    title = (ast.get_docstring(ast.parse(code)) or '').partition('\n')[0]
    lines.append(
      f'  {pathlib.Path(path).relative_to(run_config.ROOT)}: {title}'
    )
  path = config_flags.get_config_filename(flag_values['config'])
  lines += ['', f'Keys of {path}, with their values:']
  for name, value in _entries(flag_values.config).items():
    if not isinstance(value, ConfigDict):
      lines.append(f'  --config.{name}={value!r}')
  return '\n'.join(lines)


def check_file(path: str):
  """Check that a Python file, if it exists, defines `get_config`.

  Without this check, ml_collections would call the `get_config` of the file
  that it loaded before.

  Raises:
    UserError: the file does not define it.
  """
  if not (file := pathlib.Path(path)).exists():
    return
  if file.is_dir():
    raise UserError(
      f'{path} is a folder, not a config; use --weights for weights, or'
      ' --workdir for a run'
    )
  try:
    nodes = ast.walk(ast.parse(file.read_bytes(), filename=path))
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(f'{path} is not a config: {one_line(error)}') from error
  is_defined = any(
    'get_config' in (getattr(node, 'name', ''), getattr(node, 'asname', ''))
    or isinstance(node, ast.Name)
    and node.id == 'get_config'
    and isinstance(node.ctx, ast.Store)
    for node in nodes
  )
  if not is_defined:
    raise UserError(f'{path} is not a config: it defines no get_config(arg)')


def check_overrides(config: ConfigDict, overrides: list[str]):
  """Check that a config has the keys of the arguments `--config.name=value`.

  Raises:
    UserError: a key is unknown; the message suggests the nearest key.
  """
  known = _entries(config)
  for override in overrides:
    name = override.partition('=')[0].partition('.')[2]
    if name not in known:
      raise UserError(
        f'unknown config key {name!r}; did you mean {nearest(name, known)!r}?'
      )


def _entries(config: ConfigDict, prefix: str = '') -> dict[str, object]:
  """Return all values by dotted name; a section precedes its keys."""
  entries = {}
  for key, value in config.items():
    entries[prefix + key] = value
    if isinstance(value, ConfigDict):
      entries |= _entries(value, f'{prefix}{key}.')
  return entries
