"""Compile a config for TPUs that are not attached; report memory and costs.

libtpu compiles for a named topology on any computer. The training call and all
evaluation calls are lowered from shapes, and nothing is executed. The report
shows sharding mistakes, memory, and collectives before anyone pays for a slice.
"""

import dataclasses
import importlib.util
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
from jax import extend
from jax.experimental import topologies
from ml_collections import ConfigDict

from core import errors, evaluation, inference, sharding, step
from core.aot import hlo
from core.errors import UserError, one_line
from core.report import markdown, measurements, results

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
  jitted: Any
  arguments: tuple
  updates: int  # 1 for an evaluation
  examples: int


def report(
  config: ConfigDict,
  names: Sequence[str],
  folder: str | None = None,
  flag: str = '',
  overrides: Mapping[str, Any] | None = None,
) -> str:
  """Compile for topologies such as 'v5e:4x4', and return a Markdown table.

  Args:
    config: the config.
    names: the topologies.
    folder: folder of result files that gets the rows. None writes no file.
    flag: the `FILE:ARGUMENTS` of the config, for the result file.
    overrides: its changes by dotted name, for the result file.

  Raises:
    UserError: see `measure`; or the result file cannot be written.
  """
  if not folder:
    return _table(measure(config, names))
  path = result_path(folder, config.task, flag, names[0])
  measurements.make_folders([path])
  rows = measure(config, names)
  origin = measurements.provenance(_command(flag, overrides or {}, names))
  origin['versions']['libtpu'] = metadata.version('libtpu')
  measurements.write(path, {**origin, 'rows': rows})
  return _table(rows)


def result_path(folder: str, task: str, flag: str, name: str) -> pathlib.Path:
  """Return the result file of a config and of its first topology."""
  arguments = flag.partition(':')[2]
  stem = re.sub(r'\W+', '_', f'compile_{name}_{arguments}').strip('_')
  return pathlib.Path(folder, *task.split('.'), f'{stem}.json')


def _command(
  flag: str, overrides: Mapping[str, Any], names: Sequence[str]
) -> list[str]:
  """Return the arguments of `uv run` that repeat the compilation."""
  return [
    *('--extra', 'tpu', 'main.py', '--mode=compile'),
    f'--topology={",".join(names)}',
    f'--config={flag.removeprefix(f"{results.ROOT}/")}',
    *(f'--config.{k}={v}' for k, v in overrides.items() if k != 'data.dir'),
  ]


def measure(config: ConfigDict, names: Sequence[str]) -> dict[str, Any]:
  """Compile for topologies, and return a row of a result file for each.

  The first topology has the batch size of the config. The batch sizes of the
  others are proportional to their numbers of chips (weak scaling).

  Raises:
    UserError: a topology is unknown, libtpu is missing, the batch is not
      divisible, or a call does not fit in memory.
  """
  for name in names:
    errors.check_choice('--topology', name, _known())
  first, rows = _num_chips(names[0]), {}
  for name in names:
    num_chips = _num_chips(name)
    scaled = config.copy_and_resolve_references()
    scaled.batch_size, rest = divmod(config.batch_size * num_chips, first)
    if rest:
      raise UserError(
        f'config.batch_size={config.batch_size} for {first} chips does not'
        f' scale to a whole batch size for {num_chips} chips; use a multiple of'
        f' {first}'
      )
    rows[name] = _row(scaled, name)
  return rows


def _row(config: ConfigDict, name: str) -> dict[str, Any]:
  """Compile all calls for a topology, and return its row of a result file."""
  devices, chip = _devices(name), CHIPS[name.split(':')[0]]
  costs = {}
  for call in _calls(config, sharding.make_mesh(config.mesh, devices)):
    print(f'compiling {call.name} for {name}', file=sys.stderr)
    for quantity, value in _costs(call, chip, len(devices)).items():
      costs[f'{call.name}/{quantity}'] = value
  memory = [costs[x] for x in costs if re.match('evaluation/.*/memory_mb', x)]
  if memory:
    costs['largest_evaluation/memory_mb'] = max(memory)
  return {
    'chips': len(devices),
    'batch': config.batch_size,
    'chip_memory_mb': round(chip.memory / 1e6),
    'metrics': {x: {'value': float(f'{costs[x]:.6g}')} for x in costs},
  }


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
      f'evaluation/{name}',
      evaluation.make_call(evaluator, program.merge, mesh, num_seeds),
      (program.abstract_state.eval_params, batches),
      1,
      math.prod(batches['weight'].shape) * num_seeds,
    )


def _shapes(arrays, array_sharding):
  """Return the shapes and types of arrays, with the given sharding."""
  return {
    name: jax.ShapeDtypeStruct(
      x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=array_sharding
    )
    for name, x in arrays.items()
  }


def _costs(call: _Call, chip: Chip, num_chips: int) -> dict[str, float]:
  """Compile a call, and return its costs per update, or per evaluation call."""
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
  costs = hlo.count_costs(compiled.as_text())
  flops = matmul_flops(traced.jaxpr.jaxpr) / num_chips
  seconds = costs.cycles / chip.clock
  result = {
    'memory_mb': used / 1e6,
    'matmul_gflop': flops / call.updates / 1e9,
    'traffic_mb': costs.memory_traffic / call.updates / 1e6,
  }
  collectives = {'all-reduce': (0, 0)} | costs.collectives
  for kind, (count, size) in sorted(collectives.items()):
    kind = kind.replace('-', '_')
    result[f'{kind}_count'] = count / call.updates
    result[f'{kind}_mb'] = size / call.updates / 1e6
  if seconds:
    result['time_ms'] = 1e3 * seconds / call.updates
    result['examples_per_second'] = call.examples / seconds
    result['peak_percent'] = 100 * flops / seconds / chip.peak
  return result


def _equations(jaxpr, times: int = 1) -> Iterator[tuple[Any, int]]:
  """Yield all equations, including inner ones, and their executions.

  For code that depends on the platform, yield the branch for TPUs.
  """
  for equation in jaxpr.eqns:
    yield equation, times
    params = dict(equation.params)
    repeats = params.get('length', 1)  # of a scan
    for axis in params.get('newly_manual_axes', ()):  # of a shard_map
      repeats *= params['mesh'].shape[axis]
    if platforms := params.get('branches_platforms'):
      choices = zip(params['branches'], platforms, strict=True)
      is_used = (b for b, names in choices if names is None or 'tpu' in names)
      params['branches'] = (next(is_used),)
    for inner in extend.core.jaxprs_in_params(params):
      yield from _equations(inner, times * repeats)


def matmul_flops(jaxpr) -> int:
  """Return the FLOPs of all matrix products and convolutions.

  All branches of a conditional count, and the body of a `while` loop counts
  once.
  """
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
  return [f'{name} ({sizes[name] / 1e6:,.0f} MB)' for name in names]


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
  """Return a table with a column for each topology."""
  columns = []
  for row in rows.values():
    column = {name: value for name, value in row.items() if name != 'metrics'}
    column |= {name: entry['value'] for name, entry in row['metrics'].items()}
    columns.append({x: markdown.number(value) for x, value in column.items()})
  names = dict.fromkeys(name for column in columns for name in column)
  return markdown.table(
    ['', *rows],
    [[name, *(x.get(name, _NONE) for x in columns)] for name in names],
  )
