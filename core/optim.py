"""Build the optimizer and its learning-rate schedule from `config.optim`."""

import re

import jax
import optax
import optax.contrib
from ml_collections import ConfigDict

from core.errors import UserError, check_choice

_OPTIMIZERS = 'sgd', 'adam', 'adamw', 'muon'
_SCHEDULES = 'constant', 'cosine', 'staircase'


def make_optimizer(
  optim: ConfigDict, total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Build the optimizer and its learning-rate schedule.

  Args:
    optim: the section `optim` of the config.
    total_steps: number of updates; the cosine schedule ends there.

  Returns:
    The optax chain, and the learning rate as a function of the step.

  Raises:
    UserError: the optimizer or the schedule is unknown, or a staircase schedule
      has a warm-up.
  """
  check_choice('config.optim.name', optim.name, _OPTIMIZERS)
  schedule = _make_schedule(optim, total_steps)
  adam = {'b1': optim.b1, 'b2': optim.b2, 'eps': optim.eps}
  if optim.name == 'sgd':
    update = optax.sgd(schedule)
  elif optim.name == 'adam':
    update = optax.adam(schedule, **adam)
  elif optim.name == 'adamw':
    update = optax.adamw(
      schedule,
      **adam,
      weight_decay=optim.weight_decay,
      mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )
  else:  # 'muon'
    dimensions = optax.contrib.MuonDimensionNumbers()
    matches = _mask(optim.muon_paths)
    update = optax.contrib.muon(
      schedule,
      eps=optim.eps,
      weight_decay=optim.weight_decay,
      adam_b1=optim.b1,
      adam_b2=optim.b2,
      # optax updates the parameters whose entry is None with Adam.
      muon_weight_dimension_numbers=lambda params: jax.tree.map(
        lambda match, x: dimensions if match and x.ndim > 1 else None,
        matches(params),
        params,
      ),
      beta=optim.muon_beta,
      # Match the size of AdamW's updates, so that both share a learning rate.
      consistent_rms=0.2,
    )
  chain: list[optax.GradientTransformation] = []
  if optim.l2:  # a term of the loss, so clipping includes its gradient
    chain.append(optax.add_decayed_weights(optim.l2, _mask(optim.l2_paths)))
  if optim.clip_norm:
    chain.append(optax.clip_by_global_norm(optim.clip_norm))
  chain.append(update)
  return optax.chain(*chain), schedule


def _mask(pattern: str):
  """Return a function from parameters to bools: whether each path matches."""

  def matches(path, _):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return re.search(pattern, name) is not None

  return lambda params: jax.tree_util.tree_map_with_path(matches, params)


def _make_schedule(optim, total_steps: int) -> optax.Schedule:
  check_choice('config.optim.schedule', optim.schedule, _SCHEDULES)
  peak, warmup = optim.learning_rate, optim.warmup_steps
  # Start from peak / (warmup + 1), so that the first update is not 0.
  start = peak / (warmup + 1)
  if optim.schedule == 'constant':
    return optax.warmup_constant_schedule(start, peak, warmup)
  if optim.schedule == 'cosine':
    end = max(total_steps, warmup + 1)
    return optax.warmup_cosine_decay_schedule(start, peak, warmup, end)
  if warmup:
    raise UserError(
      f'config.optim.warmup_steps={warmup}: the staircase schedule has no'
      ' warm-up; set it to 0'
    )
  return optax.exponential_decay(
    peak,
    optim.decay_every,
    optim.decay_rate,
    optim.decay_begin,
    staircase=True,
  )
