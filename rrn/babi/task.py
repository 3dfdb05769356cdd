"""The bAbI task: draws questions, and reads an answer after every step.

Axes: B batch, T steps.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from etils import epy
from flax import nnx

from core import answers, layers
from core.answers import Answer
from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from rrn.babi import augmentation, data
from rrn.babi.model import BabiNetwork, ModelConfig

with epy.lazy_imports():  # their libraries are slow to import
  from rrn.babi import builder, plots

FAILED_ABOVE = 0.05  # a task with a higher error counts as failed
_OFFSET_SEEDS = {'validation': 1, 'test': 2}


@jax.tree_util.register_dataclass
@typing.no_type_check  # JAX replaces the fields with values of other types
@dataclasses.dataclass(frozen=True)
class FailedTasks(Metric):
  """The number of failed tasks.

  Attributes:
    total: weighted number of errors of each task [..., tasks].
    weight: weighted number of questions of each task [..., tasks].
  """

  def result(self) -> jax.Array:
    """Return the number of tasks whose error exceeds `FAILED_ABOVE`."""
    return (self.total / self.weight > FAILED_ABOVE).sum(-1)


def make_task(config: ml_collections.ConfigDict) -> 'BabiTask':
  """Build the task from its config."""
  return BabiTask(config)


class BabiTask:
  """Implements `core.task.Task` for bAbI (Palm et al. 2018, section 3.1)."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.sentence_width',
      'model.num_steps',
      'model.message_layers',
      'model.node_layers',
    )
    check_numbers(config, 'model.graph_sizes')
    check_numbers(config, 'model.forget_biases', least=0, lengths=[2])
    check_numbers(
      config, 'data.curriculum', least=0, lengths=[0, 3], allow_floats=True
    )
    _check_curriculum(config.data.curriculum)
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.tasks = builder.tasks(self.data.source)
    self.evals = config.evals
    self.microbatch_size = config.microbatch_size
    self.dtype = jnp.dtype(config.dtype)
    _check_weights(self.data.task_weights, len(self.tasks))

  def make_model(self, rngs: nnx.Rngs) -> BabiNetwork:
    """Build the network."""
    return BabiNetwork(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return the encoded questions of a split, sorted by task.

    Within a task, questions are sorted by their number of facts.

    Returns:
      Columns of `data.encode`: 'facts', 'question', 'answer', and 'supports'.
      'end' is the row after the last question of the same task with the same
      number of facts. For each task, 'first' is its first row and 'count' is
      its number of questions.
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
    """Draw tasks, one question of each, and the position of its first fact.

    Args:
      key: random key.
      arrays: columns of `arrays`.
      size: number of questions B.
      step: number of completed updates, for the curriculum.

    Returns:
      'facts' [B, facts, words] and 'question' [B, words], the indices of words;
      'answer' [B], the index of a word; 'supports' bool [B, facts], whether a
      fact supports the answer; and 'offset' [B], the position of the first
      fact.
    """
    task_key, row_key, offset_key, name_key = jax.random.split(key, 4)
    weights = np.array(self.data.task_weights)
    task = jax.random.choice(
      task_key,
      len(arrays['first']),
      (size,),
      p=weights / weights.sum() if weights.size else None,
    )
    share = share_of_questions(step, self.data.curriculum)
    count = jnp.ceil(share * arrays['count'].astype(jnp.float32))
    count = count.astype(jnp.int32)
    first = arrays['first'][task]
    end = arrays['end'][first + count[task] - 1]
    row = jax.random.randint(row_key, (size,), first, end)
    batch = {
      name: arrays[name][row].astype(jnp.int32)
      for name in ('facts', 'question', 'answer')
    }
    if self.data.augmentation:
      batch = augmentation.rename_words(
        name_key, jnp.array(self.tasks)[task], batch
      )
    batch['supports'] = arrays['supports'][row]
    batch['offset'] = jax.random.randint(
      offset_key, (size,), 0, self.model_config.num_offsets
    )
    # Stories of similar size share a micro-batch, so that short stories run on
    # a small graph. A fixed permutation of the groups gives every device short
    # and long stories.
    groups = size // (self.microbatch_size or size)
    if groups > 1 and size % groups == 0:
      num_facts = (batch['facts'][..., 0] > 0).sum(-1)
      order = jnp.argsort(num_facts).reshape(groups, -1)
      order = order[np.random.default_rng(0).permutation(groups)].ravel()
      batch = jax.tree.map(lambda x: x[order], batch)
    return batch

  def loss(
    self, model: BabiNetwork, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the cross-entropy, averaged over steps and questions.

    `support_loss` (ours) weights an additional cross-entropy, summed over the
    facts: whether each fact supports the answer.
    """
    story = batch['facts'], batch['question'], batch['offset']
    weight = self.model_config.support_loss
    metrics = {}
    if weight:
      logits, support = model.find_support(*story, key=key)
      exists = (batch['facts'] > 0).any(-1)
      targets = batch['supports'].astype(jnp.float32)[None]
      losses = optax.sigmoid_binary_cross_entropy(support, targets)
      support_loss = weight * jnp.where(exists[None], losses, 0).sum(-1).mean()
      is_correct = ((support[-1] > 0) == batch['supports']) | ~exists
      metrics['support'] = Metric.mean(is_correct.all(-1))
    else:
      logits, support_loss = model(*story, key=key), 0.0
    losses = layers.cross_entropy(logits, batch['answer'])
    return losses.mean() + support_loss, metrics | {
      'last_loss': Metric.mean(losses[-1]),
      'error': Metric.mean(logits[-1].argmax(-1) != batch['answer']),
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', used in training, and 'test', for `--mode=eval`."""
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Return all questions of a split, those with few facts first.

    The offset of a question is drawn once and is the same in every evaluation.
    The mean over questions, weighted by 'task_weight', is the mean over tasks.
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
    """Measure errors by step and task, their mean, and the failed tasks."""
    logits = model(batch['facts'], batch['question'], batch['offset'])
    wrong = logits.argmax(-1) != batch['answer'][None]  # [T, B]
    weight = batch['weight']
    is_task = batch['task'][:, None] == np.array(self.tasks)[None]
    # Questions about the same story are not independent.
    mean = functools.partial(Metric.mean, is_independent=False)
    by_task = mean(
      wrong[:, :, None], jnp.where(is_task, weight[:, None], 0), axis=1
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
        metrics[f'{name}/error_task_{task}'] = by_task[index, column]
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: BabiNetwork | None = None
  ) -> dict[str, Any]:
    """Plot the error of each task after each step."""
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
    """Answer the questions of stories in bAbI's format, see `data.Story`.

    Answers are scored where the input has an answer.

    Yields:
      For each line the answer to its question, '' if it has no question, or the
      UserError that says why it was not answered.
    """
    words = list(data.vocabulary())

    def finish(question: data.Question, index: np.integer) -> Answer:
      word = words[int(index)]
      if not question.answer:
        return Answer(word)
      return answers.compare(word, question.answer)

    return answers.answer_problems(
      data.read_stories(lines),
      encode=_encode,
      solve=self._make_solver(model),
      finish=finish,
    )

  def _make_solver(self, model: BabiNetwork) -> Callable:
    """Return a function from encoded questions to the answers' indices [B]."""
    graphdef, params = nnx.split(model)

    @jax.jit
    def solve(params, columns):
      facts, question = (
        columns[name].astype(int) for name in ('facts', 'question')
      )
      # Training draws offsets uniformly. With the middle offset, facts have the
      # positions that occur most often in training.
      offset = jnp.full(len(facts), self.model_config.num_offsets // 2)
      logits = nnx.merge(graphdef, params)(facts, question, offset)
      return logits[-1].argmax(-1)

    return functools.partial(solve, params)


def _encode(question: data.Question) -> dict[str, np.ndarray]:
  columns = data.encode([question])
  return {name: columns[name][0] for name in ('facts', 'question')}


def _check_weights(weights: tuple, num_tasks: int):
  """Raise UserError unless `weights` is empty or valid for all tasks."""
  if not weights:
    return
  is_number = all(isinstance(weight, int | float) for weight in weights)
  has_length = is_number and len(weights) == num_tasks
  if not has_length or min(weights) < 0 or max(weights) <= 0:
    raise UserError(
      f'config.data.task_weights={tuple(weights)}: expected a weight for each'
      f' of the {num_tasks} tasks, at least 0 and not all 0, or () to draw all'
      ' tasks equally often'
    )


def _check_curriculum(curriculum: Sequence[int | float]):
  """Raise UserError unless `curriculum` is empty or (first, last, share)."""
  if not curriculum:
    return
  first, last, share = curriculum
  if first >= last or not 0 < share <= 1:
    raise UserError(
      f'config.data.curriculum={tuple(curriculum)}: expected (first update,'
      ' last update, share of questions at first), where the first update is'
      ' before the last and the share is above 0 and at most 1'
    )


def share_of_questions(
  step: jax.Array, curriculum: Sequence[int | float]
) -> jax.Array:
  """Return the share of each task's questions that is drawn at a step (ours).

  The questions with the fewest facts come first. Questions of one task with the
  same number of facts are always added together.

  Args:
    step: number of completed updates.
    curriculum: (first, last, share): draw `share` of the questions until update
      `first`, all of them from update `last` on, and a linearly growing share
      in between. () disables the curriculum, as in the paper.
  """
  if not curriculum:
    return jnp.ones(())
  first, last, share = curriculum
  progress = jnp.clip((step - first) / (last - first), 0, 1)
  return share + (1 - share) * progress
