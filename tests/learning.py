"""Train on one small batch, and find parameters that get no gradient."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from core import step


def compiled(function, model, *args, **kwargs):
  """Return `function(model, ...)`, compiled, which is much faster."""
  graphdef, params = nnx.split(model)

  @jax.jit
  def call(params, *args, **kwargs):
    return function(nnx.merge(graphdef, params), *args, **kwargs)

  return call(params, *args, **kwargs)


def draw(made, size=8):
  """Draw a batch of a task's training data at a late step."""
  arrays = jax.tree.map(jnp.asarray, dict(made.arrays('train')))
  key = jax.random.key(0)
  return made.batch(key, arrays, size=size, step=jnp.asarray(10**6))


def train(made, batch, *, num_updates=400, rate=1e-2):
  """Train a new model of a task with Adam and a cosine schedule.

  With clipped gradients and a decaying learning rate, the result hardly depends
  on how a machine rounds.

  Returns:
    Whether each parameter has a gradient at the start, the trained model, and
    its (loss, metrics).
  """
  merge = step.make_merge(made)
  model = made.make_model(nnx.Rngs(0))
  params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
  schedule = optax.cosine_decay_schedule(rate, num_updates)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

  def loss(params):
    return made.loss(merge(params), batch, jax.random.key(0))

  @jax.jit
  def run(params):
    def update(carry, _):
      params, state = carry
      grads = jax.grad(loss, has_aux=True)(params)[0]
      with jax.numpy_dtype_promotion('standard'):  # Optax mixes types
        updates, state = optimizer.update(grads, state)
      return (optax.apply_updates(params, updates), state), None

    grads = jax.grad(loss, has_aux=True)(params)[0]
    start = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(update, start, length=num_updates)
    has_grad = jax.tree.map(lambda g: (jnp.isfinite(g) & (g != 0)).any(), grads)
    return has_grad, params, loss(params)

  has_grad, params, outcome = run(params)
  return has_grad, merge(params), outcome


def learn(made, batch, **settings):
  """Train with `train`, and summarize the result.

  Returns:
    The paths of the parameters without a gradient at the start, and the loss
    and the metrics at the end.
  """
  has_grad, _, (value, metrics) = train(made, batch, **settings)
  without_gradient = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, some in jax.tree_util.tree_leaves_with_path(has_grad)
    if not some
  }
  return without_gradient, value, {k: m.result() for k, m in metrics.items()}
