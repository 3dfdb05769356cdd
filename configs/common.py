"""Defaults of every config, and the parser of the arguments of `file.py:`."""

from collections.abc import Collection

import ml_collections

from core import files
from core.errors import UserError, nearest

SIZES = ('paper', 'cpu', 'smoke')


def parse_arg(arg: str | None, **defaults) -> ml_collections.ConfigDict:
  """Parse `cpu,steps=64` into typed values.

  Args:
    arg: comma-separated names and `name=value` pairs. A bare name is one of the
      sizes 'cpu' and 'smoke', or a switch set to True.
    **defaults: the arguments that the config knows; the type of the default is
      the type of the value.

  Returns:
    The arguments, with `size` in ('paper', 'cpu', 'smoke').

  Raises:
    UserError: an unknown name, or a value of the wrong type.
  """
  values = {'size': 'paper'} | defaults
  for item in filter(None, (arg or '').split(',')):
    name, has_value, text = item.partition('=')
    if name in SIZES and not has_value:
      values['size'] = name
      continue
    known = [*SIZES, *defaults]
    check_known('config argument', item if name in SIZES else name, known)
    values[name] = _convert(name, text if has_value else 'True', defaults[name])
  return ml_collections.ConfigDict(values)


def check_known(what: str, name: str, known: Collection[str]):
  """Raise UserError, with the nearest known name, if `name` is not known."""
  if name in known:
    return
  raise UserError(
    f'unknown {what} {name!r}; did you mean {nearest(name, known)!r}? (known:'
    f' {", ".join(known)})'
  )


def has_file(*names: str) -> bool:
  """Return whether the user's data folder has one of these files."""
  return files.locate(names) is not None


def _convert(name: str, text: str, default):
  kind = type(default)
  if kind is bool:
    if text.lower() in ('true', 'false'):
      return text.lower() == 'true'
  else:
    try:
      return kind(text)
    except ValueError:
      pass
    if kind is int and (number := _whole(text)) is not None:
      return number
  raise UserError(
    f'config argument {name}={text}: {kind.__name__} expected, for example'
    f' {name}={default}'
  )


def _whole(text: str) -> int | None:
  """Return the whole number of a text such as '1e3', if it is one.

  Arguments are sizes: a number above a million is a mistake.
  """
  try:
    number = float(text)
  except ValueError:
    return None
  return int(number) if number.is_integer() and abs(number) <= 1e6 else None


def default_config() -> ml_collections.ConfigDict:
  """Return the sections and leaves that all experiments share."""
  config = ml_collections.ConfigDict()
  config.task = ''  # package of the experiment, such as 'rrn.sudoku'
  config.seed = 0
  config.num_seeds = 1  # trained at once: seed, seed + 1, ...
  config.total_steps = 0  # updates
  config.batch_size = 0  # examples an update, over all devices
  config.microbatch = 0  # examples at once on a device; 0: all of them
  config.steps_per_call = 1  # updates in one jitted call
  config.dtype = 'float32'  # or 'bfloat16': products of rrn and hinting
  config.init_weights = ''  # folder with weights to start from
  config.init_new = ''  # paths of parameters that these may lack, a regex
  config.model = ml_collections.ConfigDict()
  config.data = ml_collections.ConfigDict()
  config.evals = ml_collections.ConfigDict()
  config.optim = ml_collections.ConfigDict(
    {
      'name': 'adam',  # 'sgd', 'adam', 'adamw' or 'muon'
      'learning_rate': 1e-3,
      # 'constant', 'cosine' (to 0 at total_steps), or 'staircase': after
      # `decay_begin` updates it is multiplied by `decay_rate` every so often
      'schedule': 'constant',
      'decay_begin': 0,
      'decay_every': 1,
      'decay_rate': 1.0,
      'warmup_steps': 0,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-8,
      'weight_decay': 0.0,  # decoupled; on matrices (of Muon) only
      'muon_beta': 0.95,  # of its momentum
      'muon_paths': '.*kernel',  # matrices that Muon updates; AdamW the rest
      'l2': 0.0,  # of l2 / 2 * sum of squares in the loss ...
      'l2_paths': '.*kernel',  # ... over the parameters whose paths match
      'clip_norm': 0.0,  # of the global gradient norm; 0: none
      'ema_decay': 0.0,  # of the weights that are evaluated; 0: none
    }
  )
  # Devices an axis; one axis may be -1: all devices that the others leave.
  config.mesh = ml_collections.ConfigDict({'data': -1, 'fsdp': 1, 'tensor': 1})
  config.log = ml_collections.ConfigDict(
    {
      'every': 100,  # updates; 0: at the end
      'profile': 0,  # the call that is traced, counted from 1; 0: none
    }
  )
  config.checkpoint = ml_collections.ConfigDict(
    {
      'every': 1000,  # updates; 0: at the end
      'keep_last': 2,
      'keep_every': 0,  # also keep each m-th step; 0: none
    }
  )
  # What a report shows: metric of --mode=eval -> the paper's value as text.
  config.report = ml_collections.ConfigDict()
  return config


def muon(
  config: ml_collections.ConfigDict, *, paths: str, learning_rate: float
):
  """Train with Muon instead of the paper's Adam; the settings suit Sudoku.

  `paths` match the matrices that Muon updates; AdamW updates the rest.
  """
  config.optim.name = 'muon'
  config.optim.muon_paths = paths
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = learning_rate
  config.optim.b2 = 0.99
  config.optim.weight_decay = 0.1
  config.optim.clip_norm = 1.0
