"""The star model task: does it matter whether the head comes first?

An LSTM models the tokens of an example, one per variable. Their order is fixed,
or `seq2set.order_search` searches for one. The paper does not try this search.

`predict` reads one digit per variable, head first, and prints log p in nats.
"""

import dataclasses
import functools
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
from core.metrics import Metric
from core.task import Batch, Evaluator, Metrics, split_evaluators
from seq2set import order_search
from seq2set.star import data

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from seq2set.star import plots

FIXED_ORDERS = 'head_first', 'head_last'
ORDERS = (
  *FIXED_ORDERS,
  *(mode for mode in order_search.MODES if mode != 'given'),
)
_SEEDS = {'train': 0, 'validation': 1, 'test': 2}
_mean = functools.partial(Metric.mean, is_independent=False)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and the order.

  Attributes:
    width: width of the LSTM.
    order: 'head_first', 'head_last', or a mode of `order_search.MODES` that
      searches for an order.
    uniform_steps: number of initial updates of a search with random orders.
    num_sets: see `order_search.loss`.
    sharpness: see `order_search.loss`.
  """

  width: int = 128
  order: str = 'head_first'
  uniform_steps: int = 0
  num_sets: int = 8
  sharpness: float = 1.0

  def __post_init__(self):
    check_choice('config.model.order', self.order, ORDERS)


def make_task(config: ml_collections.ConfigDict) -> 'StarTask':
  """Build the task from its config."""
  return StarTask(config)


def sweep_figures(
  points: Mapping[str, tuple[ml_collections.ConfigDict, Mapping[str, Any]]],
) -> dict[str, Any]:
  """Plot the effect of the position of the head, over the paper's grid."""
  figure = plots.head_first_less_head_last(points.values())
  return {'head_first_less_head_last': figure} if figure else {}


class StarTask:
  """Vinyals et al. 2016, section 5.1.4. Implements `core.task.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    check_positive(
      config,
      'model.width',
      'model.num_sets',
      'data.num_examples',
      'data.num_variables',
      'evals.num_draws',
      'evals.num_examples',
    )
    self.model_config = ModelConfig(**config.model)
    self.data = config.data
    self.evals = config.evals
    num_variables = self.data.num_variables
    order = self.model_config.order
    self.mode = 'given' if order in FIXED_ORDERS else order
    most = order_search.MAX_ENUMERATED
    enumerates_orders = self.mode in ('shared', 'posterior', 'marginal')
    if enumerates_orders and num_variables > most:
      raise UserError(
        f'config.data.num_variables={num_variables} is too large for'
        f' config.model.order={self.mode!r}, which enumerates all orders; use'
        f' at most {most} variables'
      )

  def make_model(self, rngs: nnx.Rngs) -> order_search.TokenModel:
    """Build the network; a token is variable * 10 + symbol, head first."""
    num_tokens = self.data.num_variables * data.NUM_SYMBOLS
    return order_search.TokenModel(
      num_tokens, self.model_config.width, rngs=rngs
    )

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Return 'tokens' [n, T] in the fixed order, and their true 'log_p' [n]."""
    star = data.make(
      self.data.num_variables, self.data.beta, self.data.model_seed
    )
    count = self.data.num_examples
    if split != 'train':
      count = self.evals.num_examples
    rng = np.random.default_rng([self.data.model_seed, _SEEDS[split]])
    symbols = data.sample(star, count, rng)
    tokens = symbols + data.NUM_SYMBOLS * np.arange(symbols.shape[1])
    if self.model_config.order == 'head_last':
      tokens = np.roll(tokens, -1, 1)
    log_p = data.log_p(star, symbols).astype(np.float32)
    return {'tokens': tokens.astype(np.int32), 'log_p': log_p}

  def batch(
    self,
    key: jax.Array,
    arrays: Mapping[str, jax.Array],
    *,
    size: int,
    step: jax.Array,
  ) -> Batch:
    """Sample 'tokens' [B, T]; 'is_uniform' [B] is True for random orders."""
    row = jax.random.randint(key, (size,), 0, len(arrays['tokens']))
    is_uniform = step < self.model_config.uniform_steps
    return {
      'tokens': arrays['tokens'][row],
      'is_uniform': jnp.broadcast_to(is_uniform, (size,)),
    }

  def loss(
    self, model: order_search.TokenModel, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Return the mean -log p of an example in the selected order, in nats."""
    is_uniform = None
    if self.model_config.uniform_steps:
      is_uniform = batch['is_uniform'].all()
    losses, orders = order_search.loss(
      model,
      batch['tokens'],
      key,
      mode=self.mode,
      num_sets=self.model_config.num_sets,
      sharpness=self.model_config.sharpness,
      is_uniform=is_uniform,
    )
    is_last = self.model_config.order == 'head_last'
    head = self.data.num_variables - 1 if is_last else 0
    return losses.mean(), {'head_position': _head_position(orders, head)}

  def evaluators(self) -> dict[str, Evaluator]:
    """Return 'validation' for training and 'test' for `--mode=eval`."""
    return split_evaluators(self.evals, self._evaluation_set, self._measure)

  def _evaluation_set(self, split: str) -> dict[str, np.ndarray]:
    columns = self.arrays(split)
    return columns | {'index': np.arange(len(columns['log_p']), dtype=np.int32)}

  def _measure(self, model: order_search.TokenModel, batch: Batch) -> Metrics:
    """Estimate the KL divergence from the true model, in nats.

    For a search, also estimate it for the best order alone, and compute the
    position of the head in the best order.
    """
    tokens, log_p, weight = batch['tokens'], batch['log_p'], batch['weight']
    if self.mode == 'given':
      excess = log_p - model.log_p(tokens).sum(1)
      return {'excess_nats': _mean(excess, weight)}
    key = jax.random.fold_in(jax.random.key(0), batch['index'][0])
    total, best, orders = order_search.log_p_of_sets(
      model, tokens, key, num_draws=self.evals.num_draws
    )
    return {
      'excess_nats': _mean(log_p - total, weight),
      'excess_nats_of_one_order': _mean(log_p - best, weight),
      'head_position': _head_position(orders, 0, weight),
    }

  def predict(
    self, model: order_search.TokenModel, lines: Iterable[str]
  ) -> Iterator[str | UserError]:
    """Compute log p of the symbols of each line, head first, in nats."""
    graphdef, params = nnx.split(model)
    count = self.data.num_variables

    @jax.jit
    def log_p(params, tokens):
      model = nnx.merge(graphdef, params)
      if self.mode == 'given':
        return model.log_p(tokens[None]).sum()
      key = jax.random.key(0)
      return order_search.log_p_of_sets(
        model, tokens[None], key, num_draws=self.evals.num_draws
      )[0][0]

    def answer_line(line: str) -> Answer:
      words = line.split()
      is_symbol = [w.isascii() and w.isdigit() and len(w) == 1 for w in words]
      if len(words) != count or not all(is_symbol):
        raise UserError(
          f'{line.strip()[:40]!r}: expected {count} digits separated by spaces'
        )
      tokens = np.array(words, int) + data.NUM_SYMBOLS * np.arange(count)
      if self.model_config.order == 'head_last':
        tokens = np.roll(tokens, -1)
      return Answer(f'{log_p(params, tokens):.4f}')

    return answer_lines(lines, answer_line)


def _head_position(orders: jax.Array, head: int, weight=1.0) -> Metric:
  """Return the mean position of token `head` in orders [B, T]."""
  return _mean((orders == head).argmax(1), weight)
