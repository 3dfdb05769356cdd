"""Weights, set by hand, with which the transformer sorts exactly.

This command measures the accuracies of the table in hinting/sorting/README.md.
It takes a minute on a CPU core:

  uv run python -m hinting.sorting.construction

The paper (Awasthi & Gupta 2023) shows that two layers with a length-dependent
softmax can sort. We do not know its construction; this one is ours. After each
token of the answer, the network writes the same token while copies are left,
and its successor otherwise:

  layer 1, head A  how much attention SORT gets: 0 within the list
           head B  the successor: the nearest of the larger values
           MLP     whether a token is in the answer: SORT gets 1/2 or more
  layer 2, head C  (k - l) / (k + l): k copies in the list, l in the answer
           MLP     the token itself, if head C is above a threshold

For head B, SORT is a value below all others. BOS is a value above all others,
and stands for EOS. The inverse temperature of a head is log M + c for a query
that attends to M keys. All irrelevant keys together therefore have at most e^-c
times the weight of a relevant one. In head C, this bound is also multiplied by
the threshold.

Axes: B lists, N values of a list, V possible values.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from jaxtyping import Array, Int

from core.errors import UserError
from core.report import markdown, measurements
from core.run import command_line
from hinting import vocabulary
from hinting.model_config import ModelConfig
from hinting.sorting import hints
from hinting.transformer import Transformer
from hinting.vocabulary import Token

# The slope of a gate times its threshold. A gate is half open at its threshold
# and opens within 0.5 % of it.
_STEEPNESS = 100
# The sizes of the table that this command prints.
_NUM_VALUES = 100
_NUM_LISTS = 100
_RESULT = 'hinting', 'sorting', 'construction.json'
_CHUNK = 10  # lists per call: the attention logits of 1,002 tokens take 80 MB


@dataclasses.dataclass(frozen=True)
class _Columns:
  """The columns of the residual stream.

  Tokens are one-hot: 0 is SORT, 1 to V are the values, and V + 1 is BOS, or EOS
  among the proposals.
  """

  num_values: int

  @property
  def num_tokens(self):
    return self.num_values + 2

  @property
  def token(self):
    return slice(0, self.num_tokens)

  @property
  def value(self):
    return slice(1, self.num_values + 1)

  @property
  def proposal(self):
    return slice(self.num_tokens, 2 * self.num_tokens)

  @property
  def numbers(self):
    """The columns of the weight of SORT, 'in the answer', and copies left."""
    return range(2 * self.num_tokens, 2 * self.num_tokens + 3)


def build(
  num_values: int = 100,
  *,
  max_copies: int,
  margin: float,
  frozen_length: int | None = None,
) -> Transformer:
  """Build a transformer of width about 2 V that sorts.

  With a margin of 1 or more and temperatures that follow the length, it sorts
  lists of any length with at most `max_copies` copies of a value, within the
  precision of float32. For lists of 500 values from 1 to 100, the logits are at
  most 1,100. The biases in the MLP of layer 2 are about -200 (2 `max_copies` -
  1), and one copy left moves a gate by 200 or more: float32 resolves this for
  thousands of copies. On accelerators, use
  `jax.default_matmul_precision('float32')`.

  Args:
    num_values: V, tokens as in `vocabulary`.
    max_copies: determines the temperature and the threshold of head C.
    margin: c, the margin of the inverse temperatures.
    frozen_length: all queries have the temperature of the last query for a list
      of this length; None for temperatures that follow the length.

  Raises:
    UserError: a size is below 1.
  """
  if min(num_values, max_copies) < 1:
    raise UserError(
      f'num_values={num_values} and max_copies={max_copies}: expected 1 or more'
    )
  columns = _Columns(num_values)
  config = ModelConfig(
    num_layers=2,
    width=-(-columns.numbers.stop // 4) * 4,
    num_heads=2,
    feed_forward_width=max(num_values, 2),
    temperature='affine_log',
    positions='none',
    has_norm=False,
    activation='relu',
  )
  size = vocabulary.size(num_values)
  graphdef, params = nnx.split(
    nnx.eval_shape(lambda: Transformer(config, size, rngs=nnx.Rngs(0)))
  )
  params = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), nnx.to_pure_dict(params)
  )
  _set_parameters(params, columns, max_copies, margin, frozen_length)
  return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))


def _set_parameters(
  params, columns: _Columns, max_copies, margin, frozen_length
):
  """Set all parameters, which are 0 before the call."""
  values = vocabulary.value_token(np.arange(1, columns.num_values + 1))
  identity = np.eye(columns.num_tokens)
  params['embedding'][[Token.SORT, *values, Token.BOS], columns.token] = (
    identity
  )
  params['head']['kernel'][
    columns.proposal, [Token.SORT, *values, Token.EOS]
  ] = identity
  # Half of (k - l) / (k + l) if one of `max_copies` copies is left.
  threshold = 0.5 / (2 * max_copies - 1)
  first = params['blocks'][0]
  second = params['blocks'][1]
  _set_layer_1(first, columns)
  _set_layer_2(second, columns, threshold)
  for block, extra in (first, 0.0), (second, -math.log(threshold)):
    block['temperature']['offset'][:] = margin + extra
    if frozen_length is None:
      block['temperature']['slope'][:] = 1
    else:  # the last query sees BOS, the list, SORT, and the answer
      block['temperature']['offset'][:] += math.log(2 * frozen_length + 2)


def _set_layer_1(block, columns: _Columns):
  """Set heads A and B, and the gate 'in the answer'."""
  sort_weight, is_answer, _ = columns.numbers
  num_tokens, token = columns.num_tokens, columns.token
  head_width = len(block['query']['bias']) // 2
  head_a, head_b = 0, slice(head_width, head_width + num_tokens)
  scale = head_width**0.5  # the model divides logits by this number
  identity = np.eye(num_tokens)
  # All queries attend to SORT.
  block['query']['bias'][head_a] = scale
  block['key']['kernel'][0, head_a] = 1
  block['value']['kernel'][0, head_a] = 1
  block['out']['kernel'][head_a, sort_weight] = 1
  # The score of a larger value is minus its distance. Other scores are lower.
  distance = np.arange(num_tokens) - np.arange(num_tokens)[:, None]
  scores = -np.where(distance > 0, distance, num_tokens)  # [query, key]
  block['query']['kernel'][token, head_b] = scale * identity
  block['key']['kernel'][token, head_b] = scores.T
  block['value']['kernel'][token, head_b] = identity
  block['out']['kernel'][head_b, columns.proposal] = identity
  # The gate is the difference of two ReLUs. SORT is not in the answer.
  slope = _STEEPNESS / 0.5
  block['up']['kernel'][sort_weight, :2] = slope
  block['up']['kernel'][0, :2] = -slope
  block['up']['bias'][:2] = 0.5 - _STEEPNESS, -0.5 - _STEEPNESS
  block['down']['kernel'][:2, is_answer] = 1, -1


def _set_layer_2(block, columns: _Columns, threshold: float):
  """Set head C, and the gates that propose the token itself."""
  _, is_answer, left = columns.numbers
  num_tokens, token, value = columns.num_tokens, columns.token, columns.value
  num_values = columns.num_values
  scale = (len(block['query']['bias']) // 2) ** 0.5
  identity = np.eye(num_tokens)
  # Keys with the query's token have value 1 in the list, -1 in the answer.
  block['query']['kernel'][token, token] = scale * identity
  block['key']['kernel'][token, token] = identity
  block['value']['kernel'][value, 0] = 1
  block['value']['kernel'][is_answer, 0] = -2
  block['out']['kernel'][0, left] = 1
  # Each value has a gate, which is closed unless the query is that value. The
  # gate has no upper bound: it must only exceed the successor's weight, at most
  # 1.
  slope = _STEEPNESS / threshold
  block['up']['kernel'][left] = slope
  block['up']['kernel'][value, :num_values] = slope * np.eye(num_values)
  block['up']['bias'][:] = 0.5 - _STEEPNESS - slope
  block['down']['kernel'][:num_values, columns.proposal] = identity[value]


def share_sorted(model: Transformer, lists: Int[Array, 'B N']) -> float:
  """Return the share of lists whose whole answer, with EOS, is correct.

  The input includes the correct answer. Greedy decoding is correct if and only
  if each of these next-token predictions is correct.
  """
  graphdef, params = nnx.split(model)
  with jax.default_matmul_precision('float32'):
    return float(_are_sorted(graphdef, params, lists).mean())


@functools.partial(jax.jit, static_argnums=0)
def _are_sorted(graphdef, params, lists):
  model = nnx.merge(graphdef, params)
  start = lists.shape[1] + 1
  rows = hints.sort_rows(lists)
  at = jnp.arange(start, rows.shape[1] - 1)

  def is_sorted(row):
    logits = model(row[None, :-1], at=at[None])[0]
    return (logits.argmax(-1) == row[start + 1 :]).all()

  return jax.lax.map(is_sorted, rows, batch_size=_CHUNK)


def draw_uniform(key: jax.Array, count: int, length: int) -> jax.Array:
  """Draw lists of uniform values 1 to 100: int32 [count, length]."""
  return jax.random.randint(key, (count, length), 1, _NUM_VALUES + 1)


def draw_few(key: jax.Array, count: int, length: int) -> jax.Array:
  """Draw lists like `draw_uniform`, each with at most 10 distinct values."""

  def draw(key):
    value_key, choice_key = jax.random.split(key)
    values = jax.random.permutation(value_key, _NUM_VALUES)[:10] + 1
    return jax.random.choice(choice_key, values, (length,))

  return jax.vmap(draw)(jax.random.split(key, count))


_FROZEN_LENGTHS = 20, 40, 60, 100, 200
_SCALED = {'max_copies': 100, 'margin': 3}
_LENGTHS = 20, 50, 100, 200, 500
# Row -> arguments of `build`, distribution of the lists, and lengths.
_CASES = {
  'scaled': (_SCALED, draw_uniform, _LENGTHS),
  'scaled_10_distinct_values': (_SCALED, draw_few, _LENGTHS),
  **{
    f'frozen_margin_{margin}': (
      {'max_copies': 8, 'margin': margin, 'frozen_length': 20},
      draw_uniform,
      _FROZEN_LENGTHS,
    )
    for margin in range(4)
  },
  **{
    f'scaled_{copies}_copies': (
      {'max_copies': copies, 'margin': 3},
      draw_uniform,
      (20, 100),
    )
    for copies in (2, 3, 4, 6)
  },
}


def run(results: str | None = None):
  """Print the share of sorted lists of each case and length.

  Args:
    results: folder to write a result file to, or None.
  """
  paths = [pathlib.Path(results, *_RESULT)] if results else []
  measurements.make_folders(paths)
  lengths = sorted({n for *_, lengths in _CASES.values() for n in lengths})
  header = ['weights', *(f'n = {n}' for n in lengths)]
  rows = {}
  for line in markdown.lines(header, _measure_rows(rows, lengths)):
    print(line, flush=True)
  command = 'python', '-m', 'hinting.sorting.construction'
  for path in paths:
    table = {**measurements.provenance(command), 'rows': rows}
    measurements.write(path, table)


def _measure_rows(rows: dict, lengths: Iterable[int]) -> Iterator[list[str]]:
  """Add a row of each case to `rows`, and yield its cells."""
  for name, (options, draw, measured) in _CASES.items():
    model = build(_NUM_VALUES, **options)
    cells, shares = [], {}
    for n in lengths:
      cells.append('')
      if n in measured:
        lists = draw(jax.random.key(n), _NUM_LISTS, n)
        num_sorted = round(share_sorted(model, lists) * _NUM_LISTS)
        share = measurements.share(num_sorted, _NUM_LISTS)
        cells[-1] = f'{share["value"]:.0%}'
        shares[f'accuracy_length_{n}'] = share
    rows[name] = {'metrics': shares}
    yield [name, *cells]


if __name__ == '__main__':
  flags.DEFINE_string('results', None, 'A folder of result files to write to.')
  command_line.run_program(lambda: run(flags.FLAGS.results))
