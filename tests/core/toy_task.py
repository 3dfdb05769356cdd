"""A toy task that trains in microseconds: linear regression."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs import common
from configs.rrn import sudoku
from core.metrics import Metric
from core.task import Evaluator


class ToyModel(nnx.Module):
  """y = x @ kernel + bias."""

  def __init__(self, width: int, rngs: nnx.Rngs):
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), (width, 1)))
    self.bias = nnx.Param(jnp.zeros(1))

  def __call__(self, x):
    return (x @ self.kernel[...] + self.bias[...][None])[:, 0]


@dataclasses.dataclass(frozen=True)
class ToyTask:
  """Implements `core.task.Task`.

  Attributes:
    width: width of the inputs.
    nan_update: number of the update whose loss is NaN; 0 for none.
  """

  width: int = 4
  nan_update: int = 0

  def make_model(self, rngs):
    return ToyModel(self.width, rngs)

  def arrays(self, split):
    return {'slope': np.linspace(-1, 1, self.width, dtype=np.float32)}

  def batch(self, key, arrays, *, size, step):
    x = jax.random.normal(key, (size, self.width))
    y = x @ arrays['slope']
    return {'x': x, 'y': jnp.where(step + 1 == self.nan_update, jnp.nan, y)}

  def loss(self, model, batch, key):
    errors = (model(batch['x']) - batch['y']) ** 2
    return errors.mean(), {'small': Metric.mean(errors < 0.1)}

  def evaluators(self):
    return {
      'test': Evaluator(
        arrays=self._evaluation_set,
        measure=lambda model, batch: {
          'error': Metric.mean(
            (model(batch['x']) - batch['y']) ** 2, batch['weight']
          )
        },
        batch_size=4,
        every=2,
      )
    }

  def _evaluation_set(self):
    x = np.random.default_rng(0).normal(size=(13, self.width))
    return {
      'x': x.astype(np.float32),
      'y': (x @ np.linspace(-1, 1, self.width)).astype(np.float32),
    }

  def predict(self, model, lines):
    return iter(())


def make_config(**changes):
  """Return a config of six updates that records everything.

  `changes` maps dotted names of leaves to new values.
  """
  config = sudoku.get_config()
  config.update(common.default_config())
  config.task = 'rrn.sudoku'  # any existing task
  config.total_steps = 6
  config.batch_size = 16
  config.optim.learning_rate = 0.1
  config.optim.ema_decay = 0.9
  config.log.every = 1
  config.checkpoint.every = 2
  config.update_from_flattened_dict(changes)
  return config
