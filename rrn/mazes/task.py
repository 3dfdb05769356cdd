"""The maze task: mazes drawn on the device, and paths read at each step.

`predict` reads mazes as text, and writes them with dots on the path;
`rrn.mazes.data` defines the format.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from etils import epy
from flax import nnx

from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, replace_examples
from rrn.mazes import generate, predict
from rrn.mazes.model import MazeNetwork, ModelConfig

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from rrn.mazes import plots

# Seeds of the evaluation sets; config.seed should differ from them.
_SEEDS = {'validation': 901_701, 'test': 901_702}
_STEPS_PER_CALL = 8  # between two measurements


def make_task(config: ml_collections.ConfigDict) -> 'MazeTask':
  """Build the task from its config."""
  return MazeTask(config)


class MazeTask:
  """Implements `core.task.CarryingTask` for mazes (ours)."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_steps',
      'model.message_layers',
      'model.node_layers',
      'evals.num_mazes',
    )
    check_numbers(config, 'evals.maze_sizes', least=2)
    check_numbers(
      config,
      'evals.max_steps',
      least=_STEPS_PER_CALL,
      lengths=[len(config.evals.maze_sizes)],
    )
    if config.data.maze_size < 2:
      raise UserError(
        f'config.data.maze_size={config.data.maze_size}: expected at least 2'
      )
    self.model_config = ModelConfig(**config.model)
    self.size = config.data.maze_size
    self.evals = config.evals
    # Rows and columns of test mazes -> largest number of steps.
    self.max_steps = dict(
      zip(config.evals.maze_sizes, config.evals.max_steps, strict=True)
    )
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> MazeNetwork:
    """Build the network."""
    return MazeNetwork(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return no arrays: mazes are drawn on the device."""
    del split
    return {}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draw mazes, see `generate.draw`."""
    del arrays, step
    return draw_mazes(key, size, self.size)

  def init_carry(self, key: jax.Array, size: int) -> dict[str, Any]:
    """Return `size` placeholder mazes, all marked done.

    The first update replaces them with mazes of its batch.
    """
    del key
    grid = size, self.size, self.size
    no_cells = jnp.zeros(grid, bool)
    states = nnx.eval_shape(
      lambda: self.make_model(nnx.Rngs(0)).init_states(no_cells)
    )
    return {
      'passages': jnp.zeros((*grid, 2), bool),
      'ends': no_cells,
      'path': no_cells,
      'is_done': jnp.ones(size, bool),
      'states': optax.tree.zeros_like(states),
    }

  def loss(
    self, model: Any, batch: Batch, key: jax.Array, carry: Any
  ) -> tuple[jax.Array, Metrics, Any]:
    """Return the cross-entropy over steps, mazes, and cells.

    Mazes of the batch replace those that are done. After each update, a maze is
    done with a fixed probability. Therefore, training covers states after any
    number of steps.
    """
    config = self.model_config
    is_done = carry['is_done']
    new = batch | {
      'is_done': jnp.zeros_like(is_done),
      'states': model.init_states(batch['ends']),
    }
    carry = replace_examples(carry, new, is_done)
    states, logits = model.advance(
      carry['passages'],
      carry['ends'],
      carry['states'],
      num_steps=config.num_steps,
    )
    target = carry['path'].astype(jnp.float32)
    losses = optax.sigmoid_binary_cross_entropy(logits, target[None])
    is_right = (logits[-1] > 0) == carry['path']
    carry |= {
      'is_done': jax.random.bernoulli(
        key, config.num_steps / config.mean_steps, is_done.shape
      ),
      'states': jax.lax.stop_gradient(states),
    }
    metrics = {
      'cells': Metric.mean(is_right),
      'solved': Metric.mean(is_right.all((1, 2))),
    }
    return losses.mean(), metrics, carry

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', used in training, and a test set for each size.

    Validation mazes have the size of the training mazes. The two splits have
    different seeds. The keys of the test sets share a seed and depend on the
    size. Two sets of 9 x 9 mazes almost certainly have no maze in common.
    """
    sets = {
      f'test/size_{size}': ('test', size, max_steps)
      for size, max_steps in self.max_steps.items()
    }
    sets['validation'] = 'validation', self.size, self.evals.max_steps[0]
    return {
      name: Evaluator(
        arrays=functools.partial(self._evaluation_set, split, size),
        measure=functools.partial(self._measure, max_steps),
        batch_size=self.evals.batch_size,
        every=self.evals.every if split == 'validation' else 0,
      )
      for name, (split, size, max_steps) in sets.items()
    }

  def _evaluation_set(self, split: str, size: int) -> dict[str, np.ndarray]:
    key = jax.random.fold_in(jax.random.key(_SEEDS[split]), size)
    drawn = draw_mazes(key, self.evals.num_mazes, size)
    return jax.tree.map(np.asarray, drawn)

  def _measure(self, max_steps: int, model: Any, batch: Batch) -> Metrics:
    """Measure the share of mazes whose cells are all right, by steps."""

    def advance(states, _):
      states, logits = model.advance(
        batch['passages'], batch['ends'], states, num_steps=_STEPS_PER_CALL
      )
      return states, (logits[-1] > 0) == batch['path']

    calls = max_steps // _STEPS_PER_CALL
    states = model.init_states(batch['ends'])
    _, is_right = jax.lax.scan(advance, states, length=calls)
    weight, metrics = batch['weight'], {}
    for steps in step_counts(max_steps):
      right = is_right[steps // _STEPS_PER_CALL - 1]
      metrics |= {
        f'steps_{steps}/solved': Metric.mean(right.all((1, 2)), weight),
        f'steps_{steps}/cells': Metric.mean(
          right, weight[:, None, None], is_independent=False
        ),
      }
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Any]:
    """Plot the share of solved test mazes against the steps, by size."""
    del model
    curves = {}
    for size, max_steps in self.max_steps.items():
      names = {
        steps: f'test/size_{size}/steps_{steps}/solved'
        for steps in step_counts(max_steps)
      }
      if values.keys() >= set(names.values()):
        curves[f'{size} x {size}'] = {k: values[v] for k, v in names.items()}
    if not curves:
      return {}
    return {'solved_by_steps': plots.solved_by_steps(curves, self.size)}

  def predict(
    self, model: Any, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Mark the path of each maze with dots; see `predict.answer`."""
    return predict.answer(model, lines)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw_mazes(key: jax.Array, count: int, size: int) -> Batch:
  """Draw `count` mazes of `size` x `size` cells; see `generate.draw`."""
  draw = functools.partial(generate.draw, size=size)
  return jax.vmap(draw)(jax.random.split(key, count))


def step_counts(max_steps: int) -> list[int]:
  """Return the powers of two from 8 to `max_steps`."""
  return [2**k for k in range(3, max_steps.bit_length())]
