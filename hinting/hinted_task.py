"""A task whose batches mix rows of a main task with rows of its hints.

Training lists have at most 20 values. Evaluation lists have any length, and the
accuracy is reported by length. A subclass defines how lists are drawn, and how
lists and answers are read and written as text.

Axes: B batch, N values of a list, T tokens of an answer.
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

from core import answers, layers
from core.answers import Answer
from core.errors import UserError, check_numbers, check_positive
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from hinting import questions, rows, settings, vocabulary
from hinting.model_config import ModelConfig
from hinting.questions import Question
from hinting.rows import RowKind
from hinting.transformer import TENSOR_RULES, Transformer
from hinting.vocabulary import Token

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from hinting import plots

# Seeds of the evaluation lists and of the fixed training sets. config.seed must
# differ from all of them.
SEEDS = {
  'validation': 231_000,
  'test': 231_001,
  'training_set': 231_002,
  'carries': 231_003,
}


def sweep_figures(points: Mapping[str, Any]) -> dict[str, Any]:
  """Plot the runs of a sweep; see `plots.sweep_figures`."""
  return plots.sweep_figures(points)


class HintedTask:
  """Implements `core.task.Task`; a subclass defines the lists and their text.

  Args:
    config: config of the experiment.
    kinds: kinds of rows by name.
    main: name of the main task in `kinds`.
    delimiter: delimiter of the main task.
    num_values: largest value in a row.
  """

  tensor_rules = TENSOR_RULES
  # Evaluators of --mode=eval, named after the distributions of their lists.
  tests: tuple[str, ...] = ('test',)

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    kinds: Mapping[str, RowKind],
    *,
    main: str,
    delimiter: Token,
    num_values: int,
  ):
    check_positive(
      config,
      'model.width',
      'model.num_heads',
      'model.num_layers',
      'model.feed_forward_width',
      'evals.num_lists',
      'evals.num_test_lists',
    )
    check_numbers(config, 'evals.lengths')
    check_numbers(config, 'evals.test_lengths')
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    self.dtype = jnp.dtype(config.dtype)
    self.kinds = kinds
    self.main = main
    self.delimiter = delimiter
    self.vocabulary_size = vocabulary.size(num_values)
    self.hints = settings.parse_hints(self.data.hint)
    settings.check(self.data, self.evals, self.model_config, kinds, main)

  def draw_values(
    self, key: jax.Array, count: jax.Array, *, size: int, distribution: str
  ) -> jax.Array:
    """Draw a list.

    Args:
      key: random key of the list.
      count: number of values of the list.
      size: N, the size of the result.
      distribution: 'train', 'test' (also for validation), or another of
        `tests`.

    Returns:
      Values from 1, int32 [N], of which the first `count` belong to the list.
    """
    raise NotImplementedError

  def parse(self, line: str) -> np.ndarray:
    """Read the list of a line of text.

    Returns:
      The values, int32 [N], N at most `data.max_predict_length`.

    Raises:
      UserError: the line is not a list.
    """
    raise NotImplementedError

  def solve(self, values: list[int]) -> str:
    """Return the correct answer to a list as text."""
    raise NotImplementedError

  def finish(
    self, answer: list[int | None], values: list[int]
  ) -> tuple[str, str]:
    """Format an answer and check it.

    Args:
      answer: decoded values before EOS; None for a token that is not a value.
      values: values of the list.

    Returns:
      The answer as text, and the failure, which is '' if the answer is correct.
    """
    raise NotImplementedError

  def make_model(self, rngs: nnx.Rngs) -> Transformer:
    """Build the network."""
    return Transformer(
      self.model_config, self.vocabulary_size, dtype=self.dtype, rngs=rngs
    )

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return no columns: lists are drawn on the device."""
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
    """Draw `size` rows, two in each packed row of `rows.make_pairs`.

    All hints have the same number of rows. Their total share is `hint_share`.

    Returns:
      The columns of `rows.pack`, named '<kind of row>/<column>'.

    Raises:
      UserError: the rows of a kind are not a whole number of pairs.
    """
    del arrays
    batch, longest = {}, self.data.max_train_length
    for index, (name, count) in enumerate(self._num_pairs(size).items()):
      pairs = rows.make_pairs(
        self.kinds[name],
        self._pair_keys(jax.random.fold_in(key, index), index, count),
        max_length=longest,
        batch_max_length=self._batch_max_length(step),
        draw_values=functools.partial(
          self.draw_values, size=longest, distribution='train'
        ),
      )
      batch |= {f'{name}/{column}': x for column, x in pairs.items()}
    return batch

  def _num_pairs(self, size: int) -> dict[str, int]:
    """Return the number of pairs of each kind in a batch of `size` rows."""
    share = self.data.hint_share if self.hints else 0.0
    num_pairs, rest = divmod(size, 2)
    per_hint = share * num_pairs / max(len(self.hints), 1)
    if rest or abs(per_hint - round(per_hint)) > 1e-6:
      raise UserError(
        f'config.batch_size={size} with {len(self.hints)} hints and'
        f' hint_share={share} does not give each kind of row a whole number of'
        ' pairs; change the batch size or the share'
      )
    hint_pairs = {hint: round(per_hint) for hint in self.hints if per_hint}
    return {self.main: num_pairs - sum(hint_pairs.values())} | hint_pairs

  def _batch_max_length(self, step: jax.Array) -> jax.Array | int:
    """Return the length of the longest list in the batch of a step."""
    if not self.data.curriculum_steps:
      return self.data.max_train_length
    ramp = optax.linear_schedule(
      rows.MIN_LENGTH, self.data.max_train_length, self.data.curriculum_steps
    )
    return jnp.asarray(ramp(step)).astype(jnp.int32)

  def _pair_keys(
    self, key: jax.Array, kind_index: int, count: int
  ) -> jax.Array:
    """Return the keys of `count` pairs of rows.

    If `num_rows` sets the size of a fixed training set, the keys are drawn from
    those of its pairs.
    """
    if not self.data.num_rows:
      return jax.random.split(key, count)
    index = jax.random.randint(key, (count,), 0, self.data.num_rows // 2)
    set_key = jax.random.key(SEEDS['training_set'])
    set_key = jax.random.fold_in(set_key, kind_index)
    return jax.vmap(jax.random.fold_in, (None, 0))(set_key, index)

  def loss(
    self, model: Transformer, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean cross-entropy of the answer tokens, in nats.

    The mean is over the tokens of all kinds of rows. The metrics are the token
    accuracy of each kind.
    """
    total, weight = jnp.zeros(()), jnp.zeros(())
    metrics = {}
    kinds = dict.fromkeys(name.partition('/')[0] for name in batch)
    for index, kind in enumerate(kinds):
      targets, weights = batch[f'{kind}/targets'], batch[f'{kind}/weights']
      logits = model(
        batch[f'{kind}/tokens'],
        at=batch[f'{kind}/at'],
        segments=batch[f'{kind}/segments'],
        positions=batch[f'{kind}/positions'],
        position_key=jax.random.fold_in(key, index),
      )
      losses = layers.cross_entropy(logits, targets)
      total += (losses * weights).sum()
      weight += weights.sum()
      metrics[f'{kind}_tokens'] = Metric.mean(
        logits.argmax(-1) == targets, weights, is_independent=False
      )
    return total / weight, metrics

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation', which runs in training, and those in `tests`.

    Validation uses the distribution of 'test'. Only `--mode=eval` runs the
    tests, which have more lists and more lengths.
    """

    def make(name, distribution, lengths, count, every):
      return Evaluator(
        arrays=lambda: {'index': np.arange(count)},
        measure=functools.partial(
          self._measure, SEEDS[name], distribution, lengths
        ),
        batch_size=self.evals.batch_size,
        every=every,
      )

    evals = self.evals
    tests = {
      name: make(name, name, evals.test_lengths, evals.num_test_lists, 0)
      for name in self.tests
    }
    validation = make(
      'validation', 'test', evals.lengths, evals.num_lists, evals.every
    )
    return {'validation': validation} | tests

  def draw_lists(
    self,
    seed: int,
    index: jax.Array,
    length: int,
    *,
    distribution: str = 'test',
  ) -> jax.Array:
    """Draw the lists of a fixed set.

    Args:
      seed: seed of the set.
      index: the index of each list in the set, int [B].
      length: N.
      distribution: see `draw_values`.

    Returns:
      Values, int32 [B, N].
    """
    draw = functools.partial(
      self.draw_values, size=length, distribution=distribution
    )
    key = jax.random.fold_in(jax.random.key(seed), length)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(draw, (0, None))(keys, jnp.asarray(length))

  def _measure(
    self,
    seed: int,
    distribution: str,
    lengths: tuple,
    model: Transformer,
    batch: Batch,
  ) -> Metrics:
    """Return the accuracy of whole answers and of tokens for each length.

    The input includes the correct answer. Greedy decoding is correct if and
    only if each of these next-token predictions is correct. An exception is
    positions='randomized', because decoding draws other positions.
    """
    kind = self.kinds[self.main]
    metrics = {}
    for length in lengths:
      values = self.draw_lists(
        seed, batch['index'], length, distribution=distribution
      )
      packed = jax.vmap(functools.partial(rows.make_single, kind))(values)
      predicted = model(packed['tokens'], at=packed['at']).argmax(-1)
      is_correct = predicted == packed['targets']
      weights = packed['weights']
      metrics[f'accuracy_length_{length}'] = Metric.mean(
        (is_correct | (weights == 0)).all(1), batch['weight']
      )
      metrics[f'tokens_length_{length}'] = Metric.mean(
        jnp.where(is_correct, weights, 0).sum(1) / weights.sum(1),
        batch['weight'],
        is_independent=False,
      )
    return metrics

  def figures(self, values: Mapping[str, Any], model=None) -> dict[str, Any]:
    """Return the figure of accuracy by list length."""
    del model
    lengths = self.evals.test_lengths
    curves = {name: plots.curve(values, name, lengths) for name in self.tests}
    return plots.accuracy_figures(curves, self.data.max_train_length)

  def predict(
    self, model: Transformer, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answer the list of each line by greedy decoding.

    `answers.report` describes the log of wrong answers and of the accuracy.

    Args:
      model: the network.
      lines: one list per line; see `questions.split_line`.

    Yields:
      The answer as text, '' for a blank line or a comment, or the error of a
      line that cannot be read.
    """

    def finish(question: Question, tokens: np.ndarray) -> Answer:
      decoded = vocabulary.answer_values(tokens)
      text, failure = self.finish(decoded, question.values)
      return Answer(text, failure, not failure if question.has_answer else None)

    read = functools.partial(
      questions.read_line, parse=self.parse, solve=self.solve
    )
    return answers.answer_problems(
      answers.map_lines(lines, read),
      encode=self._make_prompt,
      solve=self._make_decoder(model),
      finish=finish,
    )

  def _make_prompt(self, question: Question) -> dict[str, np.ndarray]:
    """Return the columns of `Transformer.decode` for a question."""
    tokens = vocabulary.value_token(np.array(question.values))
    prompt = [Token.BOS, *tokens, self.delimiter]
    start = self.data.max_predict_length + 2 - len(prompt)
    return {
      'prompts': np.array([Token.PAD] * start + prompt, np.int32),
      'starts': np.array(start, np.int32),
    }

  def _make_decoder(self, model: Transformer):
    """Return a function that maps prompts to answer tokens, int32 [B, T]."""
    num_tokens = self.kinds[self.main].num_answers(self.data.max_predict_length)
    graphdef, params = nnx.split(model)

    @jax.jit
    def decode(params, prompts, starts):
      model = nnx.merge(graphdef, params)
      return model.decode(prompts, starts, num_tokens=num_tokens)

    return lambda columns: decode(params, **columns)
