"""Training speed on Sudoku: our networks, plain forms, and PyTorch.

Each contender makes whole updates (forward, backward, optimizer) of the same
model in float32: the paper's network, whose nodes are cells, or ours, whose
nodes are candidates. Matrix products, timed in the same turns, show the peak
speed of the machine.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import harness, machine, sudoku_plain
from configs.rrn import sudoku
from core import sharding, step
from core.run import devices
from rrn.sudoku import data, model, task

SKINNY_REPEATS = 16  # a single small product is too short to be timed
# Network -> for each contender: its name, whether it is the plain form, whether
# it uses micro-batches, and the number of message layers (cells only).
PROGRAMS = {
  'cells': (
    ('plain form', True, False, 3),
    ('plain form, micro-batches', True, True, 3),
    ('ours', False, True, 3),
    ('ours, 1 layer', False, True, 1),
  ),
  'candidates': (
    ('plain form', True, False, 1),
    ('plain form, micro-batches', True, True, 1),
    ('ours', False, True, 1),
  ),
}
MICROBATCH = {'cells': 1, 'candidates': 2}  # the fastest on CPUs
FLAGS = {
  'network': ('all', ('all', *PROGRAMS), 'Network to measure.'),
  'batch_size': (32, 1, 'Boards per update.'),
  'num_steps': (None, 1, 'Message passing steps. Default: as in :cpu.'),
  'microbatch_size': (
    None,
    0,
    'Boards per device at once; 0: all. Default: 1 (cells) or 2 (candidates)'
    ' on CPUs, else 0.',
  ),
  'rounds': (5, 1, 'Turns of each contender.'),
}
PEERS = ('torch',)
UNIT = 'board_steps'


def make_contenders(config, boards) -> dict[str, harness.Contender]:
  """Build all contenders.

  Args:
    config: the config of training, with the micro-batch size of the contenders
      that use micro-batches.
    boards: 'puzzle' and 'solution', int [B, N].
  """
  mesh = sharding.make_mesh(config.mesh)
  contenders, params = {}, None
  for name, is_plain, is_split, layers in PROGRAMS[config.model.network]:
    settings = config.copy_and_resolve_references()
    settings.model.message_layers = layers
    settings.microbatch_size = config.microbatch_size if is_split else 0
    made = (sudoku_plain.PlainTask if is_plain else task.SudokuTask)(settings)
    program = step.make_program(made, settings, mesh)
    values = []
    if layers == config.model.message_layers:  # else a different model
      if params is None:
        params = harness.perturb(program.init().params)
      values = [_logits(program.merge, params, boards, config.model.num_steps)]
    contenders[name] = harness.make_updates(program, boards, values)
  if twins := harness.peer('PyTorch', 'benchmarks.torch_twins'):
    is_plain = config.model.network == 'cells'
    gflop = contenders['plain form' if is_plain else 'ours'].gflop
    on_devices = config.microbatch_size * jax.device_count()
    sizes = {'': config.batch_size}
    if 0 < on_devices < config.batch_size:
      sizes[', micro-batches'] = on_devices
    for suffix, at_once in sizes.items():
      make = functools.partial(
        make_twin, twins, config, params, boards, at_once=at_once, gflop=gflop
      )
      contenders |= twins.variants(make, suffix)
  return contenders


def _logits(merge, params, boards, num_steps):
  """Return the logits of all classes but 0, which is never the answer."""
  run = jax.jit(
    lambda params, puzzles: merge(params)(puzzles, num_steps=num_steps)
  )
  return run(params, boards['puzzle'])[..., 1:]


def make_twin(
  twins, config, params, boards, compiler, *, at_once: int, gflop: float = 0.0
) -> harness.Contender:
  """Build a PyTorch contender.

  Args:
    twins: the module `torch_twins`.
    config, boards: see `make_contenders`.
    params: parameters of the network, as nested dicts of arrays.
    compiler: compiles a step of the network.
    at_once: number of boards in a forward and backward pass.
    gflop: see `harness.Contender`.
  """
  params, torch = twins.to_tensors(params), twins.torch
  if config.model.network == 'cells':
    step, solve = twins.relational_step, twins.cells_logits
    graph = torch.tensor(data.neighbors(3, 3)).long()
  else:
    step, solve = twins.candidates_step, twins.candidates_logits
    groups = sudoku_plain.make_groups(model.ModelConfig(**config.model))
    graph = [torch.tensor(members).float() for members in groups.kinds]
  options = {'num_steps': config.model.num_steps}
  solve = functools.partial(solve, compiler(step), params, graph, **options)
  puzzles, solutions = (
    torch.tensor(boards[name]).split(at_once) for name in ('puzzle', 'solution')
  )

  def losses():
    for part, targets in zip(puzzles, solutions, strict=True):
      loss = torch.nn.functional.cross_entropy(
        solve(part).flatten(0, -2),
        targets.flatten().repeat(config.model.num_steps),
      )
      yield len(part) / config.batch_size * loss

  leaves = jax.tree.leaves(params)
  optimizer = torch.optim.AdamW(leaves, fused=True)
  logits = torch.cat([solve(part).detach() for part in puzzles], 1)
  return harness.Contender(
    twins.make_call(losses, leaves, optimizer=optimizer),
    twins.to_arrays(logits[..., 1:]),
    gflop,
  )


def make_limits(config, at_once: int) -> dict[str, harness.Contender]:
  """Build the limits of the machine, see `machine.limits`.

  One product has the size of the largest layer of the network for `at_once`
  boards: a row for each edge between cells, or for each candidate.
  """
  num_rows, width = data.neighbors(3, 3).size, config.model.width
  if config.model.network == 'candidates':
    num_rows, width = 9**3, config.model.hidden_width
  return machine.limits((at_once * num_rows, width, SKINNY_REPEATS))


def make_config(
  network: str,
  *,
  batch_size: int,
  num_steps: int | None = None,
  microbatch_size: int | None = None,
):
  """Return the config of training a network of `PROGRAMS` on boards in memory.

  Args:
    network: a key of `PROGRAMS`.
    batch_size: number of boards in an update.
    num_steps: number of message passing steps. None selects that of `:cpu`.
    microbatch_size: number of boards that a device takes at once, 0 for all.
      None selects the fastest on CPUs, and 0 on other devices.
  """
  config = sudoku.get_config(f'cpu,source=generated,network={network}')
  if microbatch_size is None:
    microbatch_size = MICROBATCH[network] * (jax.default_backend() == 'cpu')
  config.batch_size, config.microbatch_size = batch_size, microbatch_size
  config.data.hard_share, config.steps_per_call = 0.0, 1
  config.model.num_steps = num_steps or config.model.num_steps
  config.model.burn_in = 0
  config.model.message_layers = PROGRAMS[network][0][-1]
  return config


def make_cases(args) -> Iterator[harness.Case]:
  """Build a case for each network."""
  devices.use_cpu_cores(args.batch_size)
  for network in PROGRAMS if args.network == 'all' else [args.network]:
    config = make_config(
      network,
      batch_size=args.batch_size,
      num_steps=args.num_steps,
      microbatch_size=args.microbatch_size,
    )
    rng = np.random.default_rng(0)
    # Timing needs no real boards.
    solutions = rng.integers(1, 10, (args.batch_size, 81))
    puzzles = np.where(rng.random(solutions.shape) < 0.3, solutions, 0)
    at_once = config.microbatch_size * jax.device_count() or args.batch_size
    yield harness.Case(
      network,
      make_contenders(config, {'puzzle': puzzles, 'solution': solutions}),
      args.batch_size * config.model.num_steps,
      limits=make_limits(config, min(at_once, args.batch_size)),
    )
