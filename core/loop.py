"""The training loop: call, log, evaluate, save; nothing else on the host.

At each turn the next call is dispatched, the previous one's metrics are fetched
and written, due evaluations run, and only then is the state saved: a killed run
repeats exactly what it lost.
"""

import dataclasses
import operator
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from jax.sharding import Mesh

from core import (
  checkpoints,
  evaluation,
  experiment,
  runtime,
  sharding,
  step,
  weights,
  writers,
)
from core.errors import UserError
from core.task import Task


def run(config: ml_collections.ConfigDict, folder: str) -> bool:
  """Opens the run folder and trains in it on all devices; see `train`."""
  runtime.use_cpu_cores(config.batch_size)
  mesh = sharding.make_mesh(config.mesh)
  with runtime.open_run_folder(folder, config):
    return train(experiment.make_task(config), config, folder, mesh)


def run_and_evaluate(config: ml_collections.ConfigDict, folder: str) -> bool:
  """Trains as `run`, and evaluates what is finished: a point of a sweep."""
  if not run(config, folder):
    return False
  experiment.evaluate(experiment.load(folder, {}), folder)
  return True


def train(
  task: Task, config: ml_collections.ConfigDict, folder: str, mesh: Mesh
) -> bool:
  """Trains until `config.total_steps`, resuming what `folder` holds.

  Returns:
    Whether the run is finished; False if a signal ended it early, saved.

  Raises:
    UserError: the config does not fit itself, the mesh or the checkpoint.
    FloatingPointError: a loss is not finite; the last checkpoint stays.
  """
  per_call, total = config.steps_per_call, config.total_steps
  for name in ('steps_per_call', 'log.every', 'checkpoint.every'):
    if operator.attrgetter(name)(config) < 1:
      raise UserError(f'config.{name} is below 1')
  program = step.make_program(task, config, mesh)
  arrays = {
    name: sharding.put(column, sharding.replicated(mesh))
    for name, column in task.arrays('train').items()
  }
  evaluations = [
    (
      name,
      evaluator.every,
      evaluation.make_evaluation(evaluator, program.merge, mesh),
    )
    for name, evaluator in task.evaluators().items()
    if evaluator.every
  ]
  keep = config.checkpoint
  with (
    runtime.StopSignal() as stop,
    checkpoints.Checkpointer(
      folder, keep_last=keep.keep_last, keep_every=keep.keep_every
    ) as checkpointer,
  ):
    state = checkpointer.restore(program.abstract_state)
    if state is None:
      state = _initial_state(program, config)
    done = int(state.step)
    if (total - done) % per_call:
      raise UserError(
        f'from update {done} to config.total_steps={total} is no multiple of'
        f' config.steps_per_call={per_call}'
      )
    if done < total:
      _remove_results(folder)
    with writers.Writer(folder, start=done, total_steps=total) as writer:
      recorder = _Recorder(writer, config, done)
      while done < total:
        with jax.profiler.StepTraceAnnotation('train', step_num=done):
          state, metrics, losses = program.update(state, arrays)
        previous, done = done, done + per_call
        recorder.add(done, metrics, losses)
        for name, every, evaluate in evaluations:
          if _is_due(every, previous, done, total):
            recorder.flush()
            values = evaluation.values(evaluate(state.evaluated))
            writer.write(
              done,
              {f'eval/{name}/{key}': value for key, value in values.items()},
            )
            recorder.restart_clock()
        stopping = stop() and done < total
        if _is_due(keep.every, previous, done, total) or stopping:
          recorder.flush()
          checkpointer.save(done, state)
          recorder.restart_clock()
        if stopping:
          logging.warning('stopped by a signal; step %d is saved', done)
          return False
    weights.save_weights(folder, sharding.fetch(state.evaluated, mesh))
  return True


def _is_due(every: int, previous: int, done: int, total: int) -> bool:
  """Whether the call from `previous` to `done` met a multiple or the end."""
  return done // every > previous // every or done == total


def _initial_state(program: step.Program, config) -> step.TrainState:
  """A new state; its parameters from `config.init_weights` where given."""
  state = program.init()
  if not config.init_weights:
    return state
  params = weights.load_weights(
    config.init_weights, program.abstract_state.params
  )
  params = jax.tree.map(
    lambda array, abstract: sharding.put(array, abstract.sharding),
    params,
    program.abstract_state.params,
  )
  # A copy, since the state's buffers are donated one by one.
  average = state.average and jax.tree.map(jnp.copy, params)
  return dataclasses.replace(state, params=params, average=average)


class _Recorder:
  """Fetches a call's metrics while the next one runs, and writes means."""

  def __init__(self, writer: writers.Writer, config, done: int):
    self._writer = writer
    self._config = config
    self._pending = None
    self._sums = {}
    self._fetched = self._written = done
    self._is_cold = True

  def restart_clock(self):
    """Leaves what happened since the last write out of the rate."""
    self._clock, self._clock_step = time.monotonic(), self._fetched

  def add(self, done: int, metrics, losses):
    """Takes the call that ends at `done`, and fetches the one before."""
    self.flush()
    self._pending = done, metrics, losses

  def flush(self):
    """Fetches what is pending; afterwards the state is known to be finite."""
    if self._pending is None:
      return
    done, metrics, losses = jax.device_get(self._pending)
    self._pending = None
    _check_finite(done, losses)
    self._fetched = done
    self._sums = {
      name: metric + self._sums[name] if self._sums else metric
      for name, metric in metrics.items()
    }
    if self._is_cold:  # the first call was compiled
      self._is_cold = False
      self.restart_clock()
    every = self._config.log.every
    is_last = done == self._config.total_steps
    if is_last or done // every > self._written // every:
      self._write()

  def _write(self):
    values = {
      f'train/{name}': value
      for name, value in evaluation.values(self._sums).items()
    }
    steps = self._fetched - self._clock_step
    if steps:
      rate = steps * self._config.batch_size / (time.monotonic() - self._clock)
      values['perf/examples_per_second'] = round(rate, 2)
    self._writer.write(self._fetched, values)
    self._sums, self._written = {}, self._fetched
    self.restart_clock()


def _check_finite(done: int, losses: np.ndarray):
  bad = np.flatnonzero(~np.isfinite(losses))
  if bad.size:
    update = done - len(losses) + int(bad[0]) + 1
    raise FloatingPointError(
      f'the loss or the gradient of update {update} is not finite; the last'
      ' checkpoint is kept. Lower config.optim.learning_rate or set'
      ' config.optim.clip_norm'
    )
