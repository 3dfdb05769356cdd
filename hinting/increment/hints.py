"""Numbers, the task of adding one, and its hints as rows of tokens.

According to a secondary source, the appendix of the paper (Awasthi & Gupta
2023) has this task, with a hint. All rows and hints are ours.

A list of n digits, most significant first, here 1 3 9 9, becomes

  increment  BOS 1 3 9 9 INCREMENT  1 4 0 0 EOS
  span       BOS 1 3 9 9 SPAN  2 EOS
  changed    BOS 1 3 9 9 CHANGED  0 1 1 1 EOS
  tail       BOS 1 3 9 9 TAIL  4 0 0 EOS
  digit      BOS 1 3 9 9 DIGIT 5  6 EOS
  copy       BOS 1 3 9 9 COPY  1 3 9 9 EOS
  parity     BOS 1 3 9 9 PARITY  0 EOS

The answer follows two spaces, and the loss covers the answer only. In the order
'reversed', numbers in lists and answers start with their last digit. The table
shows digits and numbers d; in rows, the value d + 1 stands for d.

The functions named after rows map a random key, an array of values [N], and the
number of digits to the pieces of a row; see `rows.RowKind`.

Axes: N digits of a list, of which the first `count` belong to it.
"""

import functools

import jax
import jax.numpy as jnp

from hinting import rows
from hinting.rows import Piece, RowKind
from hinting.vocabulary import Token

ORDERS = 'standard', 'reversed'
ALL_NINES = 0.1  # share of numbers that consist of 9s
_NINE = 10  # value that stands for the digit 9


def draw_values(
  key: jax.Array, count: jax.Array, *, size: int, order: str, distribution: str
) -> jax.Array:
  """Draw a number without leading zeros as a list of digits.

  The length of the run of 9s at the end is drawn first, because 99 % of uniform
  numbers end in at most one 9. A share `ALL_NINES` of the numbers consists of
  9s only. The run of the others has k digits or more with probability 2 ** -k,
  for k up to n. For 'carries', the length is uniform from n / 2 to n.

  Args:
    key: random key of the number.
    count: n, the number of digits.
    size: N.
    order: one of `ORDERS`.
    distribution: 'carries', or any other.

  Returns:
    Values, int32 [N].
  """
  coin, run_key, digit_key = jax.random.split(key, 3)
  if distribution == 'carries':
    run = jax.random.randint(run_key, (), (count + 1) // 2, count + 1)
  else:
    run = jnp.minimum(jax.random.geometric(run_key, 0.5) - 1, count)
    run = jnp.where(jax.random.bernoulli(coin, ALL_NINES), count, run)
  place = _places(count, size, order)
  is_first = place == count - 1
  # The first digit is not 0, and the digit before the run is not 9.
  low = jnp.where(place < run, 9, is_first.astype(jnp.int32))
  high = jnp.where(place == run, 8, 9)
  return 1 + jax.random.randint(digit_key, (size,), low, high + 1)


def _places(count, size, order):
  """Return the place of each digit: int32 [N], 0 for units.

  The place of padding is not in 0 to n - 1.
  """
  index = jnp.arange(size)
  return index if order == 'reversed' else count - 1 - index


def _add_one(values, count, order):
  """Add one to a number.

  Returns:
    The length of the run of 9s at the end; whether each digit changes, bool
    [N]; and the values of the sum, int32 [N], without a new leading 1.
  """
  place = _places(count, len(values), order)
  is_digit = (0 <= place) & (place < count)
  run = jnp.where(is_digit & (values != _NINE), place, count).min()
  is_changed = is_digit & (place <= run)
  # Value d + 1 stands for digit d, so this adds 1 to the digit modulo 10.
  return run, is_changed, jnp.where(is_changed, values % 10 + 1, values)


def _answer_pieces(digits: Piece, has_grown, order) -> list[Piece]:
  """Return the pieces of an answer, with a leading 1 if the number grows."""
  count = has_grown.astype(jnp.int32)
  one = rows.numbers(jnp.array(2), count, is_answer=True)  # value 2: digit 1
  return [digits, one] if order == 'reversed' else [one, digits]


def increment(key, values, count, *, order: str):
  """Return the pieces of `increment`, the main task."""
  del key
  run, _, after = _add_one(values, count, order)
  digits = rows.numbers(after, count, is_answer=True)
  answer = _answer_pieces(digits, run == count, order)
  return [*rows.prompt(values, count, Token.INCREMENT), *answer, rows.end()]


def tail(key, values, count, *, order: str):
  """Return the pieces of `tail`, the changed digits and any leading 1."""
  del key
  run, is_changed, after = _add_one(values, count, order)
  new_digits = after[jnp.argsort(~is_changed, stable=True)]
  digits = rows.numbers(new_digits, is_changed.sum(), is_answer=True)
  answer = _answer_pieces(digits, run == count, order)
  return [*rows.prompt(values, count, Token.TAIL), *answer, rows.end()]


def changed(key, values, count, *, order: str):
  """Return the pieces of `changed`: whether each digit changes, 0 or 1."""
  del key
  _, is_changed, _ = _add_one(values, count, order)
  answer = rows.numbers(1 + is_changed.astype(jnp.int32), count, is_answer=True)
  return [*rows.prompt(values, count, Token.CHANGED), answer, rows.end()]


def span(key, values, count, *, order: str):
  """Return the pieces of `span`, the number of 9s at the end."""
  del key
  run, _, _ = _add_one(values, count, order)
  answer = rows.numbers(1 + run, 1, is_answer=True)
  return [*rows.prompt(values, count, Token.SPAN), answer, rows.end()]


def parity(key, values, count, *, order: str):
  """Return the pieces of `parity`: whether the run of 9s is odd."""
  del key
  run, _, _ = _add_one(values, count, order)
  answer = rows.numbers(1 + run % 2, 1, is_answer=True)
  return [*rows.prompt(values, count, Token.PARITY), answer, rows.end()]


def digit(key, values, count):
  """Return the pieces of `digit`, the successor of a random digit."""
  query = jax.random.randint(key, (), 1, _NINE + 1)
  return [
    *rows.prompt(values, count, Token.DIGIT),
    rows.numbers(query, 1),
    rows.numbers(query % 10 + 1, 1, is_answer=True),
    rows.end(),
  ]


def kinds(order: str) -> dict[str, RowKind]:
  """Return all kinds of rows by name, for numbers written in an order."""

  def in_order(pieces):
    return functools.partial(pieces, order=order)

  def all_digits(pieces, *, can_grow: bool) -> RowKind:
    """Return a kind whose answers have n digits, or n + 1 if they can grow."""
    extra = int(can_grow)
    return RowKind(
      pieces,
      lambda n: 2 * n + extra + 3,  # BOS, list, delimiter, answer, EOS
      lambda n: n + extra + 1,  # answer, EOS
    )

  def list_question(pieces) -> RowKind:
    return RowKind(
      pieces,
      lambda n: n + 4,  # BOS, list, delimiter, answer, EOS
      lambda n: 2,  # answer, EOS
    )

  return {
    'increment': all_digits(in_order(increment), can_grow=True),
    'span': list_question(in_order(span)),
    'changed': all_digits(in_order(changed), can_grow=False),
    'tail': all_digits(in_order(tail), can_grow=True),
    'digit': RowKind(
      digit,
      lambda n: n + 5,  # BOS, list, delimiter, query, answer, EOS
      lambda n: 2,  # answer, EOS
    ),
    'copy': all_digits(rows.copy, can_grow=False),
    'parity': list_question(in_order(parity)),
  }
