"""Rows of tokens, made on the device from pieces whose lengths are drawn.

Rows are padded to a fixed size, then packed: two rows of lists of n and of
N + 2 - n values fill one row of the batch, so that little of it is padding.

Axes: B batch, G rows in a packed row, R tokens of a row, L tokens of a packed
row, A answer tokens of a packed row, N values of a list.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from hinting import vocabulary
from hinting.vocabulary import Token

MIN_LENGTH = 2  # of a list in training


@dataclasses.dataclass(frozen=True)
class Piece:
  """The first `count` of some tokens [M]; the loss counts those of answers."""

  tokens: jax.Array
  count: jax.Array | int
  is_answer: bool = False


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Row:
  """Tokens and 'is part of the answer', both [R], of which `length` count."""

  tokens: jax.Array
  is_answer: jax.Array
  length: jax.Array


@dataclasses.dataclass(frozen=True)
class RowKind:
  """A task as rows; sizes are bounds, for a list of that many values.

  Attributes:
    pieces: key, values [N] (1 to V) and how many of them count -> pieces.
    num_tokens: of a row.
    num_answers: tokens of its answer.
  """

  pieces: Callable[[jax.Array, jax.Array, jax.Array], Sequence[Piece]]
  num_tokens: Callable[[int], int]
  num_answers: Callable[[int], int]

  def make_row(self, key, values: jax.Array, count) -> Row:
    """Builds the row of one list."""
    return join(self.pieces(key, values, count), self.num_tokens(len(values)))


def special(token: Token, *, is_answer: bool = False) -> Piece:
  """One special token."""
  return Piece(jnp.array([token], jnp.int32), 1, is_answer)


def numbers(values: jax.Array, count, *, is_answer: bool = False) -> Piece:
  """The first `count` of some values [M], or one value []."""
  tokens = vocabulary.value_token(jnp.atleast_1d(values))
  return Piece(tokens.astype(jnp.int32), count, is_answer)


def prompt(values: jax.Array, count, delimiter: Token) -> list[Piece]:
  """What stands before an answer: a list, and what is asked of it."""
  return [special(Token.BOS), numbers(values, count), special(delimiter)]


def end() -> Piece:
  """The end of an answer."""
  return special(Token.EOS, is_answer=True)


def join(pieces: Sequence[Piece], num_tokens: int) -> Row:
  """Puts pieces one behind the other, and PAD behind them."""
  tokens = jnp.full(num_tokens, Token.PAD, jnp.int32)
  is_answer = jnp.zeros(num_tokens, bool)
  start = 0
  for piece in pieces:
    index = jnp.arange(num_tokens) - start
    inside = (0 <= index) & (index < piece.count)
    last = len(piece.tokens) - 1
    tokens = jnp.where(inside, piece.tokens[index.clip(0, last)], tokens)
    is_answer |= inside & piece.is_answer
    start += piece.count
  return Row(tokens, is_answer, jnp.asarray(start))


def pack(rows: Row, num_tokens: int, num_answers: int) -> dict[str, jax.Array]:
  """Packs rows [G R] into one, ready for next-token prediction.

  Returns:
    'tokens' [L]: what the model reads; 'segments' [L]: the row each is of, -1:
    none; 'positions' [L] in its row; 'at' [A]: where answers are predicted;
    'targets' [A] and 'weights' [A], 0 where there are fewer answers.
  """
  sizes = rows.length - 1  # the last token of a row is only predicted
  packed = {
    'tokens': jnp.full(num_tokens, Token.PAD, jnp.int32),
    'segments': jnp.full(num_tokens, -1, jnp.int32),
    'positions': jnp.zeros(num_tokens, jnp.int32),
  }
  targets = packed['tokens']
  is_answer = jnp.zeros(num_tokens, bool)
  start = 0
  for segment in range(len(sizes)):
    index = jnp.arange(num_tokens) - start
    inside = (0 <= index) & (index < sizes[segment])
    here = index.clip(0, rows.tokens.shape[1] - 2)
    now = {
      'tokens': rows.tokens[segment, here],
      'segments': segment,
      'positions': index,
    }
    packed = {k: jnp.where(inside, now[k], packed[k]) for k in packed}
    targets = jnp.where(inside, rows.tokens[segment, here + 1], targets)
    is_answer |= inside & rows.is_answer[segment, here + 1]
    start += sizes[segment]
  seen = is_answer.cumsum()
  order = jnp.arange(num_answers)
  at = (seen[None] <= order[:, None]).sum(1).clip(max=num_tokens - 1)
  weights = (order < seen[-1]).astype(jnp.float32)
  return packed | {'at': at, 'targets': targets[at], 'weights': weights}


def make_pairs(
  kind: RowKind,
  keys: jax.Array,
  *,
  max_length: int,
  longest: jax.Array | int,
  draw_values: Callable[[jax.Array, jax.Array], jax.Array],
) -> dict[str, jax.Array]:
  """Builds packed rows [B ...] of two lists each, a function of `keys` [B].

  One list has n values, n uniform in 2 .. `longest`, the other `longest` + 2 -
  n: so both have a uniform number of values, and all pairs the same total.

  Args:
    kind: of both rows.
    keys: of the pairs.
    max_length: N, of the longest list ever in training.
    longest: of the longest list now, at most `max_length`.
    draw_values: key and number of values -> values [N].
  """
  assert max_length <= 20, 'training on longer lists would prove nothing'
  bounds = [max_length, MIN_LENGTH]
  num_tokens = sum(kind.num_tokens(n) - 1 for n in bounds)
  num_answers = sum(map(kind.num_answers, bounds))

  def make_pair(key):
    length_key, value_key, row_key = jax.random.split(key, 3)
    first = jax.random.randint(length_key, (), MIN_LENGTH, longest + 1)
    lengths = jnp.stack([first, longest + MIN_LENGTH - first])
    values = jax.vmap(draw_values)(jax.random.split(value_key), lengths)
    rows = jax.vmap(kind.make_row)(jax.random.split(row_key), values, lengths)
    return pack(rows, num_tokens, num_answers)

  return jax.vmap(make_pair)(keys)
