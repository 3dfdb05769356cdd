"""Rows of tokens, built on the device from pieces of random length.

Each row is padded to a fixed size. Two rows, for lists of n and m + 2 - n
values, are then packed into one row of the batch, where m is the length of the
longest list in this batch. Without a curriculum, this leaves little padding.

Axes: B batch, G rows in a packed row, R tokens of a row, L tokens of a packed
row, A answer tokens of a packed row, M tokens of a piece, N values of a list.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from hinting import vocabulary
from hinting.vocabulary import Token

MIN_LENGTH = 2  # length of the shortest list in training
# Length of the longest list in training. Longer lists measure generalization.
MAX_TRAINING_LENGTH = 20


@dataclasses.dataclass(frozen=True)
class Piece:
  """A part of a row: the first `count` tokens of an array.

  Attributes:
    tokens: int32 [M].
    count: number of tokens in use, from 0 to M.
    is_answer: whether the loss covers these tokens.
  """

  tokens: jax.Array
  count: jax.Array | int
  is_answer: bool = False


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Row:
  """A padded row.

  Attributes:
    tokens: int32 [R].
    is_answer: whether each token is in the answer, bool [R].
    length: number of tokens before the padding.
  """

  tokens: jax.Array
  is_answer: jax.Array
  length: jax.Array


@dataclasses.dataclass(frozen=True)
class RowKind:
  """The rows of a main task, a hint, or a control.

  Attributes:
    pieces: maps a key, values (int32 [N], each at least 1), and the list length
      to pieces.
    num_tokens: maps a list length to the largest number of tokens of a row.
    num_answers: maps a list length to the largest number of answer tokens.
  """

  pieces: Callable[[jax.Array, jax.Array, jax.Array], Sequence[Piece]]
  num_tokens: Callable[[int], int]
  num_answers: Callable[[int], int]

  def make_row(self, key, values: jax.Array, count) -> Row:
    """Build the row of the list `values[:count]`; R is `num_tokens(N)`."""
    return join(self.pieces(key, values, count), self.num_tokens(len(values)))


def special(token: Token, *, is_answer: bool = False) -> Piece:
  """Return the piece of one special token."""
  return Piece(jnp.array([token], jnp.int32), 1, is_answer)


def numbers(values: jax.Array, count, *, is_answer: bool = False) -> Piece:
  """Return the piece of the first `count` of values [M], or of one value []."""
  tokens = vocabulary.value_token(jnp.atleast_1d(values))
  return Piece(tokens.astype(jnp.int32), count, is_answer)


def prompt(values: jax.Array, count, delimiter: Token) -> list[Piece]:
  """Return the pieces before an answer: BOS, a list, and a delimiter."""
  return [special(Token.BOS), numbers(values, count), special(delimiter)]


def end() -> Piece:
  """Return the piece that ends an answer."""
  return special(Token.EOS, is_answer=True)


def copy(key, values, count) -> list[Piece]:
  """Return the pieces of `copy`: the answer is the list itself."""
  del key
  answer = numbers(values, count, is_answer=True)
  return [*prompt(values, count, Token.COPY), answer, end()]


def join(pieces: Sequence[Piece], num_tokens: int) -> Row:
  """Concatenate pieces into a row of `num_tokens` tokens, padded with PAD."""
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
  """Pack rows [G, R] into one row for next-token prediction.

  Args:
    rows: the rows; each field has a leading axis G.
    num_tokens: L.
    num_answers: A.

  Returns:
    'tokens' [L], the input; 'segments' [L], the row of each token, -1 for
    padding; 'positions' [L], the positions within rows; 'at' [A], the indices
    at which answer tokens are predicted; 'targets' [A], the answer tokens; and
    'weights' [A], 1, or 0 for padding.
  """
  sizes = rows.length - 1  # the last token of a row is a target only
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
    source = index.clip(0, rows.tokens.shape[1] - 2)
    row = {
      'tokens': rows.tokens[segment, source],
      'segments': segment,
      'positions': index,
    }
    packed = {k: jnp.where(inside, row[k], packed[k]) for k in packed}
    targets = jnp.where(inside, rows.tokens[segment, source + 1], targets)
    is_answer |= inside & rows.is_answer[segment, source + 1]
    start += sizes[segment]
  num_seen = is_answer.cumsum()
  order = jnp.arange(num_answers)
  # Answer token i is at the first index where `num_seen` exceeds i.
  at = (num_seen[None] <= order[:, None]).sum(1).clip(max=num_tokens - 1)
  weights = (order < num_seen[-1]).astype(jnp.float32)
  return packed | {'at': at, 'targets': targets[at], 'weights': weights}


def make_single(kind: RowKind, values: jax.Array) -> dict[str, jax.Array]:
  """Build the packed row of one list of N values, for evaluation."""
  length = len(values)
  # The rows of main tasks do not depend on the key.
  row = kind.make_row(jax.random.key(0), values, jnp.asarray(length))
  return pack(
    jax.tree.map(lambda x: x[None], row),
    kind.num_tokens(length) - 1,
    kind.num_answers(length),
  )


def packed_num_tokens(kind: RowKind, max_length: int) -> int:
  """Return the number of input tokens of the packed rows of `make_pairs`."""
  # Sizes are linear in the list length, so all pairs of `make_pairs` have the
  # size of this pair.
  return sum(kind.num_tokens(n) - 1 for n in (max_length, MIN_LENGTH))


def make_pairs(
  kind: RowKind,
  keys: jax.Array,
  *,
  max_length: int,
  batch_max_length: jax.Array | int,
  draw_values: Callable[[jax.Array, jax.Array], jax.Array],
) -> dict[str, jax.Array]:
  """Build packed rows [B, ...] of two lists each.

  With m = `batch_max_length`, one list has n values, where n is uniform from 2
  to m. The other has m + 2 - n values, so its length is uniform, and all pairs
  have the same number of values.

  Args:
    kind: kind of both rows.
    keys: random keys of the pairs [B].
    max_length: N, length of the longest list in all of training.
    batch_max_length: length of the longest list in this batch, at most
      `max_length`.
    draw_values: maps a key and a list length to values [N].
  """
  assert max_length <= MAX_TRAINING_LENGTH, (
    f'training lists must have at most {MAX_TRAINING_LENGTH} values'
  )
  num_tokens = packed_num_tokens(kind, max_length)
  num_answers = sum(map(kind.num_answers, (max_length, MIN_LENGTH)))

  def make_pair(key):
    length_key, value_key, row_key = jax.random.split(key, 3)
    first = jax.random.randint(length_key, (), MIN_LENGTH, batch_max_length + 1)
    lengths = jnp.stack([first, batch_max_length + MIN_LENGTH - first])
    values = jax.vmap(draw_values)(jax.random.split(value_key), lengths)
    rows = jax.vmap(kind.make_row)(jax.random.split(row_key), values, lengths)
    return pack(rows, num_tokens, num_answers)

  return jax.vmap(make_pair)(keys)
