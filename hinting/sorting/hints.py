"""The lists, the main task, its hints, and the controls as rows of tokens.

We know the paper (Awasthi & Gupta 2023) only from its abstract, reviews, and
summaries; see docs/notes/hinting.md. It certainly uses `successor`, and
probably `fill` and `count`. A review mentions predecessor and parity without
saying whether they are hints for sorting. The row formats and all other hints
are ours.

A list x of n values, here 7 3 7 1, becomes

  sort                BOS 7 3 7 1 SORT  1 3 7 7 EOS
  scratchpad          BOS 7 3 7 1 SORT  1 1 3 1 7 2 7 1 EOS
  successor           BOS 7 3 7 1 SUCCESSOR 3  7 EOS
  successors          BOS 7 3 7 1 SUCCESSOR 3 (7) START (1) 7 (EOS)
  predecessor         BOS 7 3 7 1 PREDECESSOR 3  1 EOS
  count               BOS 7 3 7 1 COUNT 7  2 EOS
  rank                BOS 7 3 7 1 RANK 3  2 EOS
  member              BOS 7 3 7 1 MEMBER 5  1 EOS
  fill                BOS 7 3 7 1 FILL 1 MASK 7 MASK GO  3 7 EOS
  min, max            BOS 7 3 7 1 MIN  1 EOS
  parity              BOS 7 3 7 1 PARITY  1 EOS
  copy                BOS 7 3 7 1 COPY  7 3 7 1 EOS
  shuffled_successor  BOS 7 3 7 1 SUCCESSOR 3  1 EOS
  more_sort           BOS 7 3 7 1 SORT  1 3 7 7 EOS

The answer follows two spaces, or is in parentheses. The loss covers the answer
only. `scratchpad` is another form of the main task: after each value, it writes
the number of copies left plus 1. The last two are controls, which replace a
hint: `shuffled_successor` answers with any value of the list (and, like
`successor`, with nothing for the largest value), and `more_sort` repeats the
main task.

The functions named after rows map a random key, an array of values [N], and the
number of values of the list to the pieces of a row; see `rows.RowKind`.

Axes: B batch, N values of an array, of which the first `count` are the list,
V possible values.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from hinting import rows, vocabulary
from hinting.rows import Piece, RowKind
from hinting.vocabulary import Token

LISTS = 'uniform', 'distinct', 'rich', 'dense', 'diverse'
NUM_QUERIES = 5  # number of queries in a row of 'successors'
FILL_RATE = 0.3  # rate of holes in a row of 'fill', which has at least one


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
    key: random key of the list.
    count: number of values of the list; 'rich', 'dense', and 'diverse' depend
      on it.
    size: N.
    num_values: V.
    lists: one of `LISTS`.

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


def _draw_queries(key, values, count, num_queries, *, has_start: bool):
  """Draw distinct values of the list, and START if `has_start`, as queries.

  Returns:
    The values in random order, int32 [num_queries], with 0 for START; and the
    number of valid ones, which come first.
  """
  options = _first_copies(values, count)
  if has_start:
    values = jnp.append(values, 0)
    options = jnp.append(options, True)
  # Options have keys from 1 to 2, and other elements have keys from 0 to 1.
  order = jax.random.uniform(key, values.shape) + options.astype(jnp.float32)
  chosen = jax.lax.top_k(order, num_queries)[1]
  return values[chosen], jnp.minimum(options.sum(), num_queries)


def _query_piece(query, count) -> Piece:
  """Return the piece of one query; the query 0 gives START."""
  token = jnp.where(query == 0, Token.START, vocabulary.value_token(query))
  return Piece(token[None], count)


def _successor_of(query, values, count):
  """Return the smallest value above a query, and whether it exists."""
  above = _is_in_list(values, count) & (values > query)
  big = jnp.iinfo(jnp.int32).max
  return jnp.where(above, values, big).min(), above.any()


def sort(key, values, count):
  """Return the pieces of `sort`, the main task."""
  del key
  answer = rows.numbers(_sorted(values, count), count, is_answer=True)
  return [*rows.prompt(values, count, Token.SORT), answer, rows.end()]


def sort_rows(values: Int[Array, 'B N']) -> Int[Array, 'B 2*N+3']:
  """Return rows of `sort` for lists of N values, without padding."""
  count = values.shape[1]

  def make(row):
    return rows.join(sort(None, row, count), 2 * count + 3).tokens

  return jax.vmap(make)(jnp.asarray(values))


def scratchpad(key, values, count):
  """Return the pieces of `scratchpad`: sorted values, each with copies left."""
  del key
  ordered = _sorted(values, count)
  same = ordered[:, None] == ordered[None]
  same &= _is_in_list(values, count)[None]
  left = jnp.triu(same, 1).sum(1)
  # Value c + 1 stands for c copies left.
  pairs = jnp.stack([ordered, left + 1], 1).reshape(-1)
  answer = rows.numbers(pairs, 2 * count, is_answer=True)
  return [*rows.prompt(values, count, Token.SORT), answer, rows.end()]


def successor(key, values, count, *, is_shuffled: bool = False):
  """Return the pieces of `successor`, the next larger value.

  The answer for the largest value is empty, and START asks for the smallest
  value. In the control `is_shuffled`, the answer is a random value of the list;
  it is still empty for the largest value.
  """
  query_key, random_key = jax.random.split(key)
  (query,), _ = _draw_queries(query_key, values, count, 1, has_start=True)
  answer, exists = _successor_of(query, values, count)
  if is_shuffled:
    answer = values[jax.random.randint(random_key, (), 0, count)]
  return [
    *rows.prompt(values, count, Token.SUCCESSOR),
    _query_piece(query, 1),
    rows.numbers(answer, exists.astype(jnp.int32), is_answer=True),
    rows.end(),
  ]


def successors(key, values, count):
  """Return the pieces of `successors`: up to five queries of `successor`."""
  queries, num_valid = _draw_queries(
    key, values, count, NUM_QUERIES, has_start=True
  )
  answers, exists = jax.vmap(_successor_of, (0, None, None))(
    queries, values, count
  )
  tokens = jnp.where(exists, vocabulary.value_token(answers), Token.EOS)
  pieces = rows.prompt(values, count, Token.SUCCESSOR)
  for index in range(NUM_QUERIES):
    is_valid = (index < num_valid).astype(jnp.int32)
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
    *rows.prompt(values, count, Token.PREDECESSOR),
    rows.numbers(query, 1),
    rows.numbers(answer, below.any().astype(jnp.int32), is_answer=True),
    rows.end(),
  ]


def _ask_about_value(key, values, count, delimiter: Token, measure):
  """Return pieces that ask for a number about one value of the list.

  `measure` maps the list, padded with 0, and the query to the answer.
  """
  (query,), _ = _draw_queries(key, values, count, 1, has_start=False)
  answer = measure(jnp.where(_is_in_list(values, count), values, 0), query)
  return [
    *rows.prompt(values, count, delimiter),
    rows.numbers(query, 1),
    rows.numbers(answer, 1, is_answer=True),
    rows.end(),
  ]


def count_copies(key, values, count):
  """Return the pieces of `count`, the number of copies of a value."""
  return _ask_about_value(
    key, values, count, Token.COUNT, lambda x, query: (x == query).sum()
  )


def rank(key, values, count):
  """Return the pieces of `rank`, the number of values at most the query."""
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
  # If no value fits, because the list has all values, any value is drawn.
  fits = (is_in == wanted).astype(jnp.float32)
  order = jax.random.uniform(choice, options.shape) + fits
  query = options[order.argmax()]
  return [
    *rows.prompt(values, count, Token.MEMBER),
    rows.numbers(query, 1),
    rows.numbers(1 + is_in[query - 1].astype(jnp.int32), 1, is_answer=True),
    rows.end(),
  ]


def _ask_about_list(key, values, count, *, delimiter: Token, measure):
  """Return pieces that ask for one number about the whole list.

  `measure` maps the sorted list and its length to the answer.
  """
  del key
  ordered = _sorted(values, count)
  answer = measure(ordered, count)
  answer = rows.numbers(answer, 1, is_answer=True)
  return [*rows.prompt(values, count, delimiter), answer, rows.end()]


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
  tokens = jnp.where(holes, Token.MASK, vocabulary.value_token(ordered))
  missing = ordered[jnp.argsort(~holes, stable=True)]
  return [
    *rows.prompt(values, count, Token.FILL),
    Piece(tokens, count),
    rows.special(Token.GO),
    rows.numbers(missing, holes.sum(), is_answer=True),
    rows.end(),
  ]


def kinds(num_values: int) -> dict[str, RowKind]:
  """Return all kinds of rows by name, for values 1 to `num_values`."""

  def value_question(pieces) -> RowKind:
    return RowKind(
      pieces,
      lambda n: n + 5,  # BOS, list, delimiter, query, answer, EOS
      lambda n: 2,  # answer, EOS
    )

  def list_question(delimiter, measure) -> RowKind:
    return RowKind(
      functools.partial(_ask_about_list, delimiter=delimiter, measure=measure),
      lambda n: n + 4,  # BOS, list, delimiter, answer, EOS
      lambda n: 2,  # answer, EOS
    )

  def list_answer(pieces, answers_per_value: int = 1) -> RowKind:
    k = answers_per_value
    return RowKind(
      pieces,
      lambda n: n + k * n + 3,  # BOS, list, delimiter, answers, EOS
      lambda n: k * n + 1,  # answers, EOS
    )

  return {
    'sort': list_answer(sort),
    'scratchpad': list_answer(scratchpad, answers_per_value=2),
    'successor': value_question(successor),
    'successors': RowKind(
      successors,
      # BOS, list, delimiter, and each query with its answer
      lambda n: n + 2 + 2 * NUM_QUERIES,
      lambda n: NUM_QUERIES,
    ),
    'predecessor': value_question(predecessor),
    'count': value_question(count_copies),
    'rank': value_question(rank),
    'member': value_question(functools.partial(member, num_values=num_values)),
    'fill': RowKind(
      fill,
      # BOS, list, delimiter, list with holes, GO, missing values, EOS
      lambda n: 3 * n + 4,
      lambda n: n + 1,  # missing values, EOS
    ),
    'min': list_question(Token.MIN, lambda x, count: x[0]),
    'max': list_question(Token.MAX, lambda x, count: x[count - 1]),
    'parity': list_question(Token.PARITY, _parity),
    'copy': list_answer(rows.copy),
    'shuffled_successor': value_question(
      functools.partial(successor, is_shuffled=True)
    ),
    'more_sort': list_answer(sort),
  }
