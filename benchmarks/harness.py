"""The shared part of all benchmarks: check, time in turns, print, and write.

A benchmark is a module with

  FLAGS       flag -> (default, smallest value or choices, help); needs 'rounds'
  PEERS       optional packages, such as 'torch'
  UNIT        what its rates count, such as 'graphs'
  make_cases  parsed flags -> an iterator of `Case`

For each case, the harness first checks that every contender with `values` has
the same values as ours. Then all contenders take turns in one process, so that
other load on the machine affects all of them.
"""

import argparse
import importlib
import pathlib
import statistics
import time
import types
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.console
import rich.table
from absl import logging

from core import step
from core.aot import compile, hlo
from core.errors import one_line
from core.report import measurements

_OUTPUT_FLAGS = '--results or --output'
TOLERANCE = 1e-4  # of the largest value: float32 sums depend on their order
# Metrics that the printed table omits, because it is 80 columns wide.
_NOT_PRINTED = 'speedup_at_peak', 'percent_of_bandwidth', 'flop_per_byte'


class Contender(NamedTuple):
  """One way to compute a case.

  Attributes:
    call: makes all updates of a turn, and waits for them.
    values: arrays that must equal those of 'ours'; () if it computes another
      function.
    gflop: billions of operations in the matrix products of an update; 0 if they
      are not counted, see `compile_and_count`.
    gbyte: billions of bytes that the operations of an update read and write; 0
      if they are not counted.
  """

  call: Callable[[], Any]
  values: Sequence[Any] = ()
  gflop: float = 0.0
  gbyte: float = 0.0


class Case(NamedTuple):
  """Contenders that take turns; one of them is 'ours'.

  Attributes:
    name: name of the case.
    contenders: contenders by name.
    num_items: number of items, such as graphs, in an update.
    num_updates: number of updates in a turn.
    limits: computations that show the peak speed and the memory bandwidth of
      the machine, see `machine.limits`.
  """

  name: str
  contenders: Mapping[str, Contender]
  num_items: int
  num_updates: int = 1
  limits: Mapping[str, Contender] = types.MappingProxyType({})


def run(name: str, benchmark: Any, arguments: Sequence[str]):
  """Measure a benchmark, print a table per case, and write a file if asked to.

  Args:
    name: name of the benchmark.
    benchmark: its module.
    arguments: the flags of the command.

  Raises:
    ArithmeticError: the values of a contender differ from ours.
    UserError: the flags contradict each other, or a file cannot be written.
  """
  logging.set_verbosity(logging.WARNING)
  args = vars(make_parser(name, benchmark).parse_args(arguments))
  output, folder = args.pop('output'), args.pop('results')
  paths = [pathlib.Path(output)] if output else []
  if folder:
    paths.append(pathlib.Path(folder, 'benchmarks', f'{name}.json'))
  measurements.make_folders(paths, _OUTPUT_FLAGS)
  rows = {}
  for case in benchmark.make_cases(argparse.Namespace(**args)):
    measured = measure(case, args['rounds'], benchmark.UNIT)
    print_rows(case.name, measured)
    rows |= {f'{case.name}, {each}': row for each, row in measured.items()}
  flags = {k: v for k, v in args.items() if v != benchmark.FLAGS[k][0]}
  record = {'name': name, **provenance(name, benchmark.PEERS, flags)}
  record |= {'flags': args, 'rows': rows}
  for path in paths:
    measurements.write(path, record, _OUTPUT_FLAGS)


def make_parser(name: str, benchmark: Any) -> argparse.ArgumentParser:
  """Return the parser of the flags of a benchmark."""
  parser = argparse.ArgumentParser(
    prog=f'python -m benchmarks {name}',
    description=benchmark.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  for flag, (default, allowed, text) in benchmark.FLAGS.items():
    if default is not None:
      text = f'{text} Default: {default}.'
    is_number = isinstance(allowed, int)
    kind = {'type': _at_least(allowed)} if is_number else {'choices': allowed}
    parser.add_argument(f'--{flag}', default=default, help=text, **kind)
  parser.add_argument(
    '--results',
    metavar='FOLDER',
    help=f'Folder of result files; writes FOLDER/benchmarks/{name}.json.',
  )
  parser.add_argument(
    '--output', metavar='FILE', help='File to write the same results to.'
  )
  return parser


def _at_least(least: int) -> Callable[[str], int]:
  def integer(text: str) -> int:
    if int(text) < least:
      raise argparse.ArgumentTypeError(f'{text} is less than {least}')
    return int(text)

  return integer


def measure(case: Case, rounds: int, unit: str) -> dict[str, dict]:
  """Check and time the contenders of a case.

  Args:
    case: the case.
    rounds: number of timed turns of each contender, after a turn to warm up.
    unit: what `case.num_items` counts.

  Returns:
    Contender -> its 'metrics', each with the median 'value' and the 'low' and
    'high' of the rounds, and the 'seconds' of every turn.

  Raises:
    ArithmeticError: the values of a contender differ from ours.
  """
  ours = case.contenders['ours'].values
  for name, contender in case.contenders.items():
    if contender.values:
      check_equal(f'{case.name}, {name}', contender.values, ours)
  turns = {**case.contenders, **case.limits}
  seconds = {name: [] for name in turns}
  for number in range(1 + rounds):
    for name, contender in turns.items():
      start = time.perf_counter()
      contender.call()
      if number:
        seconds[name].append(time.perf_counter() - start)
  return {
    name: {
      'metrics': {
        key: _spread(values)
        for key, values in _metrics(case, seconds, name, unit).items()
      },
      'seconds': [float(f'{x:.4g}') for x in seconds[name]],
    }
    for name in case.contenders
  }


def _metrics(
  case: Case, seconds: Mapping[str, list[float]], name: str, unit: str
) -> dict[str, Sequence[float]]:
  """Return the metrics of a contender, with a value for each turn."""
  updates = np.divide(seconds[name], case.num_updates)
  metrics = {
    f'{unit}_per_second': case.num_items / updates,
    'ms': 1e3 * updates,
    'speedup_of_ours': np.divide(seconds[name], seconds['ours']),
  }
  contender, least = case.contenders[name], case.contenders['ours'].gflop
  if peak := _limit(case, seconds, 'gflop'):
    speeds = contender.gflop / updates if contender.gflop else np.array([])
    metrics['gflop_per_second'] = speeds
    metrics['percent_of_peak'] = 100 * speeds / peak
    ratios = updates * peak / least if least else np.array([])
    metrics['speedup_at_peak'] = ratios
  bandwidth = _limit(case, seconds, 'gbyte')
  if bandwidth and contender.gbyte:
    metrics['percent_of_bandwidth'] = (
      100 * contender.gbyte / updates / bandwidth
    )
    metrics['flop_per_byte'] = np.array([contender.gflop / contender.gbyte])
  return {key: values.tolist() for key, values in metrics.items()}


def _limit(
  case: Case, seconds: Mapping[str, list[float]], quantity: str
) -> float:
  """Return the highest rate of the limits, 0 if there are none.

  `quantity` is what the rate counts: 'gflop' or 'gbyte'.
  """
  rates = (
    getattr(limit, quantity) / statistics.median(seconds[name])
    for name, limit in case.limits.items()
  )
  return max(rates, default=0.0)


def _spread(values: Sequence[float]) -> dict[str, float | None]:
  if not values:
    return {'value': None}
  ends = statistics.median(values), min(values), max(values)
  rounded = (float(f'{x:.3g}') for x in ends)
  return dict(zip(('value', 'low', 'high'), rounded, strict=True))


def check_equal(name: str, values: Sequence[Any], ours: Sequence[Any]):
  """Raise ArithmeticError if arrays differ from ours in shape or in values."""
  for other, mine in zip(values, ours, strict=True):
    other, mine = np.asarray(other), np.asarray(mine)
    if other.shape != mine.shape:
      raise ArithmeticError(f'{name}: shape {other.shape}, not {mine.shape}')
    difference = np.abs(other - mine).max() / np.abs(mine).max()
    if not difference < TOLERANCE:
      raise ArithmeticError(
        f'{name}: values differ from ours by {difference:.1e} of the largest'
        f' one, more than {TOLERANCE:.0e}'
      )


def print_rows(title: str, rows: Mapping[str, Mapping]):
  """Print medians, and the lowest and highest time."""
  options = {'box': None, 'collapse_padding': True, 'pad_edge': False}
  table = rich.table.Table('', title=title, **options)  # fits 80 columns
  metrics = list(next(iter(rows.values()))['metrics'])
  metrics = [name for name in metrics if name not in _NOT_PRINTED]
  for metric in (*metrics, 'low ms', 'high ms'):
    text = metric.replace('_per_second', '/s').replace('percent', '%')
    table.add_column(text.replace('_', ' '), justify='right')
  for name, row in rows.items():
    numbers = [row['metrics'][metric]['value'] for metric in metrics]
    numbers += [row['metrics']['ms'][end] for end in ('low', 'high')]
    table.add_row(name, *map(_format, numbers))
  rich.console.Console().print(table)


def _format(number: float | None) -> str:
  if number is None:
    return '–'
  return f'{number:,.0f}' if number > 99 else f'{number}'


def provenance(
  name: str, peers: Sequence[str], flags: Mapping[str, Any]
) -> dict[str, Any]:
  """Return the command, device, versions, revision, and date of a benchmark.

  A peer that is not installed has no version, and is not in the command.
  """
  versions, installed = {}, []
  for peer in peers:
    versions[peer] = _version(peer)
    if versions[peer]:
      installed += ['--with', f'{peer}=={versions[peer].partition("+")[0]}']
  given = [f'--{flag}={value}' for flag, value in flags.items()]
  table = measurements.provenance(
    [*installed, 'python', '-m', 'benchmarks', name, *given]
  )
  table['versions'] |= versions
  return table


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def peer(label: str, module: str) -> types.ModuleType | None:
  """Import a module that needs an optional package.

  Returns:
    The module. None, with a printed reason, if the package is missing or JAX
    does not use the CPU: the peers run on the CPU only.
  """
  backend = jax.default_backend()
  if backend != 'cpu':
    print(
      f'skipping {label}: it runs on the CPU, and JAX uses a {backend.upper()};'
      ' set JAX_PLATFORMS=cpu to compare both on the CPU'
    )
    return None
  try:
    return importlib.import_module(module)
  except ImportError as error:
    print(f'skipping {label}: {one_line(error)}')
    return None


def perturb(params):
  """Add noise to parameters: initial biases are 0, which would hide errors."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return structure.unflatten(
    leaf + 0.02 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  )


def compile_and_count(call: Callable, *args) -> tuple[Callable, float, float]:
  """Compile a jitted function for its arguments, and count its costs.

  The operations are those of the matrix products in the traced program, before
  XLA optimizes it. The bytes are those that the instructions of the compiled
  program read and write on all devices, whether or not they are in a cache.
  Every iteration of a loop counts.

  Returns:
    The compiled function, and its operations and bytes, both in billions.
  """
  traced = call.trace(*args)
  compiled = traced.lower().compile()
  traffic = hlo.count_costs(compiled.as_text()).memory_traffic
  gflop = compile.matmul_flops(traced.jaxpr.jaxpr) / 1e9
  return compiled, gflop, traffic * jax.device_count() / 1e9


def make_updates(
  program: step.Program,
  arrays: Any,
  values: Sequence[Any] = (),
  *,
  num_updates: int = 1,
) -> Contender:
  """Build a contender that makes `num_updates` updates per call."""
  state = program.init()
  update, *costs = compile_and_count(program.update, state, arrays)

  def call():
    nonlocal state
    state, *_ = jax.block_until_ready(update(state, arrays))

  return Contender(call, values, *(cost / num_updates for cost in costs))
