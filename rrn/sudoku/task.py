"""The Sudoku task: draw boards on the device, and read digits at each step."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging
from etils import epy
from flax import nnx

from core import layers
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, replace_examples
from rrn.sudoku import (
  baselines,
  data,
  generate,
  measures,
  predict,
  settings,
  variants,
)
from rrn.sudoku.model import ModelConfig, SudokuCandidates, SudokuNetwork

with epy.lazy_imports():  # their libraries are slow to import
  from rrn.sudoku import builder, plots

_BOARDS_AT_ONCE = 64  # batch size of the evaluations by the rules
# Each network maps puzzles [B, N] and num_steps to logits [T, B, N, K].
NETWORKS = {
  'cells': SudokuNetwork,
  'candidates': SudokuCandidates,
  'relation_network': SudokuNetwork,
  'graph_relation_network': baselines.GraphRelationNetwork,
  'mlp': baselines.MultilayerPerceptron,
  'deep_messages': baselines.DeepMessages,
  'convolutional': baselines.ConvolutionalNetwork,
}


def make_task(config: ml_collections.ConfigDict) -> 'SudokuTask':
  """Build the task from its config."""
  return SudokuTask(config)


class SudokuTask:
  """Implements `core.task.Task` for Sudoku (Palm et al. 2018, section 3.2)."""

  def __init__(self, config: ml_collections.ConfigDict):
    settings.check(config)
    self.model_config = ModelConfig(**config.model)
    check_choice('config.model.network', self.model_config.network, NETWORKS)
    self.box = self.model_config.box_height, self.model_config.box_width
    self.units = variants.units_of(config.evals.variant, self.box)
    self.data = config.data
    self.evals = config.evals
    # Hard puzzles are standard boards.
    is_standard = config.evals.variant == 'standard'
    self.has_hard_sets = config.data.hard_share > 0 and is_standard
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the network that the config selects."""
    make = NETWORKS[self.model_config.network]
    return make(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'puzzle' and 'solution', int8 [puzzles, N], of a split.

    If training draws hard puzzles, also return 'hard_puzzle' and
    'hard_solution'.
    """
    if (self.data.source, self.box, split) == ('generated', (3, 3), 'train'):
      logging.warning(
        'training uses generated puzzles; for the puzzles of the paper, get its'
        ' two files (see rrn/README.md), set --config.data.dir to their folder,'
        ' and add source=royle17 to the config arguments'
      )
    columns = self._puzzles(split)
    if split == 'train' and self.data.num_train:
      columns = {k: v[: self.data.num_train] for k, v in columns.items()}
    if split == 'train' and self.data.hard_share:
      hard = self._hard_puzzles(split)
      is_used = hard[self.data.hard_measure] >= self.data.least_difficulty
      columns |= {f'hard_{name}': hard[name][is_used] for name in columns}
    return columns

  def _puzzles(self, split: str, variant: str = 'standard'):
    return builder.load(
      self.data.source,
      split,
      data_dir=self.data.dir,
      box=self.box,
      num_puzzles=self.data.num_puzzles,
      variant=variant,
    )

  def _hard_puzzles(self, split: str) -> dict[str, np.ndarray]:
    """Return 'puzzle', 'solution', and the difficulty by each measure."""
    return builder.load(
      'hard',
      split,
      num_puzzles=self.data.num_hard_puzzles,
      measure=self.data.hard_measure,
    )

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draw 'puzzle' and 'solution', int32 [B, N]; see `generate.draw`."""
    return generate.draw(
      key, arrays, size=size, step=step, box=self.box, config=self.data
    )

  def init_carry(self, key: jax.Array, size: int) -> dict[str, Any]:
    """Return `size` finished boards, which the first update replaces.

    Return {} if no boards are carried, see `ModelConfig.max_steps`.
    """
    del key
    max_steps = self.model_config.max_steps
    if not max_steps:
      return {}
    boards = jnp.zeros((size, math.prod(self.box) ** 2), jnp.int32)
    states = nnx.eval_shape(
      lambda: self.make_model(nnx.Rngs(0)).init_states(boards)
    )
    return {
      'puzzle': boards,
      'solution': boards,
      'num_steps': jnp.full(size, max_steps),
      'states': optax.tree.zeros_like(states),
    }

  def loss(
    self,
    model: Any,
    batch: Batch,
    key: jax.Array,
    carry: Mapping[str, Any] | None = None,
  ):
    """Return the mean cross-entropy over boards and cells, and the metrics.

    The mean also covers all steps, unless `config.model.loss_steps` is 'last'.
    With a carry, boards of the batch replace finished boards, and the next
    carry is a third result.
    """
    config = self.model_config
    if carry is None:
      options = {}
      if config.burn_in:
        options['burn_in'] = jax.random.randint(key, (), 0, config.burn_in + 1)
      logits = model(batch['puzzle'], num_steps=config.num_steps, **options)
      return self._loss(logits, batch['solution'])
    is_done = carry['num_steps'] >= config.max_steps
    new = batch | {
      'num_steps': jnp.zeros_like(carry['num_steps']),
      'states': model.init_states(batch['puzzle']),
    }
    carry = replace_examples(carry, new, is_done)
    states, logits = model.advance(
      carry['puzzle'], carry['states'], num_steps=config.num_steps
    )
    loss, metrics = self._loss(logits, carry['solution'])
    is_solved = (logits[-1].argmax(-1) == carry['solution']).all(-1)
    num_steps = carry['num_steps'] + config.num_steps
    if config.reveal_after:
      is_due = ~is_solved & (num_steps % config.reveal_after == 0)
      puzzle = generate.reveal_cell(
        key, carry['puzzle'], carry['solution'], logits[-1].argmax(-1)
      )
      carry['puzzle'] = jnp.where(is_due[:, None], puzzle, carry['puzzle'])
    carry |= {
      'num_steps': jnp.where(is_solved, config.max_steps, num_steps),
      'states': jax.lax.stop_gradient(states),
    }
    return loss, metrics | {'new_boards': Metric.mean(is_done)}, carry

  def _loss(self, logits, solution) -> tuple[jax.Array, Metrics]:
    losses = layers.cross_entropy(logits, solution)
    right = logits[-1].argmax(-1) == solution
    is_last = self.model_config.loss_steps == 'last'
    counted = losses[-1] if is_last else losses
    return counted.mean(), {
      'last_loss': Metric.mean(losses[-1]),
      'cells': Metric.mean(right),
      'solved': Metric.mean(right.all(-1)),
    }

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', used in training, and 'test', for `--mode=eval`.

    Sets with 'hard' in their name have hard puzzles, and sets with '_by_rules'
    are measured by `measures.by_rules`. 'test_zero_positions' has the boards
    with the fewest givens, and sets the position embeddings to zero.
    `config.evals.splits` can exclude the test sets.
    """
    make = functools.partial(Evaluator, batch_size=self.evals.batch_size)
    evaluators = {}
    for split in self.evals.splits:
      period = self.evals.every if split == 'validation' else 0
      sets = {split: self._evaluation_set}
      if self.has_hard_sets:
        sets[f'{split}_hard'] = self._hard_evaluation_set
      for name, arrays in sets.items():
        evaluators[name] = make(
          arrays=functools.partial(arrays, split),
          measure=functools.partial(self._measure, split),
          every=period,
        )
    if 'test' not in evaluators:
      return evaluators
    if self.model_config.network == 'cells':
      evaluators['test_zero_positions'] = make(
        arrays=self._fewest_givens_test_set,
        measure=self._measure_zero_positions,
        every=0,
      )
    if self.evals.within_steps:
      sets = {'test_by_rules': evaluators['test'].arrays}
      if self._is_published('test'):
        sets['test_by_rules'] = self._fewest_givens_test_set
      if self.has_hard_sets:
        sets['test_hard_by_rules'] = evaluators['test_hard'].arrays
      for name, arrays in sets.items():
        evaluators[name] = Evaluator(
          arrays=arrays,
          measure=self._measure_by_rules,
          batch_size=_BOARDS_AT_ONCE,
          every=0,
        )
    return evaluators

  def _hard_evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Return all hard test puzzles, or a sample of the validation puzzles."""
    columns = self._hard_puzzles(split)
    if split == 'test':
      return columns
    # Consecutive puzzles come from the same chain and are similar.
    order = np.random.default_rng(17).permutation(len(columns['puzzle']))
    difficulty = columns[self.data.hard_measure][order]
    limit = self.evals.boards_per_difficulty
    rows = [
      order[(low <= difficulty) & (difficulty <= high)][:limit]
      for low, high in measures.DIFFICULTIES[self.data.hard_measure].values()
    ]
    rows = np.concatenate(rows)
    return {name: column[rows] for name, column in columns.items()}

  def _is_published(self, split: str) -> bool:
    """Return whether a split is the paper's test file."""
    is_standard = self.evals.variant == 'standard'
    return is_standard and split == 'test' and self.data.source == 'royle17'

  def _fewest_givens_test_set(self) -> dict[str, np.ndarray]:
    """Return the test boards with the fewest givens."""
    columns = self._evaluation_set('test')
    givens = (columns['puzzle'] > 0).sum(1)
    return {
      name: column[givens == givens.min()] for name, column in columns.items()
    }

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Return the boards of a split, equally many with each number of givens."""
    if self._is_published(split):
      columns = builder.load('hard_test', 'test', data_dir=self.data.dir)
      puzzle, solution = columns['puzzle'], columns['solution']
    else:
      columns = self._puzzles(split, variant=self.evals.variant)
      rng = np.random.default_rng(17)
      low, high = self.evals.givens
      rows = rng.permutation(len(columns['puzzle']))
      rows = rows[: self.evals.boards_per_givens]
      puzzle, solution = columns['puzzle'][rows], columns['solution'][rows]
      present = (puzzle > 0).sum(1)
      puzzle = np.concatenate(
        [
          data.add_givens(
            rng, puzzle, solution, np.maximum(givens - present, 0)
          )
          for givens in range(low, high + 1)
        ]
      )
      solution = np.tile(solution, (high + 1 - low, 1))
    return {'puzzle': puzzle, 'solution': solution}

  def _measure(self, split: str, model: Any, batch: Batch) -> Metrics:
    return measures.by_steps(
      self._on_units(model),
      batch,
      self._kinds(split, batch),
      units=self.units,
      num_steps=self.evals.num_steps,
      is_independent=self._is_independent(split, batch),
    )

  def _is_independent(self, split: str, batch: Batch) -> bool:
    """Return whether all boards of an evaluation set are different puzzles.

    Generated sets contain each puzzle with each number of givens.
    """
    low, high = self.evals.givens
    is_hard = self.data.hard_measure in batch
    return is_hard or self._is_published(split) or low == high

  def _measure_zero_positions(self, model, batch: Batch) -> Metrics:
    """Measure a network on cells with its position embeddings set to zero."""
    model = nnx.clone(model)
    model.zero_positions = True
    metrics = self._measure('test', model, batch)
    # The figure of this metric needs boards with several numbers of givens.
    del metrics['solved_by_step']
    return metrics

  def _measure_by_rules(self, model: Any, batch: Batch) -> Metrics:
    return measures.by_rules(
      self._on_units(model),
      batch,
      self._kinds('test', batch),
      units=self.units,
      within_steps=self.evals.within_steps,
      assume_after=self.evals.assume_after,
      is_independent=self._is_independent('test', batch),
    )

  def _on_units(self, model):
    """Return the model for the units of the evaluated boards."""
    if self.evals.variant == 'standard':
      return model
    if not isinstance(model, SudokuCandidates):
      raise UserError(
        f'config.evals.variant={self.evals.variant} needs network=candidates;'
        ' other networks solve only standard boards'
      )
    return model.for_units(self.units)

  def _givens(self, split: str) -> tuple[int, int]:
    """Return the fewest and most givens of a split's boards."""
    is_published = self._is_published(split)
    return builder.TEST_GIVENS if is_published else self.evals.givens

  def _kinds(self, split: str, batch: Batch) -> measures.Kinds:
    measure = self.data.hard_measure
    if measure in batch:
      return measures.kinds_by_difficulty(measure, batch[measure])
    return measures.kinds_by_givens(batch['puzzle'], *self._givens(split))

  def figures(
    self, values: Mapping[str, Any], model: Any = None
  ) -> dict[str, Any]:
    """Plot the paper's Figure 4, and the digits of one board step by step."""
    trained = self.model_config.max_steps or self.model_config.num_steps
    figures = {}
    for name, curve in values.items():
      if name.endswith('/solved_by_step') and '_hard/' not in name:
        path = name.removesuffix('/solved_by_step')
        low, high = self._givens(path.split('/')[-1])
        figures[f'{path}_solved_by_step'] = plots.solved_by_step(
          curve, range(low, high + 1), trained
        )
    if model is not None:
      columns = self._evaluation_set('validation')
      middle = len(columns['puzzle']) // 2  # neither few nor many givens
      puzzle, solution = columns['puzzle'][middle], columns['solution'][middle]
      longest = max(trained, *self.evals.num_steps)
      steps = {1, 2, 4, trained, *self.evals.num_steps}
      steps = sorted(step for step in steps if step <= longest)
      solve = self._on_units(model)
      logits = solve(jnp.asarray(puzzle[None]), num_steps=max(steps))
      figures['digits_by_step'] = plots.digits_by_step(
        puzzle,
        np.asarray(jax.nn.softmax(logits[:, 0])),
        steps,
        *self.box,
        solution=solution,
      )
    return figures

  def predict(
    self, model: Any, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Solve the puzzles of a text; see `predict.answer`."""
    return predict.answer(model, lines, box=self.box, evals=self.evals)
