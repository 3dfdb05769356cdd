"""Age arithmetic as a task: problems drawn on the device, ages inferred.

`predict` reads problems such as `A = B + 12; ...; F = 31; G = ?`, one a line;
`rrn.ages.data` has the grammar.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError
from core.lines import answer_lines
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from rrn import answer
from rrn.ages import data, plots, problems
from rrn.ages.model import ModelConfig, make_model

# Of the keys of evaluation; no config.seed should be one of them.
_SEEDS = {'validation': 711_128, 'test': 711_129}
_MAX_JUMPS = len(data.PERSONS) - 1
_KNOWN_BEFORE = 0.3  # weight of the loss of such an age, by trial


def make_task(config: ml_collections.ConfigDict) -> 'AgesTask':
  """Builds the task from its config."""
  return AgesTask(config)


class AgesTask:
  """Palm et al. 2018, section 3.4. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Builds the network."""
    return make_model(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """'tree', the numbers of the split's trees."""
    return {'tree': data.split_trees()[split]}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws trees and problems on them: see `problems.draw`."""
    del step
    tree_key, draw_key = jax.random.split(key)
    trees = jax.random.choice(tree_key, arrays['tree'], (size,))
    return jax.vmap(problems.draw)(jax.random.split(draw_key, size), trees)

  def loss(
    self, model: nnx.Module, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Cross-entropy of the answers, averaged over steps and problems.

    With a `fact_loss` (ours), only of those that messages can have told by the
    step; and added to it that of the ages of each fact's two persons, likewise.
    Ages in facts that a step before could tell count less.
    """
    config = self.model_config
    problem = batch['facts'], batch['question']
    if not config.fact_loss:
      logits = model(*problem, num_steps=config.num_steps, key=key)
      return answer.loss(logits, batch['answer'])
    logits, fact_logits = model.infer_facts(
      *problem, num_steps=config.num_steps, key=key
    )
    _, metrics = answer.loss(logits, batch['answer'])
    jumps, steps = batch['fact_jumps'], 1 + jnp.arange(config.num_steps)
    jumps = jumps[None]
    is_known = batch['jumps'][None] <= steps[:, None]
    losses = layers.cross_entropy(logits, batch['answer'])
    answers = (losses * is_known).sum() / is_known.sum().clip(1)
    weights = jnp.where(jumps + 1 == steps[:, None, None], 1.0, _KNOWN_BEFORE)
    weights *= jumps < steps[:, None, None]
    losses = layers.cross_entropy(fact_logits, batch['fact_ages']).mean(-1)
    facts = (losses * weights).sum() / weights.sum()
    right = (fact_logits[-1].argmax(-1) == batch['fact_ages']).all(-1)
    metrics['facts'] = Metric.mean(right, jumps < config.num_steps)
    return config.answer_loss * answers + config.fact_loss * facts, metrics

  def evaluators(self) -> dict[str, Evaluator]:
    """'validation' while training, 'test' by eval: a problem a tree.

    The paper has no validation trees: ours are trees of training, with problems
    that training does not draw.
    """
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """As `batch`; the key is a function of the tree."""
    trees = data.split_trees()['test' if split == 'test' else 'train']
    if split == 'validation':
      trees = trees[: self.evals.num_validation]
    key = jax.random.key(_SEEDS[split])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, trees)
    drawn = jax.jit(jax.vmap(problems.draw))(keys, jnp.asarray(trees))
    return jax.tree.map(np.asarray, drawn)

  def _measure(self, model: nnx.Module, batch: Batch) -> Metrics:
    """Accuracy by step and number of jumps."""
    steps = max(self.evals.num_steps)
    logits = model(batch['facts'], batch['question'], num_steps=steps)
    return answer.measure(
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
  ) -> dict[str, Figure]:
    """Accuracy against step, a line for each number of jumps."""
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
    """Answers each line's question with an age; see `data.parse`."""
    graphdef, params = nnx.split(model)
    steps = max(self.evals.num_steps)

    @jax.jit
    def solve(params, batch):
      model = nnx.merge(graphdef, params)
      logits = model(batch['facts'], batch['question'], num_steps=steps)
      return logits[-1].argmax(-1)

    for age in answer_lines(
      lines, parse=data.parse, solve=functools.partial(solve, params)
    ):
      yield age if isinstance(age, UserError) else str(age)
