"""The 5-gram task: which order of the words does a model find?

`predict` reads five words per line. It prints the perplexity of the words in
the best order, and this order.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epy
from flax import nnx

from core.answers import Answer, answer_lines
from core.errors import UserError, check_choice, check_positive
from core.metrics import Metric, Perplexity
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import order_search, text
from seq2set.ngrams import data

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from seq2set.ngrams import plots

# The orders to search; None for all orders. Table 2 of the paper has a row for
# each entry.
ORDERS = {
  'natural': np.array([data.NATURAL]),  # (1, 2, 3, 4, 5)
  'bad': np.array([data.BAD]),  # (5, 1, 3, 4, 2)
  'easy': np.array([data.NATURAL, data.BAD]),  # one of these two
  'hard': None,  # one of all 5! orders
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and the search.

  Attributes:
    width: width of the LSTM.
    orders: one of `ORDERS`.
    mode: one of `order_search.MODES`. 'given' searches no orders, but selects
      the order of the data. It requires orders='hard', with which evaluation
      measures all orders.
    uniform_steps: number of initial updates with random orders.
    num_sets: see `order_search.loss`.
    sharpness: see `order_search.loss`.
  """

  width: int = 512
  orders: str = 'hard'
  mode: str = 'sample'
  uniform_steps: int = 1000
  num_sets: int = 8
  sharpness: float = 1.0

  def __post_init__(self):
    check_choice('config.model.orders', self.orders, ORDERS)
    check_choice('config.model.mode', self.mode, order_search.MODES)
    if self.mode == 'given' and self.orders != 'hard':
      raise UserError(
        "config.model.mode='given' selects the order of the data and searches"
        f' none of config.model.orders={self.orders!r}; set'
        " config.model.orders='hard', which evaluates all orders, or another"
        ' mode'
      )


def make_task(config: ml_collections.ConfigDict) -> 'NgramsTask':
  """Build the task from its config."""
  return NgramsTask(config)


def training_figures(
  lines: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
  """Plot the share of each order over training."""
  name = 'eval/validation/share_by_order'
  found = {line['step']: line[name] for line in lines if name in line}
  if len(found) < 2:
    return {}
  orders = order_search.all_orders(data.N)
  shares = np.array(list(found.values()))
  return {'share_by_update': plots.share_by_update(orders, [*found], shares)}


class NgramsTask:
  """Vinyals et al. 2016, section 5.2.1. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_sets',
      'evals.num_examples',
    )
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.corpus = text.Corpus(
      self.data.source, self.data.vocabulary_size, data_dir=self.data.dir
    )
    self.evals = config.evals
    self.orders = ORDERS[self.model_config.orders]

  def make_model(self, rngs: nnx.Rngs) -> order_search.TokenModel:
    """Build the network on the tokens of `data.tokens`."""
    return order_search.TokenModel(
      data.N * self.data.vocabulary_size, self.model_config.width, rngs=rngs
    )

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'tokens' int32 [n, 5] of all 5-grams of a split."""
    windows = data.windows(self.corpus.sentences(split))
    if not len(windows):
      raise UserError(
        f'{self.data.source!r} has no sentence of at least {data.N} words in'
        f' the {split} split; use a text with longer sentences'
      )
    return {'tokens': data.tokens(windows)}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample 'tokens' [B, 5]; 'is_uniform' [B] is True for random orders."""
    row = jax.random.randint(key, (size,), 0, len(arrays['tokens']))
    is_uniform = step < self.model_config.uniform_steps
    return {
      'tokens': arrays['tokens'][row],
      'is_uniform': jnp.broadcast_to(is_uniform, (size,)),
    }

  def loss(
    self, model: order_search.TokenModel, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean -log p of a 5-gram in the selected order, in nats."""
    losses, _ = order_search.loss(
      model,
      batch['tokens'],
      key,
      mode=self.model_config.mode,
      orders=self.orders,
      num_sets=self.model_config.num_sets,
      sharpness=self.model_config.sharpness,
      is_uniform=batch['is_uniform'].all(),
    )
    return losses.mean(), {'perplexity': _perplexity(losses)}

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation' and 'test', each on a sample of 5-grams."""
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    """Sample 5-grams, because neighbors share most of their words."""
    tokens = self.arrays(split)['tokens']
    rows = np.random.default_rng(0).permutation(len(tokens))
    tokens = tokens[np.sort(rows[: self.evals.num_examples])]
    return {'tokens': tokens, 'index': np.arange(len(tokens), dtype=np.int32)}

  def _measure(self, model: order_search.TokenModel, batch: Batch) -> Metrics:
    """Compute three perplexities per word.

    They are the perplexity of the best searched order, of the sum over the
    searched orders, and of one order sampled from their exact posterior. The
    paper samples orders token by token.
    """
    tokens, weight = batch['tokens'], batch['weight']
    # One key per example, so that the draws do not depend on the batch size.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      jax.random.key(0), batch['index']
    )
    log_p = order_search.log_p_of_orders(model, tokens, self.orders)
    drawn = jax.vmap(jax.random.categorical)(keys, log_p)
    drawn_log_p = jnp.take_along_axis(log_p, drawn[:, None], 1)[:, 0]
    metrics: Metrics = {
      'perplexity': _perplexity(-log_p.max(1), weight),
      'perplexity_of_all_orders': _perplexity(
        -jax.nn.logsumexp(log_p, 1), weight
      ),
      'perplexity_of_a_posterior_draw': _perplexity(-drawn_log_p, weight),
    }
    if self.orders is None:
      orders = order_search.all_orders(data.N)
      best = jax.nn.one_hot(log_p.argmax(1), len(orders))
      tau = np.array([data.kendall_tau(order) for order in orders])
      metrics['absolute_kendall_tau'] = Metric.mean(
        best @ np.abs(tau), weight, is_independent=False
      )
      metrics['share_by_order'] = Metric.mean(best, weight[:, None], axis=0)
    return metrics

  def figures(
    self, values: Mapping[str, Any], model: nnx.Module | None = None
  ) -> dict[str, Any]:
    """Plot the most frequent orders."""
    del model
    return {
      name.replace('/', '_'): plots.share_by_order(
        order_search.all_orders(data.N), shares
      )
      for name, shares in values.items()
      if name.endswith('/share_by_order')
    }

  def predict(
    self, model: order_search.TokenModel, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Yield the perplexity of five words in the best order, and this order."""
    graphdef, params = nnx.split(model)
    if self.orders is None:
      orders = order_search.all_orders(data.N)
    else:
      orders = self.orders

    @jax.jit
    def log_p_of_orders(params, tokens):
      model = nnx.merge(graphdef, params)
      return order_search.log_p_of_orders(model, tokens[None], self.orders)[0]

    def answer_line(line: str) -> Answer:
      words = line.lower().split()
      if len(words) != data.N:
        raise UserError(f'{len(words)} words; expected {data.N}')
      tokens = data.tokens(np.array(self.corpus.encode(words)))
      log_p = np.asarray(log_p_of_orders(params, tokens))
      order = ' '.join(str(1 + k) for k in orders[log_p.argmax()])
      perplexity = np.exp(-log_p.max() / data.N)
      return Answer(f'{perplexity:.4g} in the order {order}')

    return answer_lines(lines, answer_line)


def _perplexity(losses: jax.Array, weights=1.0) -> Perplexity:
  """Return the perplexity per word of losses per 5-gram, in nats."""
  return Perplexity.mean(losses / data.N, weights)
