"""bAbI in NumPy: reading stories, their encoding, and stories of our own.

A story is numbered lines, facts and questions; numbers that do not rise start
the next one. A question sees the last facts before it and no earlier question.
Its answer is one word, lists ('milk,football') included.

A sentence is a row of the indices of its words, 0 where there is none (no
sentence has an unknown word). Axes: F facts, L words.
"""

import functools
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import UserError

MAX_FACTS = 20  # the last ones are kept
MAX_WORDS = 11  # of the longest fact, and of the longest question
# One row of each column that `encode` makes.
COLUMNS = {
  'facts': ((MAX_FACTS, MAX_WORDS), np.uint8),
  'question': ((MAX_WORDS,), np.uint8),
  'answer': ((), np.uint8),
  'num_facts': ((), np.int32),  # before the cut to the last ones
  'supports': ((MAX_FACTS,), np.bool_),
  'is_supported': ((), np.bool_),
}

_NUMBER = re.compile('[0-9]{1,9}')  # of a line
_NO_MARKS = str.maketrans('', '', '.?')

Words = tuple[str, ...]


class Question(NamedTuple):
  """A question with what can be known of it.

  Attributes:
    words: its own.
    facts: the last `MAX_FACTS` before it, oldest first.
    answer: '' where the line gives none.
    num_facts: all before it.
    supports: whether the line cites each of `facts` as support.
    is_supported: whether `facts` has all those that it cites.
  """

  words: Words
  facts: Sequence[Words]
  answer: str = ''
  num_facts: int = 0
  supports: Sequence[bool] = ()
  is_supported: bool = True


@functools.cache
def vocabulary() -> dict[str, int]:
  """Indices of '<unk>' (0) and the sorted words of the training split."""
  text = pathlib.Path(__file__).with_name('vocabulary.txt').read_text('utf-8')
  return {word: index for index, word in enumerate(text.split())}


class Story:
  """The facts of a story so far, by the numbers of their lines."""

  def __init__(self):
    self.facts: dict[int, Words] = {}
    self.number = 0

  def read(self, line: str) -> Question | None:
    """Takes in the next line: a question is returned, a fact is kept.

    A question has a question mark or, behind tabs, its answer and the numbers
    of the facts that support it.

    Raises:
      UserError: no line of a story, an unknown word, or too many words.
    """
    text, *rest = line.rstrip('\r\n').split('\t')
    number, _, sentence = text.strip().partition(' ')
    words = tuple(sentence.lower().translate(_NO_MARKS).split())
    answer = rest[0].strip().lower() if rest else ''
    if not (_NUMBER.fullmatch(number) and words):
      raise UserError(
        f'{text[:40]!r}: a number and a sentence expected, such as'
        " '1 Mary moved to the garden.' or '2 Where is Mary?'"
      )
    # What is wrong with a line from here on, it may have started a new story.
    if int(number) <= self.number:
      self.facts = {}
    self.number = int(number)
    unknown = [w for w in (*words, answer) if w and not vocabulary().get(w)]
    if unknown:
      raise UserError(f'unknown words: {", ".join(dict.fromkeys(unknown))}')
    if len(words) > MAX_WORDS:
      raise UserError(f'{len(words)} words; at most {MAX_WORDS} expected')
    if not rest and '?' not in sentence:
      self.facts[self.number] = words
      return None
    if not self.facts:
      raise UserError('a question without a fact before it')
    kept = dict(list(self.facts.items())[-MAX_FACTS:])
    support = set(rest[1].split()) if len(rest) > 1 else set()
    return Question(
      words,
      tuple(kept.values()),
      answer,
      len(self.facts),
      tuple(str(number) in support for number in kept),
      support <= set(map(str, kept)),
    )


def read_questions(lines: Iterable[str], name: str) -> Iterator[Question]:
  """The questions of a file, whose `name` stands in errors.

  Raises:
    UserError: a line that is none of a story, or a question without an answer.
  """
  story = Story()
  for number, line in enumerate(lines, start=1):
    try:
      question = story.read(line)
      if question and not question.answer:
        raise UserError('a question without an answer')
    except UserError as error:
      raise UserError(f'{name}, line {number}: {error}') from error
    if question:
      yield question


def encode(questions: Sequence[Question]) -> dict[str, np.ndarray]:
  """Columns of `COLUMNS`; an answer '' is 0."""
  columns = {
    name: np.zeros((len(questions), *shape), dtype)
    for name, (shape, dtype) in COLUMNS.items()
  }

  @functools.cache
  def indices(words: Words) -> np.ndarray:
    row = np.zeros(MAX_WORDS, np.uint8)
    row[: len(words)] = [vocabulary()[word] for word in words]
    return row

  for row, question in enumerate(questions):
    columns['facts'][row, : len(question.facts)] = [
      indices(words) for words in question.facts
    ]
    columns['question'][row] = indices(question.words)
    columns['answer'][row] = vocabulary().get(question.answer, 0)
    columns['num_facts'][row] = question.num_facts
    columns['supports'][row, : len(question.supports)] = question.supports
    columns['is_supported'][row] = question.is_supported
  return columns


def generate(rng: np.random.Generator, num_stories: int) -> list[str]:
  """Lines of stories like those of task 1: who was seen where last?

  Each has ten facts and five questions, as bAbI's have.
  """
  people = 'Mary', 'John', 'Sandra', 'Daniel'
  places = 'bathroom', 'hallway', 'garden', 'office', 'bedroom', 'kitchen'
  moves = 'moved', 'went', 'went back', 'journeyed', 'travelled'
  lines = []
  for _ in range(num_stories):
    seen, number = {}, 0
    for _ in range(5):
      for _ in range(2):
        number += 1
        person, place = rng.choice(people), rng.choice(places)
        seen[person] = place, number
        lines.append(f'{number} {person} {rng.choice(moves)} to the {place}.')
      number += 1
      person = rng.choice(list(seen))
      place, support = seen[person]
      lines.append(f'{number} Where is {person}? \t{place}\t{support}')
  return lines
