"""Compile a config for TPUs that are not attached; report memory and costs.

libtpu compiles for a named topology on any computer. The training call and all
evaluation calls are lowered from shapes, and nothing is executed. The report
shows sharding mistakes, memory, and collectives before anyone pays for a slice.
"""

import dataclasses
import importlib.util
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax import extend
from jax.experimental import topologies
from ml_collections import ConfigDict

from core import errors, evaluation, inference, sharding, step
from core.aot import hlo
from core.errors import UserError, one_line
from core.report import markdown

_2D = '1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'
_3D = '2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8'


@dataclasses.dataclass(frozen=True)
class Chip:
  """A kind of TPU.

  Attributes:
    sizes: sizes of its slices.
    memory: memory per chip, in bytes.
    peak: peak speed per chip, in bfloat16 FLOP/s.
    clock: cycles per second.
  """

  sizes: tuple[str, ...]
  memory: float
  peak: float
  clock: float


# Sizes, memory, and peak are from the vendor's public pages. The clock is the
# peak divided by the FLOPs per cycle that libtpu plans for a large matrix
# product (2**17, 2**18, and 2**19).
CHIPS = {
  'v5e': Chip(_2D, 16e9, 197e12, 1.5e9),
  'v5p': Chip(_3D, 95e9, 459e12, 1.75e9),
  'v6e': Chip(_2D, 32e9, 918e12, 1.75e9),
}
_NONE = '–'


@dataclasses.dataclass(frozen=True)
class _Call:
  """A jitted call, its argument shapes, and its updates and examples."""

  name: str
  title: str
  jitted: Any
  arguments: tuple
  updates: int  # 1 for an evaluation
  examples: int


def report(config: ConfigDict, names: Sequence[str]) -> str:
  """Compile for topologies such as 'v5e:4x4', and return a Markdown table.

  The first topology has the batch size of the config. The batch sizes of the
  others are proportional to their numbers of chips (weak scaling).

  Raises:
    UserError: a topology is unknown, libtpu is missing, the batch is not
      divisible, or a call does not fit in memory.
  """
  columns = []
  for name in names:
    errors.check_choice('--topology', name, _known())
  for name in names:
    devices = _devices(name)
    first = _num_chips(names[0])
    scaled = config.copy_and_resolve_references()
    scaled.batch_size, rest = divmod(config.batch_size * len(devices), first)
    if rest:
      raise UserError(
        f'config.batch_size={config.batch_size} for {first} chips does not'
        f' scale to a whole batch size for {len(devices)} chips; use a multiple'
        f' of {first}'
      )
    column = {
      ('', 'chips'): str(len(devices)),
      ('', 'batch'): f'{scaled.batch_size:,}',
    }
    chip = CHIPS[name.split(':')[0]]
    mesh = sharding.make_mesh(scaled.mesh, devices)
    for call in _calls(scaled, mesh):
      print(f'compiling {call.name} for {name}', file=sys.stderr)
      column[call.name, f'**{call.title}**'] = ''
      for quantity, value in _costs(call, chip, len(devices)).items():
        column[call.name, quantity] = value
    columns.append(column)
  return _table(names, columns)


def _known() -> list[str]:
  """Return the names of all topologies."""
  return [f'{kind}:{x}' for kind, chip in CHIPS.items() for x in chip.sizes]


def _num_chips(name: str) -> int:
  return math.prod(map(int, name.split(':')[1].split('x')))


def _devices(name: str) -> Sequence[jax.Device]:
  """Return the devices of a topology, for which JAX can compile but not run."""
  if importlib.util.find_spec('libtpu') is None:
    raise UserError(
      'libtpu, the compiler for TPUs, is not installed; run the command as `uv'
      ' run --extra tpu main.py --mode=compile`'
    )
  jax.config.update('jax_platforms', 'cpu')  # for code that is executed
  # JAX can write these programs to its cache, but cannot read them.
  jax.config.update('jax_enable_compilation_cache', False)
  for variable, value in {
    'TPU_SKIP_MDS_QUERY': '1',  # there is no metadata server to ask
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',  # only prevents a warning
    'TPU_WORKER_HOSTNAMES': 'localhost',  # likewise
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # without a chip, no lock is needed
  }.items():
    os.environ.setdefault(variable, value)
  # A host has 2 x 2 chips, unless there is only one.
  bounds = {'chips_per_host_bounds': (1, 1, 1)} if _num_chips(name) == 1 else {}
  return topologies.get_topology_desc(name, platform='tpu', **bounds).devices


def _calls(config: ConfigDict, mesh) -> Iterator[_Call]:
  task, num_seeds = inference.make_task(config), config.num_seeds
  program = step.make_program(task, config, mesh)
  arrays = _shapes(task.arrays('train'), sharding.replicated(mesh))
  yield _Call(
    'training',
    'training, one update',
    program.update,
    (program.abstract_state, arrays),
    config.steps_per_call,
    config.steps_per_call * config.batch_size * num_seeds,
  )
  for name, evaluator in task.evaluators().items():
    batches = _shapes(
      evaluation.split(evaluation.make_batches(evaluator, mesh, num_seeds))[0],
      sharding.batch_sharding(mesh, axis=1, num_seeds=num_seeds),
    )
    yield _Call(
      f'evaluation {name}',
      f'evaluation `{name}`, at most 64 batches',
      evaluation.make_call(evaluator, program.merge, mesh, num_seeds),
      (program.abstract_state.eval_params, batches),
      1,
      math.prod(batches['weight'].shape) * num_seeds,
    )


def _shapes(arrays, placed):
  return {
    name: jax.ShapeDtypeStruct(
      x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=placed
    )
    for name, x in arrays.items()
  }


def _costs(call: _Call, chip: Chip, num_chips: int) -> dict[str, str]:
  """Compile a call, and return its costs by name, as text."""
  traced = call.jitted.trace(*call.arguments)
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    largest = ', '.join(_largest(traced.jaxpr.jaxpr))
    raise UserError(
      f'{call.name} does not fit in memory: {one_line(error)} Its largest'
      f' tensors, over all {num_chips} chips: {largest}. Use more chips, or'
      ' lower config.batch_size, config.microbatch_size, or, for'
      ' evaluations, config.evals.batch_size'
    ) from error
  memory = compiled.memory_analysis()
  used = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )
  costs = hlo.costs(compiled.as_text())
  flops = matmul_flops(traced.jaxpr.jaxpr) / num_chips
  seconds = costs.cycles / chip.clock
  rows = {
    'memory per chip': f'{_si(used, "B")} of {_si(chip.memory, "B")}',
    'matrix products per chip': _si(flops / call.updates, 'FLOP'),
    'memory traffic per chip': _si(costs.memory_traffic / call.updates, 'B'),
  }
  for kind, (count, size) in sorted(costs.collectives.items()):
    size = _si(size / call.updates, 'B')
    rows[kind] = f'{count / call.updates:.3g} x, {size}'
  if seconds:
    rows['time'] = _si(seconds / call.updates, 's')
    rows['examples per second'] = f'{call.examples / seconds:,.0f}'
    rows['share of the peak'] = f'{100 * flops / seconds / chip.peak:.2g} %'
  return rows


def _equations(jaxpr, times: int = 1) -> Iterator[tuple[Any, int]]:
  """Yield all equations, including inner ones, and their executions.

  For code that depends on the platform, yield the branch for TPUs.
  """
  for equation in jaxpr.eqns:
    yield equation, times
    params = dict(equation.params)
    repeats = params.get('length', 1)  # of a scan
    if platforms := params.get('branches_platforms'):
      choices = zip(params['branches'], platforms, strict=True)
      is_used = (b for b, names in choices if names is None or 'tpu' in names)
      params['branches'] = (next(is_used),)
    for inner in extend.core.jaxprs_in_params(params):
      yield from _equations(inner, times * repeats)


def matmul_flops(jaxpr) -> int:
  """Return the FLOPs of all products and convolutions in all branches."""
  total = 0
  for equation, times in _equations(jaxpr):
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      terms = math.prod(shape[axis] for axis in contracted)
    elif equation.primitive.name == 'conv_general_dilated':
      kernel = equation.invars[1].aval
      outputs = kernel.shape[equation.params['dimension_numbers'].rhs_spec[0]]
      holes = math.prod(equation.params['lhs_dilation'])  # zeros need no work
      terms = kernel.size // outputs / holes
    else:
      continue
    total += times * 2 * equation.outvars[0].aval.size * terms
  return int(total)


def _largest(jaxpr, count: int = 3) -> list[str]:
  """Return the largest shapes of all values: 'float32[64, 81, 96] (2 MB)'."""
  values = [variable.aval for variable in jaxpr.invars]
  values += [
    v.aval for equation, _ in _equations(jaxpr) for v in equation.outvars
  ]
  sizes = {
    f'{x.dtype}{list(x.shape)}': x.size * x.dtype.itemsize
    for x in values
    if isinstance(x, jax.core.ShapedArray)
  }
  names = sorted(sizes, key=lambda name: -sizes[name])[:count]
  return [f'{name} ({_si(sizes[name], "B")})' for name in names]


def _si(value: float, unit: str) -> str:
  """Format a number with a unit: '15.2 MB', '3.1 ms'."""
  if not value:
    return f'0 {unit}'
  power = min(max(math.floor(math.log10(value) / 3), -3), 5)
  prefix = {0: '', 1: 'k', 2: 'M', 3: 'G', 4: 'T', 5: 'P', -1: 'm', -2: 'µ'}
  return f'{value / 1000**power:.3g} {prefix.get(power, "n")}{unit}'


def _table(
  names: Sequence[str], columns: Sequence[dict[tuple[str, str], str]]
) -> str:
  """Return a table with a row for each (call, quantity) of any column."""
  rows = list(dict.fromkeys(row for column in columns for row in column))
  calls = list(dict.fromkeys(call for call, _ in rows))
  rows.sort(key=lambda row: calls.index(row[0]))
  return markdown.table(
    ['', *names],
    [[row[1], *(column.get(row, _NONE) for column in columns)] for row in rows],
  )
