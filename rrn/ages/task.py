"""The age arithmetic task: problems drawn on the device.

`predict` reads one problem per line, such as `A = B + 12; ...; F = 31; G = ?`;
`rrn.ages.data` defines the format.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epy
from flax import nnx

from core import answers, layers
from core.answers import Answer
from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from rrn import graph_readout
from rrn.ages import data, problems
from rrn.ages.model import ModelConfig, make_model

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from rrn.ages import plots

# Seeds of the evaluation sets; config.seed should differ from them.
_SEEDS = {'validation': 711_128, 'test': 711_129}
_MAX_JUMPS = len(data.PERSONS) - 1
# Loss weight of a fact after the first step that can infer it; tuned by hand.
_LATER_FACT_WEIGHT = 0.3


def make_task(config: ml_collections.ConfigDict) -> 'AgesTask':
  """Build the task from its config."""
  return AgesTask(config)


class AgesTask:
  """Implements `core.task.Task` for age arithmetic (Palm et al. 2018, 3.4)."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_steps',
      'model.message_layers',
      'model.node_layers',
      'evals.num_validation',
    )
    check_numbers(config, 'evals.num_steps')
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the network."""
    return make_model(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'tree', the numbers of the trees of a split."""
    return {'tree': data.split_trees()[split]}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draw trees and problems on them, see `problems.draw`."""
    del step
    tree_key, draw_key = jax.random.split(key)
    trees = jax.random.choice(tree_key, arrays['tree'], (size,))
    return jax.vmap(problems.draw)(jax.random.split(draw_key, size), trees)

  def loss(
    self, model: nnx.Module, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the cross-entropy, averaged over steps and problems.

    With a `fact_loss` (ours), return answer_loss * (answers) + fact_loss *
    (facts): the cross-entropy of the answers, and of both people's ages in each
    fact. A step includes only answers and facts that messages can have reached
    by then. A fact has a smaller weight after the first step that can infer it.
    """
    config = self.model_config
    problem = batch['facts'], batch['question']
    if not config.fact_loss:
      logits = model(*problem, num_steps=config.num_steps, key=key)
      return graph_readout.loss(logits, batch['answer'])
    logits, fact_logits = model.infer_facts(
      *problem, num_steps=config.num_steps, key=key
    )
    _, metrics = graph_readout.loss(logits, batch['answer'])
    steps = 1 + jnp.arange(config.num_steps)
    is_reached = (batch['jumps'][None] <= steps[:, None]).astype(jnp.float32)
    losses = layers.cross_entropy(logits, batch['answer'])
    answer_loss = (losses * is_reached).sum() / is_reached.sum().clip(1)
    # `fact_jumps` is the distance of the nearer person. Therefore, both ages of
    # a fact can be inferred one step later.
    first_step = batch['fact_jumps'][None] + 1
    weights = jnp.where(
      first_step == steps[:, None, None], 1.0, _LATER_FACT_WEIGHT
    )
    weights = jnp.where(first_step <= steps[:, None, None], weights, 0)
    fact_losses = layers.cross_entropy(fact_logits, batch['fact_ages']).mean(-1)
    fact_loss = (fact_losses * weights).sum() / weights.sum()
    is_correct = (fact_logits[-1].argmax(-1) == batch['fact_ages']).all(-1)
    metrics['facts'] = Metric.mean(is_correct, first_step <= config.num_steps)
    total = config.answer_loss * answer_loss + config.fact_loss * fact_loss
    return total, metrics

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', used in training, and 'test', for `--mode=eval`.

    Each has one problem per tree. The paper has no validation trees; ours are
    training trees with problems that training does not draw.
    """
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Return problems as in `batch`, with a key that depends on the tree."""
    trees = data.split_trees()['test' if split == 'test' else 'train']
    if split == 'validation':
      trees = trees[: self.evals.num_validation]
    key = jax.random.key(_SEEDS[split])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, trees)
    drawn = jax.jit(jax.vmap(problems.draw))(keys, jnp.asarray(trees))
    return jax.tree.map(np.asarray, drawn)

  def _measure(self, model: nnx.Module, batch: Batch) -> Metrics:
    """Measure the accuracy by step and number of jumps."""
    steps = max(self.evals.num_steps)
    logits = model(batch['facts'], batch['question'], num_steps=steps)
    return graph_readout.measure(
      logits,
      batch['answer'],
      batch['jumps'],
      batch['weight'],
      max_jumps=_MAX_JUMPS,
      steps=self.evals.num_steps,
      is_independent=True,
    )

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Any]:
    """Plot the accuracy by step and number of jumps."""
    del model
    trained = self.model_config.num_steps
    return {
      name.replace('/', '_'): plots.accuracy_by_step(curve, trained)
      for name, curve in values.items()
      if name.endswith('/accuracy_by_step')
    }

  def predict(
    self, model: nnx.Module, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answer the question of each line with an age, see `data.parse`.

    The facts determine the correct age, so every answer is scored.
    """
    graphdef, params = nnx.split(model)
    steps = max(self.evals.num_steps)

    @jax.jit
    def solve(params, batch):
      model = nnx.merge(graphdef, params)
      logits = model(batch['facts'], batch['question'], num_steps=steps)
      return logits[-1].argmax(-1)

    return answers.answer_problems(
      answers.map_lines(lines, data.parse),
      encode=lambda problem: problem,
      solve=functools.partial(solve, params),
      finish=_compare,
    )


def _compare(problem: Mapping[str, np.ndarray], age: np.integer) -> Answer:
  return answers.compare(str(int(age)), str(int(problem['answer'])))
