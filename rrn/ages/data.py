"""Age arithmetic in NumPy: problems as text, and their plain solution.

Eight persons, A to H, have distinct ages from 0 to 98. Seven facts each tell
the difference of two ages, and join all persons: they are the edges of a tree.
An eighth fact tells one age. The question is the age of one person.

A fact is (i, j, kind, value): kind `OLDER` or `YOUNGER` says how i is compared
with j, by `value` years; `IS`, with i = j, that i is `value` years old. The
differences come first, sorted by (i, j) with i < j.

In text, in any order and with or without spaces:

  A = B + 12; C = A - 4; ...; F = 31; G = ?

A is twelve years older than B, C four years younger than A, F is 31; how old is
G?

There are 8^6 = 262,144 trees. The number of a tree is its Pruefer sequence of
six persons, read in base 8, the first one last.
"""

import math
import re

import numpy as np

from core.errors import UserError

PERSONS = 'ABCDEFGH'
MAX_AGE = 98  # a class is an age; the authors' network has one more
OLDER, YOUNGER, IS = range(3)
NUM_TREES = len(PERSONS) ** (len(PERSONS) - 2)

_TRAIN_SHARE = 0.9
_SPLIT_SEED = 0  # the authors' seed; the generator is another

_STATEMENT = re.compile(r'(\w+)=(?:(\w+)([+-])(\d{1,4})|(\d{1,4})|(\?))')


def split_trees() -> dict[str, np.ndarray]:
  """The numbers of all trees, shuffled and split: 'train' and 'test', int32."""
  order = np.random.default_rng(_SPLIT_SEED).permutation(NUM_TREES)
  order = order.astype(np.int32)
  cut = math.ceil(_TRAIN_SHARE * NUM_TREES)
  return {'train': order[:cut], 'test': order[cut:]}


def solve(facts) -> tuple[np.ndarray, np.ndarray]:
  """Infers all ages by walking from the known one.

  Args:
    facts: [8, 4], see the module; the differences may be in any order.

  Returns:
    int [8] the ages, and the jumps from the person whose age is told: -1 where
    no facts lead.
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
  """Reads one problem; see the module.

  Returns:
    'facts' int32 [8, 4] and 'question', an int32 scalar.

  Raises:
    UserError: it is no such problem; the text says what is wrong.
  """
  differences, told, asked = [], [], []
  for number, text in enumerate(line.strip().rstrip(';').split(';'), start=1):
    text = ''.join(text.split())
    match = _STATEMENT.fullmatch(text)
    if match is None:
      raise UserError(
        f'statement {number}, {text[:40]!r}: expected as in A=B+12, F=31 or G=?'
      )
    name, other, sign, value, age, _ = match.groups()
    person = _person(name)
    if other:
      differences.append((person, _person(other), sign, int(value)))
    elif age:
      told.append((person, person, IS, int(age)))
    else:
      asked.append(person)
  counts = len(differences), len(told), len(asked)
  if counts != (len(PERSONS) - 1, 1, 1):
    raise UserError(
      f'{len(PERSONS) - 1} differences, one age and one question expected;'
      ' {}, {} and {} found'.format(*counts)
    )
  facts = [*sorted(map(_ordered, differences)), *told]
  ages = _solve_checked(facts)
  return {
    'facts': np.array(facts, np.int32),
    'question': np.array(asked[0], np.int32),
    'answer': np.array(ages[asked[0]], np.int32),
  }


def _person(name: str) -> int:
  if name not in PERSONS or len(name) != 1:
    raise UserError(f'person {name!r} is none of {", ".join(PERSONS)}')
  return PERSONS.index(name)


def _ordered(difference: tuple[int, int, str, int]) -> tuple[int, ...]:
  """(i, j, kind, value) with i < j."""
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
      ' seven differences that connect all eight persons'
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
