"""Sudoku as a task: boards drawn on the device, digits read at every step."""

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
from flax import nnx
from matplotlib.figure import Figure

from core import layers
from core.errors import UserError, check_choice
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from rrn.sudoku import (
  baselines,
  builder,
  data,
  generate,
  inference,
  plots,
)
from rrn.sudoku.model import (
  ModelConfig,
  SudokuCandidates,
  SudokuNetwork,
)

# Ranges of the guesses of an exact solver, as measures have them.
GUESSES = {
  '0_guesses': (0, 0),
  '1_to_5_guesses': (1, 5),
  '6_to_20_guesses': (6, 20),
  '21_to_50_guesses': (21, 50),
  'over_50_guesses': (51, 2**31 - 1),
}
# Each is a function of puzzles [B, N] and num_steps to logits [T, B, N, K].
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
  """Palm et al. 2018, section 3.2. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.model_config = ModelConfig(**config.model)
    check_choice('config.model.network', self.model_config.network, NETWORKS)
    check_choice(
      *('config.data.symmetries', config.data.symmetries),
      ('none', 'digits', 'all'),
    )
    if config.data.source == 'generated' and config.data.dir:
      raise UserError(
        f'generated puzzles use no file of config.data.dir={config.data.dir}:'
        ' add source=royle17 to the arguments of the config, as in'
        ' --config=configs/rrn/sudoku.py:cpu,source=royle17'
      )
    self.box = self.model_config.box_height, self.model_config.box_width
    self.data = config.data
    self.evals = config.evals
    self.dtype = jnp.dtype(config.dtype)

  def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
    """Build the network that the config names."""
    make = NETWORKS[self.model_config.network]
    return make(self.model_config, dtype=self.dtype, rngs=rngs)

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """'puzzle' and 'solution', int8 [bases, N].

    Training also has 'hard_puzzle' and 'hard_solution' if it draws from them.
    """
    if (self.data.source, self.box, split) == ('generated', (3, 3), 'train'):
      logging.warning(
        'training on generated puzzles; for those of the paper get its two'
        ' files, see rrn/README.md, name their folder by --config.data.dir, and'
        ' add source=royle17 to the arguments of the config'
      )
    columns = builder.load(
      self.data.source,
      split,
      data_dir=self.data.dir,
      box=self.box,
      num_puzzles=self.data.num_puzzles,
    )
    if split == 'train' and self.data.num_train:
      columns = {k: v[: self.data.num_train] for k, v in columns.items()}
    if split == 'train' and self.data.hard_share:
      hard = self._hard_puzzles(split)
      is_used = hard['guesses'] >= self.data.fewest_guesses
      columns |= {f'hard_{name}': hard[name][is_used] for name in columns}
    return columns

  def _hard_puzzles(self, split: str) -> dict[str, np.ndarray]:
    """'puzzle', 'solution', and the 'guesses' that an exact solver needs."""
    return builder.load('hard', split, num_puzzles=self.data.num_hard_puzzles)

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Draw bases, symmetries and extra givens; 'puzzle', 'solution' [B, N]."""
    return generate.draw(
      key, arrays, size=size, step=step, box=self.box, config=self.data
    )

  def init_carry(self, key: jax.Array, size: int) -> dict[str, Any]:
    """Return `size` boards that are done, and so give way to new ones."""
    del key
    most, num_cells = self.model_config.max_steps, math.prod(self.box) ** 2
    if not most:
      return {}
    boards = jnp.zeros((size, num_cells), jnp.int32)
    states = nnx.eval_shape(
      lambda: self.make_model(nnx.Rngs(0)).init_states(boards)
    )
    return {
      'puzzle': boards,
      'solution': boards,
      'num_steps': jnp.full(size, most),
      'states': optax.tree.zeros_like(states),
    }

  def loss(
    self,
    model: Any,
    batch: Batch,
    key: jax.Array,
    carry: Mapping[str, Any] | None = None,
  ):
    """Cross-entropy over all cells, averaged over steps, boards and cells.

    Of carried boards those that are done are replaced by new ones of the batch.
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
      'states': self._init_states(model, batch['puzzle'], key),
    }
    carry = jax.tree.map(
      lambda new, old: jnp.where(
        is_done.reshape(-1, *[1] * (old.ndim - 1)), new, old
      ),
      *(new, dict(carry)),
    )
    states, logits = model.advance(
      carry['puzzle'], carry['states'], num_steps=config.num_steps
    )
    loss, metrics = self._loss(logits, carry['solution'])
    is_solved = (logits[-1].argmax(-1) == carry['solution']).all(-1)
    num_steps = carry['num_steps'] + config.num_steps
    carry |= {
      'num_steps': jnp.where(is_solved, config.max_steps, num_steps),
      'states': jax.lax.stop_gradient(states),
    }
    return loss, metrics | {'new_boards': Metric.mean(is_done)}, carry

  def _init_states(self, model, puzzles, key):
    """Return zeros, or random states for a share of the boards."""
    states, share = model.init_states(puzzles), self.model_config.random_start
    if not share:
      return states
    states_key, choice_key = jax.random.split(key)
    is_random = jax.random.bernoulli(
      choice_key, share, (len(puzzles), *[1] * (states.ndim - 1))
    )
    return jnp.where(is_random, model.init_states(puzzles, states_key), states)

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
    """'validation' while training, 'test' (every split's last word) by eval.

    And, of the paper's network, 'test_zero_positions': the hardest boards
    without row and column embeddings, which training had.
    """
    make = functools.partial(Evaluator, batch_size=self.evals.batch_size)
    evaluators = {
      name: make(
        arrays=functools.partial(self._evaluation_set, name),
        measure=functools.partial(self._measure, name),
        every=period,
      )
      for name, period in (('validation', self.evals.every), ('test', 0))
    }
    if self.model_config.network == 'cells':

      def measure(model, batch):
        model = nnx.clone(model)
        model.zero_positions = True
        metrics = self._measure('test', model, batch)
        del metrics['solved_by_step']  # of one number of givens: no figure
        return metrics

      evaluators['test_zero_positions'] = make(
        arrays=self._hardest_test_set, measure=measure, every=0
      )
    if self.data.hard_share:
      for split, period in (('validation', self.evals.every), ('test', 0)):
        evaluators[f'{split}_hard'] = make(
          arrays=functools.partial(self._hard_evaluation_set, split),
          measure=functools.partial(self._measure, split),
          every=period,
        )
    return evaluators

  def _hard_evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Up to `evals.boards_per_guesses` boards of each range of guesses."""
    columns = self._hard_puzzles(split)
    guesses = columns['guesses']
    rows = [
      np.flatnonzero((low <= guesses) & (guesses <= high))
      for low, high in GUESSES.values()
    ]
    rows = np.concatenate([x[: self.evals.boards_per_guesses] for x in rows])
    return {name: column[rows] for name, column in columns.items()}

  def _is_published(self, split: str) -> bool:
    """Whether a split is the paper's test file."""
    return split == 'test' and self.data.source == 'royle17'

  def _hardest_test_set(self) -> dict[str, np.ndarray]:
    columns = self._evaluation_set('test')
    givens = (columns['puzzle'] > 0).sum(1)
    return {
      name: column[givens == givens.min()] for name, column in columns.items()
    }

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Boards with each number of givens: the same number of each."""
    if self._is_published(split):
      columns = builder.load('hard_test', 'test', data_dir=self.data.dir)
      puzzle, solution = columns['puzzle'], columns['solution']
    else:
      columns = self.arrays(split)
      rng = np.random.default_rng(17)
      low, high = self.evals.givens
      bases = rng.permutation(len(columns['puzzle']))
      bases = bases[: self.evals.boards_per_givens]
      puzzle, solution = columns['puzzle'][bases], columns['solution'][bases]
      own = (puzzle > 0).sum(1)
      puzzle = np.concatenate(
        [
          data.add_givens(rng, puzzle, solution, np.maximum(givens - own, 0))
          for givens in range(low, high + 1)
        ]
      )
      solution = np.tile(solution, (high + 1 - low, 1))
    return {'puzzle': puzzle, 'solution': solution}

  def _measure(self, split: str, model: Any, batch: Batch) -> Metrics:
    """Shares of boards, cells, and rule-abiding answers, by steps and kind.

    The kinds are numbers of givens, or of guesses where the batch has them.
    """
    puzzle, solution, weight = (
      batch[name] for name in ('puzzle', 'solution', 'weight')
    )
    logits = model(puzzle, num_steps=max(self.evals.num_steps))
    answers = logits.argmax(-1)  # [T, B, N]
    right = answers == solution[None]
    solved = right.all(-1)  # [T, B]
    kinds, is_kind = self._kinds(split, batch)
    by_kind = Metric.mean(solved[:, :, None], is_kind * weight[:, None], axis=1)
    metrics = {'solved_by_step': by_kind}  # [T, kinds]
    # The other sets have each of their puzzles with each number of givens.
    is_independent = 'guesses' in batch or self._is_published(split)
    for steps in self.evals.num_steps:
      last = steps - 1
      name = f'steps_{steps}'
      units = data.units(*self.box)
      valid = inference.is_valid(answers[last], puzzle, units)
      for measure, share in (
        ('solved', solved[last]),
        ('valid', valid),
        # Solved at an earlier step, and not at this one.
        ('lost', solved[:last].any(0) & ~solved[last]),
      ):
        metrics[f'{name}/{measure}'] = Metric.mean(
          share, weight, is_independent=is_independent
        )
      metrics[f'{name}/cells'] = Metric.mean(
        right[last], weight[:, None], is_independent=False
      )
      for column, kind in enumerate(kinds):
        metrics[f'{name}/solved_{kind}'] = jax.tree.map(
          lambda x, last=last, column=column: x[last, column], by_kind
        )
    return metrics

  def _givens(self, split: str) -> tuple[int, int]:
    """Return the fewest and most givens of a split's boards."""
    is_published = self._is_published(split)
    return builder.TEST_GIVENS if is_published else self.evals.givens

  def _kinds(self, split: str, batch: Batch) -> tuple[list[str], jax.Array]:
    """Return names of kinds, and the kind of each board: bool [B, kinds]."""
    if 'guesses' in batch:
      return list(GUESSES), jnp.stack(
        [
          (low <= batch['guesses']) & (batch['guesses'] <= high)
          for low, high in GUESSES.values()
        ],
        axis=-1,
      )
    low, high = self._givens(split)
    givens = jnp.arange(low, high + 1)
    is_kind = (batch['puzzle'] > 0).sum(-1)[:, None] == givens[None]
    return [f'{count}_givens' for count in range(low, high + 1)], is_kind

  def figures(
    self, values: Mapping[str, Any], model: Any = None
  ) -> dict[str, Figure]:
    """The paper's Figure 4, and one board's digits step by step."""
    trained = self.model_config.num_steps
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
      middle = len(columns['puzzle']) // 2  # neither few givens nor many
      puzzle, solution = columns['puzzle'][middle], columns['solution'][middle]
      longest = max(trained, *self.evals.num_steps)
      steps = {1, 2, 4, trained, *self.evals.num_steps}
      steps = sorted(step for step in steps if step <= longest)
      logits = model(jnp.asarray(puzzle[None]), num_steps=max(steps))
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
    """Solve the puzzles of a text; see `inference.answer`."""
    return inference.answer(model, lines, box=self.box, evals=self.evals)
