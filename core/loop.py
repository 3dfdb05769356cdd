"""The training loop: the host only dispatches, logs, evaluates, and saves.

Each iteration dispatches the next call, fetches and writes the metrics of the
previous one, runs the evaluations that are due, and saves the state if due. A
resumed run continues from the last save, and repeats the later updates with
identical results.
"""

import collections
import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from core import checkpoints, evaluation, inference, sharding, stages, step
from core.errors import UserError
from core.io import atomic_files, weights, writers
from core.run import devices, run_config, run_folder, signals
from core.task import Task


def run(config: ConfigDict, folder: str, start_from: str = '') -> bool:
  """Open the run folder and train in it on all devices; see `train`."""
  devices.limit_malloc_arenas()
  # Validate before anything is written to the run folder.
  run_config.check_against_defaults(config)
  devices.use_cpu_cores(config.batch_size)
  mesh = sharding.make_mesh(config.mesh)
  task = inference.make_task(config)
  program = step.make_program(task, config, mesh)
  with run_folder.open_folder(folder, config):
    return train(task, program, config, folder, mesh, start_from)


def train_run(
  config_or_stages: ConfigDict | stages.Stages, folder: str
) -> bool:
  """Train a run with or without stages; see `run` and `stages.run`."""
  if isinstance(config_or_stages, ConfigDict):
    return run(config_or_stages, folder)
  return stages.run(config_or_stages, folder, run)


def run_and_evaluate(
  config_or_stages: ConfigDict | stages.Stages, folder: str
) -> bool:
  """Train a point of a sweep, and evaluate it once finished."""
  if not train_run(config_or_stages, folder):
    return False
  inference.evaluate(inference.load(folder, {}), folder)
  return True


def train(
  task: Task,
  program: step.Program,
  config: ConfigDict,
  folder: str,
  mesh: Mesh,
  start_from: str = '',
) -> bool:
  """Train until `config.total_steps`; resume from a checkpoint if there is one.

  Args:
    program: the compiled functions of the task.
    folder: the run folder, which `run_folder.open_folder` has opened.
    mesh: the mesh of `program`.
    start_from: folder with the initial weights, for the same number of seeds.
      With '', a new run starts from `config.init_weights`, if set.

  Returns:
    True if training finished and no stop signal arrived.

  Raises:
    UserError: the config contradicts itself, the mesh, or the checkpoint.
    FloatingPointError: the loss, the gradient, or a parameter is not finite;
      the last checkpoint is kept.
  """
  arrays = sharding.put(dict(task.arrays('train')), sharding.replicated(mesh))
  evaluations = _make_evaluations(task, program, config, mesh)
  with (
    signals.StopSignal() as stop,
    checkpoints.Checkpointer(
      folder,
      keep_last=config.checkpoint.keep_last,
      keep_every=config.checkpoint.keep_every,
    ) as checkpointer,
  ):
    state = _restore_or_init(checkpointer, program, config, folder, start_from)
    start = int(state.step)
    _announce(config, folder, mesh, state, arrays)
    is_finished = start >= config.total_steps
    if not is_finished:
      # Trace first, so that an invalid update fails before config.json exists.
      jax.eval_shape(program.update, state, arrays)
    run_folder.record_start(pathlib.Path(folder), config)
    if not is_finished:  # outputs of an earlier training with fewer steps
      weights.remove_outputs(folder)
    state, is_stopped = _make_updates(
      state, program, arrays, evaluations, config, folder, checkpointer, stop
    )
    done = int(state.step)
    if done < config.total_steps:
      logging.warning(
        'stopped by a signal; step %d is saved; the same command resumes', done
      )
      return False
    params = sharding.fetch(state.eval_params, mesh)
    if done > start:  # `--mode=eval` may have written results in the meantime
      weights.remove_outputs(folder)
    weights.save_weights(folder, params, step=done)
    return not (is_stopped or stop())


def _restore_or_init(
  checkpointer: checkpoints.Checkpointer,
  program: step.Program,
  config: ConfigDict,
  folder: str,
  start_from: str,
) -> step.TrainState:
  """Restore the newest checkpoint, or return the state of a new run."""
  rename = run_config.layer_renamer(config.task)
  state = checkpointer.restore(program.abstract_state, rename)
  _check_folder(folder, state, config.total_steps)
  return state or _new_state(program, config, start_from)


def _make_updates(
  state: step.TrainState,
  program: step.Program,
  arrays: dict[str, jax.Array],
  evaluations: list[tuple[int, Callable]],
  config: ConfigDict,
  folder: str,
  checkpointer: checkpoints.Checkpointer,
  stop: Callable[[], bool],
) -> tuple[step.TrainState, bool]:
  """Make the remaining updates, and evaluate and save when due.

  Returns:
    The state, which is saved, and whether a stop signal arrived.
  """
  total, per_call = config.total_steps, config.steps_per_call
  done = int(state.step)
  with writers.Writer(folder, start=done, total_steps=total) as writer:
    recorder = _Recorder(writer, config, done)
    profiled = done + (config.log.profile - 1) * per_call
    stopping, compiled = False, set()
    while done < total and not stopping:
      update, num_steps = program.update, per_call
      if num_steps > total - done:  # the last call makes fewer updates
        num_steps = total - done
        short = program.make_update(num_steps)
        with recorder.paused():
          update = short.lower(state, arrays).compile()
      is_profiled = done == profiled
      trace = _profile(folder) if is_profiled else contextlib.nullcontext()
      with trace, jax.profiler.StepTraceAnnotation('train', step_num=done):
        state, metrics, losses = update(state, arrays)
        if is_profiled:
          jax.block_until_ready(losses)
      previous, done = done, done + num_steps
      recorder.add(done, metrics, losses)
      for every, evaluate in evaluations:
        if _is_due(every, previous, done, total):
          with recorder.paused():
            start = time.monotonic()
            values = evaluate(state.eval_params)
            if evaluate not in compiled:  # the first call compiles
              compiled.add(evaluate)
              writer.exclude(time.monotonic() - start)
            writer.write(done, values)
      stopping = stop()
      if stopping or _is_due(config.checkpoint.every, previous, done, total):
        with recorder.paused():
          checkpointer.save(done, state)
  return state, stopping


def _announce(
  config: ConfigDict,
  folder: str,
  mesh: Mesh,
  state: step.TrainState,
  arrays: dict[str, jax.Array],
):
  """Print what is trained, where, on which devices, and on which data."""
  start, total = int(state.step), config.total_steps
  if jax.process_index() != 0 or not total:
    return
  if start == total:
    print(f'{folder} is finished, after {total:,} updates', file=sys.stderr)
    return
  count = sum(x.size for x in jax.tree.leaves(state.params))
  last = config.seed + config.num_seeds - 1
  seeds = f'seed {config.seed}'
  if config.num_seeds > 1:
    seeds = f'seeds {config.seed} to {last}'
  print(
    f'{folder}: {config.task}, {count // config.num_seeds:,} parameters,'
    f' {seeds}, {mesh.size} x {mesh.devices.flat[0].device_kind},'
    f' updates {start:,} to {total:,}\n'
    f'training data: {_describe(arrays) or "drawn on the device"}\n'
    'compiling, which may take a minute',
    file=sys.stderr,
  )


def _describe(arrays: dict[str, jax.Array]) -> str:
  """Return '900 rows of x, y; 20 rows of z'; '' if there are no arrays."""
  names = collections.defaultdict(list)
  for name, array in arrays.items():
    names[array.shape[0] if array.shape else 1].append(name)
  return '; '.join(
    f'{count:,} row{"s" if count != 1 else ""} of {", ".join(columns)}'
    for count, columns in names.items()
  )


def _check_folder(folder: str, state: step.TrainState | None, total: int):
  """Raise UserError if a folder cannot be trained up to `total` updates.

  `state` is the state in its newest checkpoint, or None if it has none.
  """
  # Initial weights need no protection: a new run creates the same ones.
  is_initial = total == 0 and weights.read_step_or_none(folder) == 0
  if state is None and weights.existing_outputs(folder) and not is_initial:
    raise UserError(
      f'{folder} holds weights or results but no checkpoint to resume from;'
      ' choose another --workdir; to start from its weights, also set'
      f' --config.init_weights={folder}'
    )
  if state and int(state.step) > total:
    raise UserError(
      f'{folder} already has {int(state.step)} updates, more than'
      f' config.total_steps={total}; increase it, or choose another --workdir'
    )


def _make_evaluations(
  task: Task, program: step.Program, config: ConfigDict, mesh: Mesh
) -> list[tuple[int, Callable[[Any], dict[str, float | list]]]]:
  """Return each evaluation's period, and its function of the parameters."""

  def make(name, evaluator):
    measure = evaluation.make_evaluation(
      evaluator, program.merge, mesh, config.num_seeds
    )

    def evaluate(params):
      measured = measure(params)
      return evaluation.values(measured, f'eval/{name}/', config.num_seeds)

    return evaluator.every, evaluate

  return [
    make(name, evaluator)
    for name, evaluator in task.evaluators().items()
    if evaluator.every
  ]


@contextlib.contextmanager
def _profile(folder: str) -> Iterator[None]:
  """Write a profile of the block to the run folder."""
  path = pathlib.Path(folder) / 'profile'
  with atomic_files.reported_writes(folder):
    path.mkdir(exist_ok=True)  # JAX would not report a failure
  with jax.profiler.trace(str(path)):
    yield


def _is_due(every: int, previous: int, done: int, total: int) -> bool:
  """Return whether the last call reached a multiple of `every`, or the end."""
  return done == total or (every > 0 and done // every > previous // every)


def _new_state(
  program: step.Program, config, start_from: str
) -> step.TrainState:
  """Return a new state, from initial weights if there are any.

  Parameters that match `config.init_missing_regex` may be missing there.
  """
  state = program.init()
  source = start_from or config.init_weights
  if not source:
    return state
  like = expected = program.abstract_state.params
  if config.num_seeds > 1 and not start_from:
    # All seeds start from the same weights, those of one seed.
    expected = jax.eval_shape(
      lambda tree: jax.tree.map(lambda x: x[0], tree), like
    )
  loaded = weights.load_weights(
    run_config.find_folder(source),
    expected,
    missing_regex=config.init_missing_regex,
    rename=run_config.layer_renamer(config.task),
  )

  def place(value, abstract, initial):
    if value is None:
      return initial
    value = np.broadcast_to(value, abstract.shape)
    return sharding.put(value, abstract.sharding)

  params = jax.tree.map(
    place, loaded, like, state.params, is_leaf=lambda x: x is None
  )
  # The average needs its own buffers: a buffer can be donated only once.
  has_ema = state.ema_params is not None
  ema_params = jax.tree.map(jnp.copy, params) if has_ema else None
  return dataclasses.replace(state, params=params, ema_params=ema_params)


class _Recorder:
  """Fetches the metrics of a call while the next one runs, and writes means."""

  def __init__(self, writer: writers.Writer, config, done: int):
    self._writer, self._config = writer, config
    self._pending: tuple | None = None
    self._clock = 0.0  # not started
    self._sums, self._written = {}, done
    self._timed = 0  # updates since the clock was started

  def add(self, done: int, metrics, losses):
    """Add the call that ends at `done`, and fetch the previous call."""
    self._fetch()
    self._pending = done, metrics, losses

  @contextlib.contextmanager
  def paused(self):
    """Check that the state is finite, and do not time the block."""
    self._fetch()
    yield
    self._start_clock()

  def _start_clock(self):
    self._clock, self._timed = time.monotonic(), 0

  def _fetch(self):
    if self._pending is None:
      return
    done, metrics, losses = jax.device_get(self._pending)
    self._pending = None
    bad = np.argwhere(~np.isfinite(losses))  # update, or update and seed
    if bad.size:
      update, *seed = bad[0]
      of_seed = f' of seed {self._config.seed + seed[0]}' if seed else ''
      raise FloatingPointError(
        f'update {done - len(losses) + update + 1}{of_seed} has a non-finite'
        ' loss, gradient, or parameter; the last checkpoint is kept. Lower'
        ' config.optim.learning_rate or set config.optim.clip_norm'
      )
    if self._sums:
      metrics = jax.tree.map(np.add, self._sums, metrics)
    self._sums = metrics
    self._timed += len(losses)
    if not self._clock:  # exclude the first call, which compiles
      self._start_clock()
      self._writer.start_clock(done)
    every, total = self._config.log.every, self._config.total_steps
    if not _is_due(every, self._written, done, total):
      return
    values = evaluation.values(self._sums, 'train/')
    if self._timed:
      seconds = time.monotonic() - self._clock
      examples = self._config.batch_size * self._config.num_seeds
      rate = self._timed * examples / seconds
      values['perf/examples_per_second'] = round(rate, 2)
    self._writer.write(done, values)
    self._sums, self._written = {}, done
    self._start_clock()
