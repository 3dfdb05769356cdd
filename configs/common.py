"""The defaults of every config, and a parser for the text after `file.py:`."""

from collections.abc import Callable, Collection, Iterable, Mapping

import ml_collections

from core.errors import UserError, nearest
from core.io import data_files

SIZES = ('paper', 'cpu', 'smoke')


def parse_arg(arg: str | None, **defaults) -> ml_collections.ConfigDict:
  """Parse arguments such as `cpu,steps=64` into typed values.

  Args:
    arg: comma-separated names and `name=value` pairs. A name without a value is
      one of `SIZES`, or a switch that is set to True.
    **defaults: the arguments that the config knows. A value has the type of its
      default.

  Returns:
    The arguments, and `size`, one of `SIZES`.

  Raises:
    UserError: a name is unknown, or a value has the wrong type.
  """
  values = {'size': 'paper'} | defaults
  for item in filter(None, (arg or '').split(',')):
    name, has_value, text = item.partition('=')
    if name in SIZES and not has_value:
      values['size'] = name
      continue
    # A size has no value, so 'cpu=1' is unknown as a whole.
    unknown = item if name in SIZES else name
    check_known('config argument', unknown, [*SIZES, *defaults])
    values[name] = _convert(name, text if has_value else 'True', defaults[name])
  return ml_collections.ConfigDict(values)


def stages(
  get_config: Callable[[str], ml_collections.ConfigDict],
  arg: str | None,
  count: int,
) -> dict[str, ml_collections.ConfigDict]:
  """Return the configs of `stage=1` to `stage=count`, by name.

  Args:
    get_config: builds a config from its arguments.
    arg: arguments of all stages.
    count: number of stages.
  """
  return {
    f'stage_{number}': get_config(f'{arg or ""},stage={number}')
    for number in range(1, count + 1)
  }


def check_stage(args: ml_collections.ConfigDict, count: int):
  """Raise UserError if training with these arguments has no such stage.

  Args:
    args: parsed arguments; `stage` counts from 1, and 0 stands for all stages.
    count: number of stages; 0 if training has no stages.
  """
  if args.stage and not count:
    raise UserError(
      f'config argument stage={args.stage}: training has no stages with these'
      ' arguments; leave it out'
    )
  if not 0 <= args.stage <= count:
    raise UserError(
      f'config argument stage={args.stage}: expected 1 to {count}; without it,'
      ' training runs all stages'
    )


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
  return data_files.locate(names) is not None


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
    f'config argument {name}={text}: expected {kind.__name__}, for example'
    f' {name}={default}'
  )


def _whole(text: str) -> int | None:
  """Return the whole number in a text such as '1e3', or None.

  In this form, a number above a million is probably a mistake, and gives None.
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
  config.batch_size = 0  # examples per update, over all devices
  config.microbatch_size = 0  # examples per device at once; 0: all of them
  config.steps_per_call = 1  # updates in one jitted call
  config.dtype = 'float32'  # of matrix products; or 'bfloat16', see docs/gpu.md
  config.init_weights = ''  # folder with weights to start from
  config.init_missing_regex = ''  # parameters that these weights may lack
  config.model = ml_collections.ConfigDict()
  config.data = ml_collections.ConfigDict()
  config.evals = ml_collections.ConfigDict()
  config.optim = ml_collections.ConfigDict(
    {
      'name': 'adam',  # 'sgd', 'adam', 'adamw', or 'muon'
      'learning_rate': 1e-3,
      # 'constant', 'cosine' (to 0 at total_steps), or 'staircase': from update
      # `decay_begin` on, multiplied by `decay_rate` every `decay_every` updates
      'schedule': 'constant',
      'decay_begin': 0,
      'decay_every': 1,
      'decay_rate': 1.0,
      'warmup_steps': 0,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-8,
      # decoupled; applies to all matrices (adamw), or to those of Muon (muon)
      'weight_decay': 0.0,
      'muon_beta': 0.95,  # decay of Muon's momentum
      'muon_paths': '.*kernel',  # regex: matrices of Muon; Adam has the rest
      'l2': 0.0,  # adds l2 / 2 * sum of squares to the loss ...
      'l2_paths': '.*kernel',  # ... over the parameters that match this regex
      'clip_norm': 0.0,  # largest norm of the whole gradient; 0: no clipping
      'ema_decay': 0.0,  # of the moving average of the parameters; 0: none
    }
  )
  # Devices per axis. One axis may be -1 and gets all remaining devices.
  config.mesh = ml_collections.ConfigDict({'data': -1, 'fsdp': 1, 'tensor': 1})
  config.log = ml_collections.ConfigDict(
    {
      'every': 100,  # updates; 0: only at the end
      'profile': 0,  # number of the call to trace, from 1; 0: none
    }
  )
  config.checkpoint = ml_collections.ConfigDict(
    {
      'every': 1000,  # updates; 0: only at the end
      'keep_last': 2,
      'keep_every': 0,  # also keep multiples of this step; 0: none
    }
  )
  # Metrics that a report shows -> the paper's values as text; '' or '%' for
  # none. A report shows a metric in percent if its text contains '%'.
  config.report = ml_collections.ConfigDict()
  return config


def without_paper(report: Mapping[str, str]) -> dict[str, str]:
  """Return `config.report` without the paper's values, but with units."""
  return {name: '%' if '%' in text else '' for name, text in report.items()}


def check_not_varied(
  arg: str | None, varied: Iterable[str], *, instead: str = '--mode=train'
):
  """Check that the arguments of a sweep do not set what its table sets.

  Args:
    arg: the arguments of the sweep.
    varied: names of the arguments that the table sets.
    instead: what to use if they should be set, for the error.

  Raises:
    UserError: one of them is set.
  """
  given = {item.partition('=')[0] for item in (arg or '').split(',')}
  if conflicts := given.intersection(varied):
    raise UserError(
      f'the table sets {min(conflicts)}; leave the argument out, or use'
      f' {instead}'
    )


def muon(
  config: ml_collections.ConfigDict, *, paths: str, learning_rate: float
):
  """Set Muon instead of the paper's Adam, with settings tuned on Sudoku.

  Args:
    config: the config to change.
    paths: regex of the matrices that Muon updates; Adam updates the rest.
    learning_rate: peak learning rate of both.
  """
  config.optim.name = 'muon'
  config.optim.muon_paths = paths
  config.optim.schedule = 'cosine'
  config.optim.learning_rate = learning_rate
  config.optim.b2 = 0.99
  config.optim.weight_decay = 0.1
  config.optim.clip_norm = 1.0
