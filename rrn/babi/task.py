"""bAbI as a task: questions drawn by task, answered after every step."""

import dataclasses
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError
from core.lines import answer_lines
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from rrn.babi import builder, data, plots, renaming
from rrn.babi.model import BabiNetwork, ModelConfig

FAILED_ABOVE = 0.05  # error of a task
_OFFSET_SEEDS = {'validation': 1, 'test': 2}


@jax.tree_util.register_dataclass
@typing.no_type_check  # JAX maps its fields to what it likes
@dataclasses.dataclass(frozen=True)
class FailedTasks(Metric):
  """How many tasks fail; sums wrong answers and questions of each task."""

  def result(self) -> jax.Array:
    """The number of tasks above `FAILED_ABOVE`."""
    return (self.total / self.weight > FAILED_ABOVE).sum(-1)


def make_task(config: ml_collections.ConfigDict) -> 'BabiTask':
  """Builds the task from its config."""
  return BabiTask(config)


class BabiTask:
  """Palm et al. 2018, section 3.1. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.tasks = builder.tasks(self.data.source)
    self.evals = config.evals
    self.microbatch = config.microbatch
    self.dtype = jnp.dtype(config.dtype)
    weights = self.data.task_weights
    right = len(weights) == len(self.tasks) and min(weights) >= 0 < max(weights)
    if weights and not right:
      raise UserError(
        f'config.data.task_weights={weights}: a weight of each of the'
        f' {len(self.tasks)} tasks expected, none below 0, not all 0; or ()'
      )

  def make_model(self, rngs: nnx.Rngs) -> BabiNetwork:
    """Builds the network."""
    return BabiNetwork(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Encoded questions [rows, ...], and each task's 'first' row and 'count'.

    Columns are 'facts', 'question', 'answer' and 'supports', as `data.encode`
    makes them; those of a task are sorted by the number of facts. 'end' is the
    row after the task's last question with no more facts than this one has.
    """
    columns = builder.load(self.data.source, split, data_dir=self.data.dir)
    order = np.lexsort((columns['num_facts'], columns['task']))
    columns = {name: column[order] for name, column in columns.items()}
    _, first, count = np.unique(
      columns['task'], return_index=True, return_counts=True
    )
    num_facts = columns['num_facts']
    rank = columns['task'] * (num_facts.max() + 1) + num_facts
    end = np.searchsorted(rank, rank, side='right')
    names = 'facts', 'question', 'answer', 'supports'
    return {name: columns[name] for name in names} | {
      'end': end.astype(np.int32),
      'first': first.astype(np.int32),
      'count': count.astype(np.int32),
    }

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draws tasks, a question of each, and the position of its first fact."""
    task_key, row_key, offset_key, name_key = jax.random.split(key, 4)
    weights = np.array(self.data.task_weights)
    task = jax.random.choice(
      task_key,
      len(arrays['first']),
      (size,),
      p=weights / weights.sum() if weights.size else None,
    )
    share = share_of_questions(step, self.data.curriculum)
    count = jnp.ceil(share * arrays['count']).astype(jnp.int32)
    first = arrays['first'][task]
    end = arrays['end'][first + count[task] - 1]
    row = jax.random.randint(row_key, (size,), first, end)
    batch = {
      name: arrays[name][row].astype(jnp.int32)
      for name in ('facts', 'question', 'answer')
    }
    if self.data.renaming:
      batch = renaming.rename(name_key, jnp.array(self.tasks)[task], batch)
    batch['supports'] = arrays['supports'][row]
    batch['offset'] = jax.random.randint(
      offset_key, (size,), 0, self.model_config.num_offsets
    )
    # Stories of like size into one micro-batch, which `core.step` takes from
    # all devices: every n-th example, n being the number of micro-batches.
    groups = size // (self.microbatch * jax.device_count() or size)
    if groups > 1 and size % groups == 0:
      num_facts = (batch['facts'][..., 0] > 0).sum(-1)
      order = jnp.argsort(num_facts).reshape(groups, -1).T.ravel()
      batch = jax.tree.map(lambda x: x[order], batch)
    return batch

  def loss(
    self, model: BabiNetwork, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Cross-entropy of the answers, averaged over steps and questions.

    With a `support_loss` (ours), that of which facts support the answer, summed
    over the facts, is added.
    """
    story = batch['facts'], batch['question'], batch['offset']
    weight, metrics = self.model_config.support_loss, {}
    if weight:
      logits, support = model.find_support(*story, key=key)
      exists = (batch['facts'] > 0).any(-1)
      losses = optax.sigmoid_binary_cross_entropy(support, batch['supports'])
      of_support = weight * jnp.where(exists, losses, 0).sum(-1).mean()
      right = ((support[-1] > 0) == batch['supports']) | ~exists
      metrics['support'] = Metric.mean(right.all(-1))
    else:
      logits, of_support = model(*story, key=key), 0.0
    losses = layers.cross_entropy(logits, batch['answer'])
    return losses.mean() + of_support, metrics | {
      'last_loss': Metric.mean(losses[-1]),
      'error': Metric.mean(logits[-1].argmax(-1) != batch['answer']),
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """'validation' while training, 'test' (every split's last word) by eval."""
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """All questions, few facts first, each with an offset drawn once for all.

    The mean over questions by 'task_weight' is the mean over tasks.
    """
    columns = builder.load(self.data.source, split, data_dir=self.data.dir)
    rng = np.random.default_rng(_OFFSET_SEEDS[split])
    size = len(columns['task'])
    offset = rng.integers(0, self.model_config.num_offsets, size)
    _, task, count = np.unique(
      columns['task'], return_inverse=True, return_counts=True
    )
    weight = size / len(count) / count[task]
    order = np.argsort(columns['num_facts'], kind='stable')
    return {
      name: columns[name][order].astype(np.int32)
      for name in ('task', 'facts', 'question', 'answer')
    } | {
      'offset': offset[order].astype(np.int32),
      'task_weight': weight[order].astype(np.float32),
    }

  def _measure(self, model: BabiNetwork, batch: Batch) -> Metrics:
    """Errors by step and task, their mean over tasks, and failed tasks."""
    logits = model(batch['facts'], batch['question'], batch['offset'])
    wrong = logits.argmax(-1) != batch['answer']  # [T, B]
    weight = batch['weight']
    is_task = batch['task'][:, None] == np.array(self.tasks)
    # Several questions are about one story.
    mean = functools.partial(Metric.mean, is_independent=False)
    by_task = mean(
      wrong[:, :, None], is_task * weight[:, None], axis=1
    )  # [T, tasks]
    metrics = {'error_by_task': by_task}
    for index in range(len(logits)):
      name = f'steps_{index + 1}'
      metrics[f'{name}/mean_error'] = mean(
        wrong[index], weight * batch['task_weight']
      )
      metrics[f'{name}/failed_tasks'] = FailedTasks(
        by_task.total[index], by_task.weight[index]
      )
      for column, task in enumerate(self.tasks):
        metrics[f'{name}/error_task_{task}'] = jax.tree.map(
          lambda x, at=(index, column): x[at], by_task
        )
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: BabiNetwork | None = None
  ) -> dict[str, Figure]:
    """The error of each task, after each step."""
    del model
    return {
      name.replace('/', '_'): plots.error_by_task(
        errors, self.tasks, FAILED_ABOVE
      )
      for name, errors in values.items()
      if name.endswith('/error_by_task')
    }

  def predict(
    self, model: BabiNetwork, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answers the questions of stories in bAbI's format; '' for other lines.

    A line that cannot be read is left out of its story, or starts a new one by
    its number.
    """
    graphdef, params = nnx.split(model)

    @jax.jit
    def solve(params, columns):
      facts, question = (
        columns[name].astype(int) for name in ('facts', 'question')
      )
      # The middle positions have seen the most facts.
      offset = jnp.full(len(facts), self.model_config.num_offsets // 2)
      logits = nnx.merge(graphdef, params)(facts, question, offset)
      return logits[-1].argmax(-1)

    story, words = data.Story(), list(data.vocabulary())

    def parse(line):
      if line.strip() and (question := story.read(line)):
        return {name: x[0] for name, x in data.encode([question]).items()}
      return None

    for word in answer_lines(
      lines, parse=parse, solve=functools.partial(solve, params)
    ):
      if word is None:
        yield ''
      else:
        yield word if isinstance(word, UserError) else words[word]


def share_of_questions(
  step: jax.Array, curriculum: Sequence[int | float]
) -> jax.Array:
  """The share of each task's questions that is asked at a step (ours).

  Questions with the fewest facts come first, and with one all that have as many
  facts. A curriculum is (first, last, share): `share` of them until update
  `first`, all of them from update `last`, and linearly more between; (): none,
  as in the paper.
  """
  if not curriculum:
    return jnp.ones(())
  is_known = len(curriculum) == 3 and curriculum[0] < curriculum[1]
  if not is_known or not 0 < curriculum[2] <= 1:
    raise UserError(
      f'config.data.curriculum={tuple(curriculum)}: its first update, its last'
      ' and the share of questions at the first, in (0, 1], expected'
    )
  first, last, share = curriculum
  done = jnp.clip((step - first) / (last - first), 0, 1)
  return share + (1 - share) * done
