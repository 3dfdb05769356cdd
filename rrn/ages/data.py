"""Parse and solve age problems with NumPy.

Eight people, A to H, have distinct ages from 0 to 98. Each of seven facts gives
the difference between two ages. They connect all people, so they are the edges
of a tree. An eighth fact gives one age. The question is the age of one person.

A fact is (i, j, kind, value). Kind `OLDER` or `YOUNGER` says that i is `value`
years older or younger than j. Kind `IS`, with i = j, says that i is `value`
years old. The differences come first, sorted by (i, j) with i < j.

As text, the statements may come in any order, with or without spaces:

  A = B + 12; C = A - 4; ...; F = 31; G = ?

A is twelve years older than B, C is four years younger than A, F is 31 years
old, and the question is the age of G.

There are 8^6 = 262,144 trees. The number of a tree is its Prüfer sequence of
six people, read as a base-8 number with the least significant digit first.
"""

import math
import re

import numpy as np

from core.errors import UserError

PERSONS = 'ABCDEFGH'
MAX_AGE = 98  # the authors' network has one more class
NUM_KINDS = 3
OLDER, YOUNGER, IS = range(NUM_KINDS)
NUM_TREES = len(PERSONS) ** (len(PERSONS) - 2)

_TRAIN_SHARE = 0.9
_SPLIT_SEED = 0  # the authors' seed, but another random generator

_STATEMENT = re.compile(r'(\w+)=(?:(\w+)([+-])(\d{1,4})|(\d{1,4})|(\?))')


def split_trees() -> dict[str, np.ndarray]:
  """Return the numbers of the trees of 'train' and 'test', shuffled, int32."""
  order = np.random.default_rng(_SPLIT_SEED).permutation(NUM_TREES)
  order = order.astype(np.int32)
  cut = math.ceil(_TRAIN_SHARE * NUM_TREES)
  return {'train': order[:cut], 'test': order[cut:]}


def solve(facts) -> tuple[np.ndarray, np.ndarray]:
  """Infer all ages from the given one.

  Args:
    facts: [8, 4], see the module docstring; differences in any order.

  Returns:
    The ages, int [8], and the number of differences between each person and the
    one whose age is given, int [8]; -1 if no differences connect them.
  """
  *differences, (anchor, _, _, age) = (tuple(map(int, row)) for row in facts)
  ages, jumps = np.zeros(len(PERSONS), int), np.full(len(PERSONS), -1)
  ages[anchor], jumps[anchor] = age, 0
  for _ in differences:
    for i, j, kind, value in differences:
      change = value if kind == OLDER else -value
      for known, other, step in ((j, i, change), (i, j, -change)):
        if jumps[known] >= 0 and jumps[other] < 0:
          ages[other] = ages[known] + step
          jumps[other] = jumps[known] + 1
  return ages, jumps


def parse(line: str) -> dict[str, np.ndarray]:
  """Parse one problem; see the module docstring.

  Returns:
    'facts' int32 [8, 4]; 'question' and 'answer', int32 scalars: a person and
    the age that follows from the facts.

  Raises:
    UserError: the line is not a problem with a unique, valid solution.
  """
  differences = []
  given_ages = []
  asked = []
  for number, text in enumerate(line.strip().rstrip(';').split(';'), start=1):
    text = ''.join(text.split())
    match = _STATEMENT.fullmatch(text)
    if match is None:
      raise UserError(
        f'statement {number} is {text[:40]!r}; expected a difference such as'
        ' A=B+12, an age such as F=31, or a question such as G=?'
      )
    name, other, sign, value, age, _ = match.groups()
    person = _person(name)
    if other:
      differences.append((person, _person(other), sign, int(value)))
    elif age:
      given_ages.append((person, person, IS, int(age)))
    else:
      asked.append(person)
  counts = len(differences), len(given_ages), len(asked)
  if counts != (len(PERSONS) - 1, 1, 1):
    raise UserError(
      f'differences: {counts[0]}, ages: {counts[1]}, questions: {counts[2]};'
      f' expected {len(PERSONS) - 1}, 1, 1'
    )
  facts = [*sorted(map(_ordered, differences)), *given_ages]
  ages = _solve_checked(facts)
  return {
    'facts': np.array(facts, np.int32),
    'question': np.array(asked[0], np.int32),
    'answer': np.array(ages[asked[0]], np.int32),
  }


def _person(name: str) -> int:
  if name not in PERSONS or len(name) != 1:
    raise UserError(
      f'unknown person {name[:40]!r}; expected one of {", ".join(PERSONS)}'
    )
  return PERSONS.index(name)


def _ordered(difference: tuple[int, int, str, int]) -> tuple[int, ...]:
  """Return the fact (i, j, kind, value) with i < j."""
  first, second, sign, value = difference
  is_older = (sign == '+') == (first < second)
  return (*sorted((first, second)), OLDER if is_older else YOUNGER, value)


def _solve_checked(facts) -> np.ndarray:
  """Return all ages; raise UserError unless they are determined and valid."""
  ages, jumps = solve(facts)
  if (jumps < 0).any():
    unreached = ', '.join(PERSONS[k] for k in np.flatnonzero(jumps < 0))
    raise UserError(
      f'no chain of differences connects the given age to {unreached}; expected'
      ' seven differences that connect all eight people'
    )
  for person, age in zip(PERSONS, ages, strict=True):
    if not 0 <= age <= MAX_AGE:
      raise UserError(
        f'the age of {person} would be {age}; expected ages from 0 to {MAX_AGE}'
      )
  for k, age in enumerate(ages):
    if age in ages[:k]:
      other = PERSONS[list(ages).index(age)]
      raise UserError(
        f'{other} and {PERSONS[k]} would both be {age} years old; expected'
        ' eight different ages'
      )
  return ages
