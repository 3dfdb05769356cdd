"""The training state, one update, and the jitted call that makes many.

Models are NNX modules, but only plain dicts of arrays leave this file: the
module is split once and merged inside the jitted call.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from core import optim, sharding
from core.errors import UserError
from core.metrics import Metric
from core.task import Batch, CarryingTask, Metrics, Task


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that training carries from one update to the next.

  With `config.num_seeds` > 1, each array except `step` has a first axis of
  seeds.
  """

  params: Any  # nested dict of arrays
  average: Any  # their exponential moving average, or None
  opt_state: Any  # of the optax chain
  step: jax.Array  # number of completed updates, int32
  carry: Any = ()  # the task's, examples on the first axis; () for none

  @property
  def evaluated(self):
    """The parameters that are evaluated and shipped."""
    return self.params if self.average is None else self.average


_NO_STEP = 2**31 - 1  # no update folds this number into the key
# The axis of the seeds of a population.
# pyrefly: ignore[bad-argument-type]
_SEED_AXES = TrainState(params=0, average=0, opt_state=0, step=None, carry=0)


@dataclasses.dataclass(frozen=True)
class Program:
  """The compiled life of a run.

  `update` maps (state, arrays) to (state, metrics, losses). It makes K =
  `steps_per_call` updates and donates the state. The metrics are merged over
  updates and seeds. The losses are [K], or [K, S] for S > 1 seeds; they are NaN
  also if the gradient or the new parameters are not finite.
  """

  merge: Callable[[Any], nnx.Module]  # parameters -> model
  abstract_state: TrainState  # shapes, types and shardings
  init: Callable[[], TrainState]
  update: Callable[..., tuple[TrainState, Metrics, jax.Array]]
  # Number of steps -> an `update` of that many.
  make_update: Callable[[int], Callable]


def make_program(task: Task, config: ConfigDict, mesh: Mesh) -> Program:
  """Build the jitted functions of a run on a mesh.

  Raises:
    UserError: batch, micro-batch, and mesh do not divide.
  """
  num_micro = num_microbatches(config, mesh)
  num_parts = num_micro * sharding.num_batch_shards(mesh, config.num_seeds)
  optimizer, schedule = optim.make_optimizer(config.optim, config.total_steps)
  merge = make_merge(task)
  split = functools.partial(
    sharding.batch_sharding, mesh, num_seeds=config.num_seeds
  )

  def loss_fn(params, batch, carry, key):
    model = merge(params)
    if not jax.tree.leaves(carry):
      loss, metrics = task.loss(model, batch, key)
      return loss, (metrics, carry)
    carrying = cast(CarryingTask, task)
    loss, metrics, carry = carrying.loss(model, batch, key, carry)
    return loss, (metrics, carry)

  def update(key, state: TrainState, arrays: Mapping[str, jax.Array]):
    key = jax.random.fold_in(key, state.step)
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch(
      batch_key, arrays, size=config.batch_size, step=state.step
    )
    for name, x in batch.items():
      if len(x) % num_parts:
        raise UserError(
          f'config.batch_size={config.batch_size}: {len(x)} rows of {name!r}'
          f' do not divide into {num_parts} micro-batches, of all devices'
          ' together; change it, config.microbatch or config.mesh'
        )
    metrics, grads, carry = _gradients(
      loss_fn, state.params, batch, state.carry, loss_key, num_micro, split
    )
    # Optax mixes types, which JAX_NUMPY_DTYPE_PROMOTION=strict refuses.
    with jax.numpy_dtype_promotion('standard'):
      metrics['learning_rate'] = Metric.mean(schedule(state.step))
      updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params
      )
    params = optax.apply_updates(state.params, updates)
    # The norm is not finite if the new parameters are not.
    norm = optax.tree.norm(grads) + 0 * optax.tree.norm(params)
    metrics['gradient_norm'] = Metric.mean(norm)
    average = state.average
    if average is not None:
      # Young averages forget the initialization faster.
      young = (1 + state.step) / (10 + state.step)
      decay = jnp.minimum(config.optim.ema_decay, young)
      average = optax.incremental_update(params, average, 1 - decay)
    return (
      TrainState(params, average, opt_state, state.step + 1, carry),
      metrics,
    )

  update_all = _for_each_seed(
    update, (_SEED_AXES, None), (_SEED_AXES, 0), config, mesh
  )

  def update_call(state, arrays, *, num_steps):
    state, metrics = jax.lax.scan(
      lambda state, _: update_all(state, arrays), state, length=num_steps
    )
    # Not finite if the loss, the gradient, or the parameters are not.
    health = metrics['loss'].result() + 0 * metrics['gradient_norm'].result()
    merged = (0, 1) if config.num_seeds > 1 else 0
    return state, jax.tree.map(lambda x: x.sum(merged), metrics), health

  init = make_init(task, config, mesh)
  abstract_state = init.eval_shape()
  shardings = jax.tree.map(lambda x: x.sharding, abstract_state)
  whole = sharding.replicated(mesh)

  def make_update(num_steps):
    return jax.jit(
      functools.partial(update_call, num_steps=num_steps),
      in_shardings=(shardings, whole),
      out_shardings=(shardings, whole, whole),
      donate_argnums=0,
    )

  return Program(
    merge, abstract_state, init, make_update(config.steps_per_call), make_update
  )


def make_init(task: Task, config: ConfigDict, mesh: Mesh):
  """Return () -> state on the mesh, jitted.

  Raises:
    UserError: `config.num_seeds` is less than 1.
  """
  if config.num_seeds < 1:
    raise UserError(f'config.num_seeds={config.num_seeds}: 1 or more expected')
  optimizer, _ = optim.make_optimizer(config.optim, config.total_steps)

  def init(key) -> TrainState:
    model = task.make_model(nnx.Rngs(key))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    has_average = config.optim.ema_decay > 0
    average = jax.tree.map(jnp.copy, params) if has_average else None
    step = jnp.zeros((), jnp.int32)
    carry = ()
    if hasattr(task, 'init_carry'):
      carry_key = jax.random.fold_in(key, _NO_STEP)
      carry = task.init_carry(carry_key, config.batch_size)
    return TrainState(params, average, optimizer.init(params), step, carry)

  init_all = _for_each_seed(init, (), _SEED_AXES, config, mesh)
  shardings = sharding.state_shardings(
    jax.eval_shape(init_all), mesh, config.num_seeds
  )
  return jax.jit(init_all, out_shardings=shardings)


def make_merge(task: Task) -> Callable[[Any], nnx.Module]:
  """Return parameters -> model."""
  model = nnx.eval_shape(lambda: task.make_model(nnx.Rngs(0)))
  graphdef, _ = nnx.split(model, nnx.Param)
  return lambda params: nnx.merge(graphdef, params)


def _for_each_seed(fn, in_axes: tuple, out_axes, config, mesh: Mesh):
  """Turn fn(key, *args) for one seed into a function of `args` for all seeds.

  Axes are those of the seeds, as in `jax.vmap`; a single seed has none.
  """
  if config.num_seeds == 1:
    return lambda *args: fn(jax.random.key(config.seed), *args)
  mapped = jax.vmap(
    fn,
    in_axes=(0, *in_axes),
    out_axes=out_axes,
    spmd_axis_name=sharding.seed_axes(mesh, config.num_seeds) or None,
  )

  def run(*args):
    seeds = config.seed + jnp.arange(config.num_seeds)
    seeds = jax.lax.with_sharding_constraint(
      seeds, sharding.seed_sharding(mesh, config.num_seeds)
    )
    return mapped(jax.vmap(jax.random.key)(seeds), *args)

  return run


def num_microbatches(config: ConfigDict, mesh: Mesh) -> int:
  """Return into how many parts the batch of each device is split.

  Raises:
    UserError: batch, micro-batch, and mesh do not divide.
  """
  shards = sharding.num_batch_shards(mesh, config.num_seeds)
  if config.batch_size % shards:
    raise UserError(
      f'config.batch_size={config.batch_size} is not divisible by {shards}'
      ' devices; use a multiple, or set config.mesh.data'
    )
  on_device = config.batch_size // shards
  size = min(config.microbatch or on_device, on_device)
  if on_device % size:
    raise UserError(
      f'config.microbatch={size} does not divide the {on_device} examples of a'
      ' device; use a divisor'
    )
  return on_device // size


def _gradients(
  loss_fn, params, batch: Batch, carry, key, num_micro: int, split
):
  """Return metrics (with 'loss') and gradients, averaged over micro-batches.

  The third result is the carry after the update. `split(axis=n)` is the
  sharding of examples on axis n.
  """

  def one(batch, carry, key):
    batch, carry = jax.lax.with_sharding_constraint((batch, carry), split())
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (metrics, carry)), grads = grad_fn(params, batch, carry, key)
    return ({'loss': Metric.mean(loss)} | metrics, grads), carry

  if num_micro == 1:
    (metrics, grads), carry = one(batch, carry, key)
    return metrics, grads, carry
  # Each micro-batch takes its share of every device's examples.
  micro = jax.tree.map(
    lambda x: x.reshape(-1, num_micro, *x.shape[1:]).swapaxes(0, 1),
    (batch, carry),
  )
  micro = jax.lax.with_sharding_constraint(micro, split(axis=1))
  inputs = *micro, jax.random.split(key, num_micro)
  shapes, _ = jax.eval_shape(one, *jax.tree.map(lambda x: x[0], inputs))

  def accumulate(sums, inputs):
    terms, carry = one(*inputs)
    return jax.tree.map(jnp.add, sums, terms), carry

  (metrics, grads), carry = jax.lax.scan(
    accumulate, optax.tree.zeros_like(shapes), inputs
  )
  carry = jax.tree.map(
    lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), carry
  )
  carry = jax.lax.with_sharding_constraint(carry, split())
  return metrics, jax.tree.map(lambda g: g / num_micro, grads), carry
