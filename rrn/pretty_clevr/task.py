"""The Pretty-CLEVR task: scenes and questions drawn on the device.

Axes: B scenes, Q questions about each, T steps, C classes.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epy
from flax import nnx

from core import answers
from core.answers import Answer
from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from rrn import graph_readout
from rrn.pretty_clevr import data, scenes
from rrn.pretty_clevr.model import ModelConfig, make_model

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from rrn.pretty_clevr import plots


def make_task(config: ml_collections.ConfigDict) -> 'PrettyClevrTask':
  """Build the task from its config."""
  return PrettyClevrTask(config)


class PrettyClevrTask:
  """Implements `core.task.Task` for Pretty-CLEVR (Palm et al. 2018, 3.3)."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_steps',
      'data.questions_per_scene',
      'evals.num_scenes',
    )
    check_numbers(config, 'model.conv_widths')
    check_numbers(config, 'evals.num_steps')
    check_numbers(config, 'data.curriculum', least=0, lengths=[0, 2])
    _check_curriculum(config.data.curriculum)
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the network."""
    return make_model(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return no arrays: scenes are drawn on the device."""
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
    """Draw scenes and Q questions about each, uniformly.

    Returns:
      'positions' [B, 8, 2], 'colors' [B, 8], and 'anchors', 'jumps', 'answers'
      [B, Q].
    """
    del arrays
    questions = (self.data.questions_per_scene,)
    most = max_jumps(step, self.data.curriculum)

    def example(key):
      scene_key, augment_key, anchor_key, jump_key = jax.random.split(key, 4)
      if self.data.num_scenes:
        index = jax.random.randint(scene_key, (), 0, self.data.num_scenes)
        scene_key = scenes.pool_key('train', index)
      positions, colors = scenes.draw(scene_key)
      anchors = jax.random.randint(anchor_key, questions, 0, len(data.SYMBOLS))
      jumps = jax.random.randint(jump_key, questions, 0, most + 1)
      example = _with_answers(positions, colors, anchors, jumps)
      if self.data.augment:
        example['positions'] = scenes.augment(augment_key, positions)
      return example

    return jax.vmap(example)(jax.random.split(key, size))

  def loss(
    self, model: nnx.Module, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the cross-entropy, averaged over steps and questions.

    `object_loss` weights an additional loss, see `PixelNetwork.object_loss`.
    """
    steps = self.model_config.num_steps
    weight = self.model_config.object_loss
    object_loss = 0.0
    metrics = {}
    if weight:
      scene = batch['positions'], batch['colors']
      questions = batch['anchors'], batch['jumps']
      cells = model.encode(*scene)
      logits = model.answer_from(cells, *questions, num_steps=steps, key=key)
      objects, share_correct = model.object_loss(cells, *scene)
      metrics['objects'] = Metric.mean(share_correct)
      object_loss = weight * objects
    else:
      logits = _run(model, batch, num_steps=steps, key=key)
    loss, answer_metrics = graph_readout.loss(
      logits.reshape(steps, -1, logits.shape[-1]), batch['answers'].ravel()
    )
    return loss + object_loss, metrics | answer_metrics

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', used in training, and 'test', for `--mode=eval`.

    Both have all questions about each scene.
    """
    periods = {'validation': self.evals.every, 'test': 0}
    return {
      split: Evaluator(
        arrays=lambda: {'scene': np.arange(self.evals.num_scenes)},
        measure=functools.partial(self._measure, split),
        batch_size=self.evals.batch_size,
        every=period,
      )
      for split, period in periods.items()
    }

  def _measure(self, split: str, model: nnx.Module, batch: Batch) -> Metrics:
    """Measure the accuracy by step and number of jumps."""
    anchors, jumps = scenes.all_questions()

    def example(index):
      scene = scenes.draw(scenes.pool_key(split, index))
      return _with_answers(*scene, anchors, jumps)

    batch = jax.vmap(example)(batch['scene']) | {'weight': batch['weight']}
    steps = max(self.evals.num_steps)
    logits = _run(model, batch, num_steps=steps)
    return graph_readout.measure(
      logits.reshape(steps, -1, logits.shape[-1]),
      batch['answers'].ravel(),
      batch['jumps'].ravel(),
      jnp.repeat(batch['weight'], len(anchors)),
      max_jumps=data.MAX_JUMPS,
      steps=self.evals.num_steps,
      is_independent=False,
    )

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Any]:
    """Plot the paper's Figure 2b, with the paper's curves and ours."""
    del model
    figures = {}
    for name, curve in values.items():
      split, _, metric = name.partition('/')
      if metric == 'accuracy_by_step':
        figures[f'{split}_accuracy_by_jumps'] = plots.accuracy_by_jumps(
          curve, [[share / 100 for share in row] for row in self.evals.paper]
        )
    return figures

  def predict(
    self, model: nnx.Module, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answer the question of each line, see `data.parse`, and score it.

    Predictions are scored against the answer on the line, or else against the
    answer of `data.answer`.
    """
    graphdef, params = nnx.split(model)
    steps = max(self.evals.num_steps)

    @jax.jit
    def solve(params, batch):
      logits = _run(nnx.merge(graphdef, params), batch, num_steps=steps)
      return logits[-1, :, 0].argmax(-1)

    return answers.answer_problems(
      answers.map_lines(lines, data.parse),
      encode=_encode,
      solve=functools.partial(solve, params),
      finish=_compare,
    )


def _encode(scene: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {
    'positions': scene['positions'],
    'colors': scene['colors'],
    'anchors': scene['anchor'][None],
    'jumps': scene['jumps'][None],
  }


def _compare(scene: Mapping[str, np.ndarray], symbol: np.integer) -> Answer:
  return answers.compare(
    data.SYMBOLS[int(symbol)], data.SYMBOLS[int(scene['answer'])]
  )


def _with_answers(positions, colors, anchors, jumps) -> Batch:
  answer_all = jax.vmap(scenes.answer, (None, None, 0, 0))
  return {
    'positions': positions,
    'colors': colors,
    'anchors': anchors,
    'jumps': jumps,
    'answers': answer_all(positions, colors, anchors, jumps),
  }


def _run(model, batch, **options) -> jax.Array:
  """Return the logits 'T B Q C' of the questions of a batch."""
  names = 'positions', 'colors', 'anchors', 'jumps'
  return model(*(batch[name] for name in names), **options)


def _check_curriculum(curriculum: Sequence[int]):
  if curriculum and curriculum[1] < 1:
    raise UserError(
      f'config.data.curriculum={tuple(curriculum)}: expected (first, each) with'
      ' at least 1 update per further jump'
    )


def max_jumps(step: jax.Array, curriculum: Sequence[int]) -> jax.Array:
  """Return the largest number of jumps in questions at a step (ours).

  Args:
    step: number of completed updates.
    curriculum: (first, each): at most one jump in the first `first` updates,
      then one more jump every `each` updates. () disables the curriculum, as in
      the paper.
  """
  if not curriculum:
    return jnp.asarray(data.MAX_JUMPS)
  first, each = curriculum
  return jnp.clip(2 + (step - first) // each, 1, data.MAX_JUMPS)
