"""The lists, the main task, its hints, and the controls as rows of tokens.

Our sources about the paper (Awasthi & Gupta 2023) name the hints but do not
define their rows. That the paper has successor is certain; that it has fill and
count is likely. A review mentions predecessor and parity, but not whether they
are hints for sorting. According to the sources, a hint uses the same lists as
sorting and has a simpler answer. The form of the rows and all other hints are
ours.

A list x of n values, here 7 3 7 1, becomes

  sort         BOS 7 3 7 1 SORT  1 3 7 7 EOS
  successor    BOS 7 3 7 1 SUCCESSOR 3  7 EOS
  predecessor  BOS 7 3 7 1 PREDECESSOR 3  1 EOS
  count        BOS 7 3 7 1 COUNT 7  2 EOS
  fill         BOS 7 3 7 1 FILL 1 MASK 7 MASK GO  3 7 EOS
  successors   BOS 7 3 7 1 SUCCESSOR 3 (7) START (1) 7 (EOS)
  rank         BOS 7 3 7 1 RANK 3  2 EOS
  member       BOS 7 3 7 1 MEMBER 5  1 EOS
  min, max     BOS 7 3 7 1 MIN  1 EOS
  parity       BOS 7 3 7 1 PARITY  1 EOS
  copy         BOS 7 3 7 1 COPY  7 3 7 1 EOS
  scratchpad   BOS 7 3 7 1 SORT  1 1 3 1 7 2 7 1 EOS

The answer follows two spaces, or is in parentheses. The loss covers the answer
only.

Axes: B batch, N values of an array, of which the first `count` are the list,
V possible values.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from hinting import rows
from hinting.rows import Piece, RowKind, end, join, numbers, prompt, special
from hinting.vocabulary import Token

LISTS = 'uniform', 'distinct', 'rich', 'dense', 'diverse'
NUM_QUERIES = 5  # The number of queries in a row of 'successors'.
FILL_RATE = 0.3  # The rate of holes in a row of 'fill', which has at least one.


def draw_values(
  key: jax.Array, count: jax.Array, *, size: int, num_values: int, lists: str
) -> jax.Array:
  """Draw a list.

  'uniform' lists have uniform values, and 'distinct' lists have no repeats. For
  the other kinds, half of the lists are uniform. The other half have few or
  close values (n is `count`, and V is `num_values`):

    rich     at most k different values, k uniform in 1 .. n
    dense    values from a window with a width uniform in n .. V
    diverse  at most k different values, k as for rich, from a window with a
             width log-uniform in k .. V

  Values of a window are uniform values modulo its width, which slightly favors
  lower values.

  Args:
    key: The random key of the list.
    count: The number of values of the list; 'rich', 'dense', and 'diverse'
      depend on it.
    size: N.
    num_values: V.
    lists: One of `LISTS`.

  Returns:
    Values from 1 to V, int32 [N].
  """
  keys = jax.random.split(key, 5)
  uniform = jax.random.randint(keys[0], (size,), 1, num_values + 1)
  if lists == 'uniform':
    return uniform
  if lists == 'distinct':
    return jax.random.permutation(keys[0], num_values)[:size] + 1
  num_used = jax.random.randint(keys[1], (), 1, count + 1)
  if lists == 'dense':
    width = jax.random.randint(keys[2], (), count, num_values + 1)
  elif lists == 'diverse':
    share = jax.random.uniform(keys[2])
    width = num_used.astype(jnp.float32) * (num_values / num_used) ** share
    width = width.round().astype(jnp.int32)
  else:
    width = num_values
  low = jax.random.randint(keys[3], (), 1, num_values - width + 2)
  window = low + (uniform - 1) % width
  coin, choice = jax.random.split(keys[4])
  is_uniform = jax.random.bernoulli(coin)
  choices = jax.random.randint(choice, (size,), 0, num_used)
  other = window if lists == 'dense' else window[choices]
  return jnp.where(is_uniform, uniform, other)


def _is_in_list(values, count):
  """Return whether each value belongs to the list: bool [N]."""
  return jnp.arange(len(values)) < count


def _sorted(values, count):
  """Return the list in ascending order, followed by large integers."""
  big = jnp.iinfo(jnp.int32).max
  return jnp.sort(jnp.where(_is_in_list(values, count), values, big))


def _first_copies(values, count):
  """Return whether each value is the first of its copies: bool [N]."""
  same = values[:, None] == values[None]
  earlier = jnp.tril(jnp.ones_like(same), -1)
  return _is_in_list(values, count) & ~(same & earlier).any(1)


def _draw_queries(key, values, count, number, *, has_start: bool):
  """Draw `number` of the distinct values in random order.

  Returns:
    The values, 0 for the query START, and the number of valid ones.
  """
  options = _first_copies(values, count)
  if has_start:
    values = jnp.append(values, 0)
    options = jnp.append(options, True)
  order = jax.random.uniform(key, values.shape) + options.astype(jnp.float32)
  chosen = jax.lax.top_k(order, number)[1]
  return values[chosen], jnp.minimum(options.sum(), number)


def _query_piece(query, count) -> Piece:
  """Return the piece of one query; the query 0 gives START."""
  piece = numbers(query, count)
  return Piece(jnp.where(query == 0, Token.START, piece.tokens), count)


def _successor_of(query, values, count):
  """Return the smallest value above a query, and whether it exists."""
  above = _is_in_list(values, count) & (values > query)
  big = jnp.iinfo(jnp.int32).max
  return jnp.where(above, values, big).min(), above.any()


def sort(key, values, count):
  """Return the pieces of `sort`, the main task."""
  del key
  answer = numbers(_sorted(values, count), count, is_answer=True)
  return [*prompt(values, count, Token.SORT), answer, end()]


def sort_rows(values: Int[Array, 'B N']) -> Int[Array, 'B 2*N+3']:
  """Return rows of `sort` for lists of N values, without padding."""
  count = values.shape[1]

  def make(row):
    return join(sort(None, row, count), 2 * count + 3).tokens

  return jax.vmap(make)(jnp.asarray(values))


def scratchpad(key, values, count):
  """Return the pieces of `scratchpad`: sorted values and their copies left."""
  del key
  ordered = _sorted(values, count)
  same = ordered[:, None] == ordered[None]
  same &= _is_in_list(values, count)[None]
  left = jnp.triu(same, 1).sum(1)
  # Value c + 1 stands for c copies left.
  pairs = jnp.stack([ordered, left + 1], 1).reshape(-1)
  answer = numbers(pairs, 2 * count, is_answer=True)
  return [*prompt(values, count, Token.SORT), answer, end()]


def successor(key, values, count, *, is_shuffled: bool = False):
  """Return the pieces of `successor`, the next larger value.

  The answer for the largest value is empty, and START asks for the smallest
  value. In the control `is_shuffled`, the answer is a random value of the list.
  """
  query_key, random_key = jax.random.split(key)
  (query,), _ = _draw_queries(query_key, values, count, 1, has_start=True)
  answer, exists = _successor_of(query, values, count)
  if is_shuffled:
    answer = values[jax.random.randint(random_key, (), 0, count)]
  return [
    *prompt(values, count, Token.SUCCESSOR),
    _query_piece(query, 1),
    numbers(answer, exists.astype(jnp.int32), is_answer=True),
    end(),
  ]


def successors(key, values, count):
  """Return the pieces of `successors`: up to five queries of `successor`."""
  queries, number = _draw_queries(
    key, values, count, NUM_QUERIES, has_start=True
  )
  answers, exists = jax.vmap(_successor_of, (0, None, None))(
    queries, values, count
  )
  tokens = jnp.where(exists, numbers(answers, 0).tokens, Token.EOS)
  pieces = prompt(values, count, Token.SUCCESSOR)
  for index in range(NUM_QUERIES):
    is_valid = (index < number).astype(jnp.int32)
    pieces.append(_query_piece(queries[index], is_valid))
    pieces.append(Piece(tokens[index : index + 1], is_valid, is_answer=True))
  return pieces


def predecessor(key, values, count):
  """Return the pieces of `predecessor`, the next smaller value.

  The answer for the smallest value is empty.
  """
  (query,), _ = _draw_queries(key, values, count, 1, has_start=False)
  below = _is_in_list(values, count) & (values < query)
  answer = jnp.where(below, values, 0).max()
  return [
    *prompt(values, count, Token.PREDECESSOR),
    numbers(query, 1),
    numbers(answer, below.any().astype(jnp.int32), is_answer=True),
    end(),
  ]


def _ask_about_value(key, values, count, delimiter: Token, measure):
  """Return pieces that ask for a number about one value of the list."""
  (query,), _ = _draw_queries(key, values, count, 1, has_start=False)
  answer = measure(jnp.where(_is_in_list(values, count), values, 0), query)
  return [
    *prompt(values, count, delimiter),
    numbers(query, 1),
    numbers(answer, 1, is_answer=True),
    end(),
  ]


def count_copies(key, values, count):
  """Return the pieces of `count`, the number of copies of a value."""
  return _ask_about_value(
    key, values, count, Token.COUNT, lambda x, query: (x == query).sum()
  )


def rank(key, values, count):
  """Return the pieces of `rank`, the number of values up to the query."""
  return _ask_about_value(
    key,
    values,
    count,
    Token.RANK,
    lambda x, query: ((x > 0) & (x <= query)).sum(),
  )


def member(key, values, count, *, num_values: int):
  """Return the pieces of `member`: 2 if a value is in the list, else 1.

  Half of the queries are in the list.
  """
  coin, choice = jax.random.split(key)
  options = jnp.arange(1, num_values + 1)
  in_list = jnp.where(_is_in_list(values, count), values, 0)
  is_in = (options[:, None] == in_list[None]).any(1)
  wanted = jax.random.bernoulli(coin)
  fits = (is_in == wanted).astype(jnp.float32)
  order = jax.random.uniform(choice, options.shape) + fits
  query = options[order.argmax()]
  return [
    *prompt(values, count, Token.MEMBER),
    numbers(query, 1),
    numbers(1 + is_in[query - 1].astype(jnp.int32), 1, is_answer=True),
    end(),
  ]


def _ask_about_list(key, values, count, *, delimiter: Token, measure):
  """Return pieces that ask for one number about the whole list."""
  del key
  ordered = _sorted(values, count)
  answer = measure(ordered, count)
  answer = numbers(answer, 1, is_answer=True)
  return [*prompt(values, count, delimiter), answer, end()]


def _parity(ordered, count):
  """Return 2 if the sum of the list is odd, else 1."""
  return 1 + jnp.where(_is_in_list(ordered, count), ordered, 0).sum() % 2


def fill(key, values, count):
  """Return the pieces of `fill`, the values missing from a sorted list."""
  one_key, hole_key = jax.random.split(key)
  ordered = _sorted(values, count)
  index = jnp.arange(len(values))
  holes = jax.random.bernoulli(hole_key, FILL_RATE, values.shape)
  holes |= index == jax.random.randint(one_key, (), 0, count)
  holes &= index < count
  shown = Piece(jnp.where(holes, Token.MASK, numbers(ordered, 0).tokens), count)
  missing = ordered[jnp.argsort(~holes, stable=True)]
  return [
    *prompt(values, count, Token.FILL),
    shown,
    special(Token.GO),
    numbers(missing, holes.sum(), is_answer=True),
    end(),
  ]


def kinds(num_values: int) -> dict[str, RowKind]:
  """Return all kinds of rows by name, for values 1 to `num_values`."""

  def query(pieces) -> RowKind:
    return RowKind(pieces, lambda n: n + 5, lambda n: 2)

  def whole(delimiter, measure) -> RowKind:
    pieces = functools.partial(
      _ask_about_list, delimiter=delimiter, measure=measure
    )
    return RowKind(pieces, lambda n: n + 4, lambda n: 2)

  def ordered(pieces, factor: int = 1) -> RowKind:
    return RowKind(
      pieces,
      lambda n: (1 + factor) * n + 3,
      lambda n: factor * n + 1,
    )

  return {
    'sort': ordered(sort),
    'scratchpad': ordered(scratchpad, 2),
    'successor': query(successor),
    'successors': RowKind(
      successors,
      lambda n: n + 2 + 2 * NUM_QUERIES,
      lambda n: NUM_QUERIES,
    ),
    'shuffled_successor': query(functools.partial(successor, is_shuffled=True)),
    'predecessor': query(predecessor),
    'count': query(count_copies),
    'rank': query(rank),
    'member': query(functools.partial(member, num_values=num_values)),
    'min': whole(Token.MIN, lambda x, count: x[0]),
    'max': whole(Token.MAX, lambda x, count: x[count - 1]),
    'parity': whole(Token.PARITY, _parity),
    'copy': ordered(rows.copy),
    'fill': RowKind(fill, lambda n: 3 * n + 4, lambda n: n + 1),
    'more_sort': ordered(sort),  # control: the main task in place of a hint
  }
