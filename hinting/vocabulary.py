"""The tokens of all tasks: special tokens, then values.

The delimiter of a row names its task, so one model with one embedding table and
one output layer serves all tasks. This choice is ours; our sources about the
paper do not describe it.
"""

import enum
import itertools

import numpy as np

FIRST_VALUE = 32  # token of value 1; the ids of special tokens are smaller


class Token(enum.IntEnum):
  """The special tokens; a delimiter stands between a list and its answer."""

  PAD = 0
  BOS = enum.auto()
  EOS = enum.auto()
  SORT = enum.auto()
  SUCCESSOR = enum.auto()
  PREDECESSOR = enum.auto()
  COUNT = enum.auto()
  FILL = enum.auto()
  GO = enum.auto()  # separates a list with missing values from the answer
  MASK = enum.auto()  # stands for a missing value in FILL
  START = enum.auto()  # a query whose successor is the minimum
  MIN = enum.auto()
  MAX = enum.auto()
  COPY = enum.auto()
  PARITY = enum.auto()
  MEMBER = enum.auto()
  RANK = enum.auto()
  INCREMENT = enum.auto()
  SPAN = enum.auto()
  CHANGED = enum.auto()
  TAIL = enum.auto()
  DIGIT = enum.auto()


def value_token(value):
  """Return the token of a value of at least 1, or of an array of values."""
  return FIRST_VALUE - 1 + value


def size(num_values: int) -> int:
  """Return the size of the vocabulary, rounded up to a multiple of 64."""
  return -(-(FIRST_VALUE + num_values) // 64) * 64


def answer_values(tokens: np.ndarray) -> list[int | None]:
  """Return the values of an answer before EOS.

  Args:
    tokens: int [T].

  Returns:
    The values; None for a special token.
  """
  answer = itertools.takewhile(lambda t: t != Token.EOS, tokens.tolist())
  return [
    token - FIRST_VALUE + 1 if token >= FIRST_VALUE else None
    for token in answer
  ]
