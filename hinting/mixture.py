"""What tasks share that mix rows of a main task with rows of its hints.

Lists of at most 20 values in training, of any length in evaluation, which is by
length: a task says how a list is drawn, and reads and writes text.

Axes: B batch, N values of a list.
"""

import functools
import itertools
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
from core.lines import answer_in_batches
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics
from hinting import answers, plots, rows, vocabulary
from hinting.rows import RowKind
from hinting.transformer import ModelConfig, Transformer
from hinting.vocabulary import Token

# Of the keys of evaluation and of fixed training sets; no config.seed should be
# one of them.
SEEDS = {
  'validation': 231_000,
  'test': 231_001,
  'training_set': 231_002,
  'carries': 231_003,
}


class MixtureTask:
  """All of `core.task.Task` but what lists are: the methods that raise.

  Args:
    config: of the experiment.
    kinds: of rows, by name.
    main: the kind of the main task.
    delimiter: of the main task.
    num_values: the largest value in a row.
  """

  # Evaluators of eval, each on lists drawn by the law of its name.
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
    self.model_config = ModelConfig(**config.model)
    self.data, self.evals = config.data, config.evals
    self.dtype = jnp.dtype(config.dtype)
    self.kinds, self.main, self.delimiter = kinds, main, delimiter
    self.vocabulary_size = vocabulary.size(num_values)
    self.hints = tuple(filter(None, self.data.hint.split('+')))
    for hint in self.hints:
      check_choice('config.data.hint', hint, [k for k in kinds if k != main])
    if len(set(self.hints)) < len(self.hints):
      raise UserError(f'config.data.hint={self.data.hint}: a hint twice')
    if not 0 <= self.data.hint_share < 1:
      raise UserError(
        f'config.data.hint_share={self.data.hint_share}: at least 0 and less'
        ' than 1 expected'
      )
    if self.data.num_rows < 0 or self.data.num_rows % 2:
      raise UserError(
        f'config.data.num_rows={self.data.num_rows}: an even number expected,'
        ' for rows come in pairs; or 0, for fresh ones'
      )
    longest = max(
      *self.evals.lengths, *self.evals.test_lengths, self.data.longest_list
    )
    num_positions = kinds[main].num_tokens(longest) - 1
    if self.model_config.has_table and (
      self.model_config.max_positions < num_positions
    ):
      raise UserError(
        f'config.model.max_positions={self.model_config.max_positions}: rows of'
        f' {longest} values have {num_positions} positions'
      )
    # Four values and START are as many queries as a row of 'successors' has.
    if not 4 <= self.data.max_length <= 20:
      raise UserError(
        f'config.data.max_length={self.data.max_length}: 4 to 20 expected'
      )

  def draw_values(
    self, key: jax.Array, count: jax.Array, *, size: int, law: str
  ) -> jax.Array:
    """Draws a list: int32 [N] of values from 1, N = `size`.

    Args:
      key: of the list.
      count: how many of its values are there.
      size: N.
      law: 'train', 'test' (of validation, too), or another of `tests`.
    """
    raise NotImplementedError

  def parse(self, line: str) -> np.ndarray:
    """The list of a line of text: int [n], n at most `data.longest_list`.

    Raises:
      UserError: there is none.
    """
    raise NotImplementedError

  def solve(self, values: list[int]) -> str:
    """Return the right answer to a list as text."""
    raise NotImplementedError

  def finish(
    self, answer: list[int | None], values: list[int]
  ) -> tuple[str, str]:
    """Return an answer as text and what is wrong with it, '' if it is right.

    Args:
      answer: The decoded values before EOS; None for a token that is no value.
      values: The values of the list.
    """
    raise NotImplementedError

  def make_model(self, rngs: nnx.Rngs) -> Transformer:
    """Builds the network."""
    return Transformer(
      self.model_config, self.vocabulary_size, dtype=self.dtype, rngs=rngs
    )

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """None: lists are drawn on the device."""
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
    """Draws `size` rows, two in each packed row of `rows.make_pairs`.

    Names are '<kind of row>/<name>'. A share `hint_share` of the rows is of the
    hints, in equal parts, exactly.

    Raises:
      UserError: the shares are no whole numbers of pairs.
    """
    del arrays
    batch = {}
    longest = self._longest(step)
    for index, (name, count) in enumerate(self._shares(size).items()):
      pairs = rows.make_pairs(
        self.kinds[name],
        self._keys(jax.random.fold_in(key, index), index, count),
        max_length=self.data.max_length,
        longest=longest,
        draw_values=functools.partial(
          self.draw_values, size=self.data.max_length, law='train'
        ),
      )
      batch |= {f'{name}/{column}': x for column, x in pairs.items()}
    return batch

  def _shares(self, size: int) -> dict[str, int]:
    """The pairs of rows of each kind in a batch of `size` rows."""
    share = self.data.hint_share if self.hints else 0.0
    pairs, rest = divmod(size, 2)
    each = share * pairs / max(len(self.hints), 1)
    if rest or abs(each - round(each)) > 1e-6:
      raise UserError(
        f'config.batch_size={size}: a share of {share} for'
        f' {len(self.hints)} hints is no whole number of pairs of rows'
      )
    shares = {hint: round(each) for hint in self.hints if each}
    return {self.main: pairs - sum(shares.values())} | shares

  def _longest(self, step: jax.Array) -> jax.Array | int:
    """The longest list at a step: any, or what the curriculum gives."""
    if not self.data.curriculum_steps:
      return self.data.max_length
    ramp = optax.linear_schedule(
      rows.MIN_LENGTH, self.data.max_length, self.data.curriculum_steps
    )
    return jnp.asarray(ramp(step)).astype(jnp.int32)

  def _keys(self, key: jax.Array, kind: int, count: int) -> jax.Array:
    """Keys of pairs [count]: fresh ones, or those of a fixed training set."""
    if not self.data.num_rows:
      return jax.random.split(key, count)
    index = jax.random.randint(key, (count,), 0, self.data.num_rows // 2)
    pool = jax.random.fold_in(jax.random.key(SEEDS['training_set']), kind)
    return jax.vmap(jax.random.fold_in, (None, 0))(pool, index)

  def loss(
    self, model: Transformer, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Cross-entropy of the answers' tokens, the mean over all kinds, in nats.

    Logs the accuracy of each kind's tokens.
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
    """'validation' while training; `tests`, of more lists and lengths, by eval.

    Lists of validation are drawn as those of 'test'.
    """

    def make(name, law, lengths, count, every):
      return Evaluator(
        arrays=lambda: {'index': np.arange(count)},
        measure=functools.partial(self._measure, SEEDS[name], law, lengths),
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
    self, seed: int, index: jax.Array, length: int, *, law: str = 'test'
  ) -> jax.Array:
    """A list of `length` values for each number: int32 [B N], of all three."""
    draw = functools.partial(self.draw_values, size=length, law=law)
    key = jax.random.fold_in(jax.random.key(seed), length)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(draw, (0, None))(keys, jnp.asarray(length))

  def _measure(
    self, seed: int, law: str, lengths: tuple, model: Transformer, batch: Batch
  ) -> Metrics:
    """Lists of each length whose whole answer, with its end, is right.

    With the right answer so far as input: greedy decoding is right exactly
    where each of these tokens is.
    """
    kind = self.kinds[self.main]
    metrics = {}
    for length in lengths:

      def make(values, length=length):
        row = kind.make_row(jax.random.key(0), values, jnp.asarray(length))
        return rows.pack(
          jax.tree.map(lambda x: x[None], row),
          kind.num_tokens(length) - 1,
          kind.num_answers(length),
        )

      values = self.draw_lists(seed, batch['index'], length, law=law)
      made = jax.vmap(make)(values)
      is_right = model(made['tokens'], at=made['at']).argmax(-1)
      is_right, weights = is_right == made['targets'], made['weights']
      metrics[f'accuracy_length_{length}'] = Metric.mean(
        (is_right | (weights == 0)).all(1), batch['weight']
      )
      metrics[f'tokens_length_{length}'] = Metric.mean(
        (is_right * weights).sum(1) / weights.sum(1),
        batch['weight'],
        is_independent=False,
      )
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: Transformer | None = None
  ) -> dict[str, Figure]:
    """Accuracy against the length of the list."""
    del model
    lengths = self.evals.test_lengths
    curves = {name: _curve(values, name, lengths) for name in self.tests}
    return _accuracy_by_length(curves, self.data.max_length)

  def predict(
    self, model: Transformer, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Answer the list of each line by greedy decoding.

    Each wrong answer is a warning with the number of its line. If lines carry
    their answers, a last warning states the accuracy on them.

    Args:
      model: The network.
      lines: One list per line; see `answers.split_line`.

    Yields:
      The answer to each line as text, '' for a blank line or a comment, or the
      error of a line that cannot be read.
    """
    num_given = num_right = 0
    for number, (line, tokens) in enumerate(
      answer_in_batches(
        lines, parse=self._make_prompt, solve=self._make_decoder(model)
      ),
      start=1,
    ):
      if tokens is None or isinstance(tokens, UserError):
        yield '' if tokens is None else tokens
        continue
      values, is_given = self._read_line(line)
      text, failure = self.finish(_values(tokens), values)
      if failure:
        logging.warning('line %d: the answer %s', number, failure)
      num_given += is_given
      num_right += is_given and not failure
      yield text
    if num_given:
      logging.warning('%s', answers.accuracy_text(num_right, num_given))

  def _read_line(self, line: str) -> tuple[list[int], bool] | None:
    """Return the values of a line and whether it carries its answer."""
    parts = answers.split_line(line)
    if parts is None:
      return None
    question, given = parts
    values = self.parse(question).tolist()
    if given is not None:
      answers.check_answer(given, self.solve(values))
    return values, given is not None

  def _make_prompt(self, line: str) -> dict[str, np.ndarray] | None:
    """Return the columns of `Transformer.decode` for a line."""
    question = self._read_line(line)
    if question is None:
      return None
    values = vocabulary.value_token(np.array(question[0]))
    prompt = [Token.BOS, *values, self.delimiter]
    start = self.data.longest_list + 2 - len(prompt)
    return {
      'prompts': np.array([Token.PAD] * start + prompt, np.int32),
      'starts': np.array(start, np.int32),
    }

  def _make_decoder(self, model: Transformer):
    """Return a function that maps prompts to answers, int32 [B, T]."""
    num_tokens = self.kinds[self.main].num_answers(self.data.longest_list)
    graphdef, params = nnx.split(model)

    @jax.jit
    def decode(params, prompts, starts):
      model = nnx.merge(graphdef, params)
      return model.decode(prompts, starts, num_tokens=num_tokens)

    return lambda columns: decode(params, **columns)


def sweep_figures(
  points: Mapping[str, tuple[ml_collections.ConfigDict, Mapping[str, Any]]],
) -> dict[str, Figure]:
  """Accuracy of each run against the length of the list."""
  curves = {
    name: _curve(values, 'test', config.evals.test_lengths)
    for name, (config, values) in points.items()
  }
  longest = max(config.data.max_length for config, _ in points.values())
  return _accuracy_by_length(curves, longest)


def _curve(values, test, lengths):
  """Lengths and shares for `plots.accuracy_by_length`; None: none known."""
  names = [f'{test}/accuracy_length_{n}' for n in lengths]
  median = [values.get(name) for name in names]
  low, high = (
    [values.get(name + end, values.get(name)) for name in names]
    for end in ('_min', '_max')
  )
  shares = np.array([low, median, high], float)
  return None if np.isnan(shares).all() else (lengths, shares)


def _accuracy_by_length(curves, longest):
  curves = {name: curve for name, curve in curves.items() if curve}
  if not curves:
    return {}
  figure = plots.accuracy_by_length(curves, longest)
  return {'test_accuracy_by_length': figure}


def _values(tokens: np.ndarray) -> list[int | None]:
  """The values of an answer up to its end, None for other tokens."""
  first = vocabulary.FIRST_VALUE
  answer = itertools.takewhile(lambda t: t != Token.EOS, tokens.tolist())
  return [t - first + 1 if t >= first else None for t in answer]
