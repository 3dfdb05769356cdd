"""The tokens of all tasks: special ones, then the values.

A row names its task by its delimiter: one model, one table of embeddings and
one read-out serve all (ours; Awasthi & Gupta 2023 do not say).
"""

import enum

FIRST_VALUE = 32  # the token of value 1; the ids below are for special tokens


class Token(enum.IntEnum):
  """The special tokens; delimiters stand between a list and its answer."""

  PAD = 0
  BOS = enum.auto()
  EOS = enum.auto()
  SORT = enum.auto()
  SUCCESSOR = enum.auto()
  PREDECESSOR = enum.auto()
  COUNT = enum.auto()
  FILL = enum.auto()
  GO = enum.auto()  # between the list with holes and what fills them
  MASK = enum.auto()  # a hole
  START = enum.auto()  # the query whose successor is the minimum
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
  """The token of a value, 1 or more; works on arrays."""
  return FIRST_VALUE - 1 + value


def size(num_values: int) -> int:
  """How many tokens there are, rounded up to a multiple of 64."""
  return -(-(FIRST_VALUE + num_values) // 64) * 64
