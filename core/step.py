"""The training state, one update, and the jitted call of many updates.

Models are NNX modules, but the training state holds their parameters as plain
nested dicts of arrays. The jitted functions merge the parameters into a module.
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
  ema_params: Any  # their exponential moving average, or None
  opt_state: Any  # of the optax chain
  step: jax.Array  # number of completed updates, int32
  carry: Any = ()  # of the task, with examples on the first axis; () for none

  @property
  def eval_params(self):
    """The parameters that are evaluated and shipped."""
    return self.params if self.ema_params is None else self.ema_params


_CARRY_STEP = 2**31 - 1  # folded into the key of the first carry; never a step
# The axis of the seeds in each field.
# pyrefly: ignore[bad-argument-type]
_SEED_AXES = TrainState(params=0, ema_params=0, opt_state=0, step=None, carry=0)


@dataclasses.dataclass(frozen=True)
class Program:
  """The compiled functions of a run.

  Attributes:
    merge: parameters -> model.
    abstract_state: shapes, types, and shardings of the state.
    init: () -> the initial state.
    update: (state, arrays) -> (state, metrics, losses). It makes K =
      `steps_per_call` updates and donates the state. The metrics are merged
      over updates and seeds. The losses are [K], or [K, S] for S > 1 seeds. A
      loss is also NaN if the gradient or the new parameters are not finite.
    make_update: number of updates -> an `update` with that many updates.
  """

  merge: Callable[[Any], nnx.Module]
  abstract_state: TrainState
  init: Callable[[], TrainState]
  update: Callable[..., tuple[TrainState, Metrics, jax.Array]]
  make_update: Callable[[int], jax.stages.Wrapped]


def make_program(task: Task, config: ConfigDict, mesh: Mesh) -> Program:
  """Build the jitted functions of a run on a mesh.

  Raises:
    UserError: the batch is not divisible by the micro-batches and the mesh.
  """
  merge = make_merge(task)
  update = _for_each_seed(
    _make_single_update(task, config, mesh, merge),
    in_axes=(_SEED_AXES, None),
    out_axes=(_SEED_AXES, 0),
    config=config,
    mesh=mesh,
  )

  def update_call(state, arrays, *, num_steps):
    state, (metrics, is_finite) = jax.lax.scan(
      lambda state, _: update(state, arrays), state, length=num_steps
    )
    losses = jnp.where(is_finite, metrics['loss'].result(), jnp.nan)
    summed_axes = (0, 1) if config.num_seeds > 1 else 0
    return state, jax.tree.map(lambda x: x.sum(summed_axes), metrics), losses

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
    merge=merge,
    abstract_state=abstract_state,
    init=init,
    update=make_update(config.steps_per_call),
    make_update=make_update,
  )


def _make_single_update(task: Task, config: ConfigDict, mesh: Mesh, merge):
  """Return the function for one update of one seed.

  It maps (key, state, arrays) to (state, (metrics, is_finite)). `is_finite`
  tells whether the gradient and the new parameters are finite.
  """
  num_parts = num_microbatches(config, mesh) * sharding.num_batch_shards(
    mesh, config.num_seeds
  )
  optimizer, schedule = optim.make_optimizer(config.optim, config.total_steps)

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
    _check_rows(batch, config.batch_size, num_parts)
    metrics, grads, carry = _gradients(
      loss_fn,
      state.params,
      batch,
      state.carry,
      loss_key,
      num_parts=num_parts if config.microbatch_size else 1,
      mesh=mesh,
      num_seeds=config.num_seeds,
    )
    # Optax mixes types, which is an error with strict type promotion.
    with jax.numpy_dtype_promotion('standard'):
      metrics['learning_rate'] = Metric.mean(schedule(state.step))
      updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params
      )
    params = optax.apply_updates(state.params, updates)
    norm = optax.tree.norm(grads)
    metrics['gradient_norm'] = Metric.mean(norm)
    is_finite = jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    ema_params = _update_average(state, params, config.optim.ema_decay)
    state = TrainState(params, ema_params, opt_state, state.step + 1, carry)
    return state, (metrics, is_finite)

  return update


def _check_rows(batch: Batch, batch_size: int, num_parts: int):
  """Raise UserError if a column cannot be split into `num_parts` parts."""
  for name, x in batch.items():
    if len(x) % num_parts:
      raise UserError(
        f'config.batch_size={batch_size}: {len(x)} rows of {name!r} are not'
        f' divisible by {num_parts}, the number of micro-batches of all'
        ' devices; change config.batch_size, config.microbatch_size, or'
        ' config.mesh'
      )


def _update_average(state: TrainState, params, decay: float):
  """Return the average of the parameters, or None if the state has none."""
  if state.ema_params is None:
    return None
  # A smaller decay at the start forgets the initialization faster.
  decay_now = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
  return optax.incremental_update(params, state.ema_params, 1 - decay_now)


def make_init(task: Task, config: ConfigDict, mesh: Mesh):
  """Return the jitted function without arguments for the initial state.

  Raises:
    UserError: `config.num_seeds` is less than 1.
  """
  if config.num_seeds < 1:
    raise UserError(f'config.num_seeds={config.num_seeds}: expected at least 1')
  optimizer, _ = optim.make_optimizer(config.optim, config.total_steps)

  def init(key) -> TrainState:
    model = task.make_model(nnx.Rngs(key))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    has_ema = config.optim.ema_decay > 0
    ema_params = jax.tree.map(jnp.copy, params) if has_ema else None
    step = jnp.zeros((), jnp.int32)
    carry = ()
    if hasattr(task, 'init_carry'):
      carry_key = jax.random.fold_in(key, _CARRY_STEP)
      carry = task.init_carry(carry_key, config.batch_size)
    return TrainState(params, ema_params, optimizer.init(params), step, carry)

  init_all = _for_each_seed(
    init, in_axes=(), out_axes=_SEED_AXES, config=config, mesh=mesh
  )
  rules = (*sharding.MLP_RULES, *getattr(task, 'tensor_rules', ()))
  shardings = sharding.state_shardings(
    jax.eval_shape(init_all), mesh, config.num_seeds, rules
  )
  return jax.jit(init_all, out_shardings=shardings)


def make_merge(task: Task) -> Callable[[Any], nnx.Module]:
  """Return the function from parameters to the model of a task."""
  model = nnx.eval_shape(lambda: task.make_model(nnx.Rngs(0)))
  graphdef, _ = nnx.split(model, nnx.Param)
  return lambda params: nnx.merge(graphdef, params)


def _for_each_seed(fn, *, in_axes: tuple, out_axes, config, mesh: Mesh):
  """Map fn(key, *args) over the seeds, and return a function of `args`.

  `in_axes` and `out_axes` are the seed axes of `args` and of the result, as in
  `jax.vmap`. A single seed has no such axis.
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
  """Return the number of micro-batches of each device.

  Raises:
    UserError: `batch_size` is not a multiple of the number of batch shards, or
      `microbatch_size` does not divide the examples of a shard.
  """
  shards = sharding.num_batch_shards(mesh, config.num_seeds)
  if config.batch_size % shards:
    raise UserError(
      f'config.batch_size={config.batch_size} is not divisible by {shards},'
      f' the number of batch shards; use a multiple of {shards}, or change'
      ' config.mesh.data or config.mesh.fsdp'
    )
  on_device = config.batch_size // shards
  size = min(config.microbatch_size or on_device, on_device)
  if on_device % size:
    raise UserError(
      f'config.microbatch_size={size} does not divide the {on_device} examples'
      ' of a device; use a divisor'
    )
  return on_device // size


def _gradients(
  loss_fn, params, batch: Batch, carry, key, *, num_parts: int, mesh, num_seeds
):
  """Return metrics with 'loss', mean gradients, and the next carry.

  The gradients are averaged over micro-batches of consecutive examples. Each
  micro-batch has its own key. The draws do not depend on the mesh if each
  device has at least `microbatch_size` examples. The devices communicate once,
  after the last micro-batch.
  """

  def gradients_of_part(params, batch, carry, key):
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (metrics, carry)), grads = grad_fn(params, batch, carry, key)
    return ({'loss': Metric.mean(loss)} | metrics, grads), carry

  split = sharding.batch_sharding(mesh, num_seeds=num_seeds)
  batch, carry = jax.lax.with_sharding_constraint((batch, carry), split)
  if num_parts == 1:
    (metrics, grads), carry = gradients_of_part(params, batch, carry, key)
    carry = jax.lax.with_sharding_constraint(carry, split)
    return metrics, grads, carry
  parts = jax.tree.map(
    lambda x: x.reshape(num_parts, -1, *x.shape[1:]), (batch, carry)
  )

  def accumulate(params, parts):
    first = jax.tree.map(lambda x: x[0], parts)
    shapes, _ = jax.eval_shape(gradients_of_part, params, *first)

    def add(sums, part):
      terms, carry = gradients_of_part(params, *part)
      return jax.tree.map(jnp.add, sums, terms), carry

    return jax.lax.scan(add, optax.tree.zeros_like(shapes), parts)

  (metrics, grads), carry = sharding.sum_over_shards(
    accumulate, mesh, num_seeds
  )(params, (*parts, jax.random.split(key, num_parts)))
  carry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), carry)
  return metrics, jax.tree.map(lambda g: g / num_parts, grads), carry
