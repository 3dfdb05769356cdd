"""The training loop: call, log, evaluate, save; nothing else on the host.

Each turn dispatches the next call, fetches and writes the metrics of the
previous one, runs the evaluations that are due, and then saves the state. A
killed run therefore repeats exactly the updates that it lost.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from core import (
  checkpoints,
  evaluation,
  experiment,
  run_config,
  runtime,
  sharding,
  step,
  storage,
  weights,
  writers,
)
from core.errors import UserError
from core.task import Task


def run(config: ConfigDict, folder: str) -> bool:
  """Open the run folder and train in it on all devices; see `train`."""
  runtime.share_heaps()
  # Validate before anything is written to the run folder.
  run_config.check_known(config)
  runtime.use_cpu_cores(config.batch_size)
  mesh = sharding.make_mesh(config.mesh)
  task = experiment.make_task(config)
  program = step.make_program(task, config, mesh)
  with runtime.open_run_folder(folder, config):
    return train(task, program, config, folder, mesh)


def run_and_evaluate(config: ConfigDict, folder: str) -> bool:
  """Train as `run`, and evaluate a finished run: a point of a sweep."""
  if not run(config, folder):
    return False
  experiment.evaluate(experiment.load(folder, {}), folder)
  return True


def train(
  task: Task,
  program: step.Program,
  config: ConfigDict,
  folder: str,
  mesh: Mesh,
) -> bool:
  """Train until `config.total_steps`, resuming from its checkpoints.

  Returns:
    True if training finished and no stop signal arrived.

  Raises:
    UserError: the config contradicts itself, the mesh, or the checkpoint.
    FloatingPointError: a loss is not finite; the last checkpoint stays.
  """
  total, per_call = config.total_steps, config.steps_per_call
  keep = config.checkpoint
  arrays = dict(task.arrays('train'))
  arrays = sharding.put(arrays, sharding.replicated(mesh))
  evaluations = {
    name: (
      each.every,
      evaluation.make_evaluation(each, program.merge, mesh, config.num_seeds),
    )
    for name, each in task.evaluators().items()
    if each.every
  }
  with (
    runtime.StopSignal() as stop,
    checkpoints.Checkpointer(
      folder, keep_last=keep.keep_last, keep_every=keep.keep_every
    ) as checkpointer,
  ):
    state = checkpointer.restore(program.abstract_state)
    if state is None and weights.outcome(folder):
      raise UserError(
        f'{folder} holds weights or results but no checkpoint to go on from;'
        ' give another --workdir, or start from weights with'
        ' --config.init_weights'
      )
    state = state or _initial_state(program, config)
    start = done = int(state.step)
    if done > total:
      raise UserError(
        f'{folder} has {done} updates already, more than'
        f' config.total_steps={total}; raise it, or give another --workdir'
      )
    runtime.record_start(pathlib.Path(folder), config)
    if done < total:
      weights.remove(folder)  # from a shorter training of this run
    with writers.Writer(folder, start=done, total_steps=total) as writer:
      recorder = _Recorder(writer, config, done)
      profiled = done + (config.log.profile - 1) * per_call
      stopping = False
      while done < total:
        update, num_steps = program.update, per_call
        if num_steps > total - done:  # the last call makes fewer updates
          num_steps = total - done
          update = program.make_update(num_steps)
        with _profile(folder if done == profiled else None, done) as wait:
          state, metrics, losses = wait(update(state, arrays))
        previous, done = done, done + num_steps
        recorder.add(done, metrics, losses)
        for name, (every, evaluate) in evaluations.items():
          if _is_due(every, previous, done, total):
            with recorder.paused():
              measured = evaluate(state.evaluated)
              writer.write(
                done,
                evaluation.values(measured, f'eval/{name}/', config.num_seeds),
              )
        stopping = stop()
        if stopping or _is_due(keep.every, previous, done, total):
          with recorder.paused():
            checkpointer.save(done, state)
        if stopping and done < total:
          logging.warning(
            'stopped by a signal; step %d is saved; the same command resumes'
            ' the run',
            done,
          )
          return False
    params = sharding.fetch(state.evaluated, mesh)
    if done > start:
      weights.remove(folder)  # evaluated while the run was in training
    weights.save_weights(folder, params, step=done)
    return not (stopping or stop())


@contextlib.contextmanager
def _profile(folder: str | None, done: int) -> Iterator[Callable]:
  """Name a call in profiles; with a folder, also write a profile there.

  Yields:
    A function that returns its argument; with a folder, once it is computed.
  """
  with contextlib.ExitStack() as stack:
    if folder:
      path = pathlib.Path(folder) / 'profile'
      with storage.reported_writes(folder):
        path.mkdir(exist_ok=True)  # JAX would not report the error
      stack.enter_context(jax.profiler.trace(str(path)))
    stack.enter_context(
      jax.profiler.StepTraceAnnotation('train', step_num=done)
    )
    yield jax.block_until_ready if folder else lambda result: result


def _is_due(every: int, previous: int, done: int, total: int) -> bool:
  """Return whether the last updates met a multiple of `every`, or the end."""
  return done == total or every > 0 and done // every > previous // every


def _initial_state(program: step.Program, config) -> step.TrainState:
  """Return a new state, with the parameters of `config.init_weights` if given.

  Parameters that match `config.init_new` may be missing there.
  """
  state = program.init()
  if not config.init_weights:
    return state
  like = program.abstract_state.params
  of_one_seed = like
  if config.num_seeds > 1:
    of_one_seed = jax.eval_shape(
      lambda tree: jax.tree.map(lambda x: x[0], tree), like
    )
  loaded = weights.load_weights(
    config.init_weights, of_one_seed, new=config.init_new
  )

  def place(value, to, new):
    if value is None:
      return new
    # All seeds start from the same parameters.
    return sharding.put(np.broadcast_to(value, to.shape), to.sharding)

  params = jax.tree.map(
    place, loaded, like, state.params, is_leaf=lambda x: x is None
  )
  # This is a copy, since the state's buffers are donated one by one.
  average = state.average and jax.tree.map(jnp.copy, params)
  return dataclasses.replace(state, params=params, average=average)


class _Recorder:
  """Fetch the metrics of a call while the next one runs, and write means."""

  def __init__(self, writer: writers.Writer, config, done: int):
    self._writer, self._config = writer, config
    self._pending: tuple | None = None
    self._clock = 0.0  # not started
    self._sums, self._written = {}, done
    self._timed = 0  # updates since the clock was started

  def add(self, done: int, metrics, losses):
    """Add the call that ends at `done`, and fetch the one before."""
    self._fetch()
    self._pending = done, metrics, losses

  @contextlib.contextmanager
  def paused(self):
    """Check that the state is finite, and exclude the block from the rate."""
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
    bad = np.argwhere(~np.isfinite(losses))  # updates, and of which seeds
    if bad.size:
      update, *seed = bad[0]
      of_seed = f' of seed {self._config.seed + seed[0]}' if seed else ''
      raise FloatingPointError(
        f'update {done - len(losses) + update + 1}{of_seed} is not finite (its'
        ' loss, gradient or parameters); the last checkpoint is kept. Lower'
        ' config.optim.learning_rate or set config.optim.clip_norm'
      )
    if self._sums:
      metrics = jax.tree.map(np.add, self._sums, metrics)
    self._sums = metrics
    self._timed += len(losses)
    if not self._clock:  # exclude the first call, which compiles
      self._start_clock()
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
