"""Read, encode, and generate bAbI stories with NumPy.

A story is a sequence of numbered lines; each line is a fact or a question. Line
number 1 starts a new story. A question refers to the facts before it, not to
earlier questions. Its answer is one word, and a list such as 'milk,football'
counts as one word.

A sentence is encoded as a row of word indices, padded with 0 (which no sentence
contains). Axes: F facts, L words.
"""

import functools
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import UserError

MAX_FACTS = 20  # a question keeps the most recent ones
MAX_WORDS = 11  # in the longest fact and in the longest question
# Shape and type of one row of each column that `encode` returns.
COLUMNS = {
  'facts': ((MAX_FACTS, MAX_WORDS), np.uint8),
  'question': ((MAX_WORDS,), np.uint8),
  'answer': ((), np.uint8),
  'num_facts': ((), np.int32),  # including those that are not kept
  'supports': ((MAX_FACTS,), np.bool_),
  'is_supported': ((), np.bool_),
}

_LINE_NUMBER = re.compile('[0-9]{1,9}')
_ONE_SENTENCE = re.compile(r'[^.?]*[.?]?\s*')
_NO_MARKS = str.maketrans('', '', '.?')
# No fact of the data set contains one of these words, or starts with 'is'.
_QUESTION_WORDS = frozenset('where what who why how does did will'.split())

Words = tuple[str, ...]


class Question(NamedTuple):
  """A question and the facts that it refers to.

  Attributes:
    words: words of the question.
    facts: words of the last `MAX_FACTS` facts, oldest first.
    answer: the given answer, or '' if there is none.
    num_facts: number of facts in the story so far.
    supports: for each of `facts`, whether the question cites it as support.
    is_supported: whether `facts` contains all cited facts.
  """

  words: Words
  facts: Sequence[Words]
  answer: str = ''
  num_facts: int = 0
  supports: Sequence[bool] = ()
  is_supported: bool = True


@functools.cache
def vocabulary() -> dict[str, int]:
  """Return the index of each word; '<unk>' has index 0.

  The other words are those of the training split, sorted.
  """
  path = pathlib.Path(__file__).with_name('vocabulary.txt')
  words = path.read_text(encoding='utf-8').split()
  return {word: index for index, word in enumerate(words)}


class Story:
  """Reads stories line by line, and keeps the facts of the current story.

  Attributes:
    facts: words of each fact, by its line number within the story.
    number: number of the latest line within the story.
    line: number of the latest line within the input, from 1.
    unread_line: input line of the first possible fact of this story that could
      not be read; 0 if there is none.
  """

  def __init__(self):
    self.facts: dict[int, Words] = {}
    self.number = 0
    self.line = 0
    self.unread_line = 0

  def read(self, text: str) -> Question | None:
    """Read the next line: return a question, or keep a fact.

    A line is a question if it contains a question mark or a question word,
    starts with 'is', or has an answer after a tab. The numbers of the
    supporting facts may follow after another tab. Blank lines and lines that
    start with '#' are skipped.

    Raises:
      UserError: the line is malformed, has unknown words or too many words, or
        is a question whose facts are missing.
    """
    self.line += 1
    if not text.strip() or text.lstrip().startswith('#'):
      return None
    sentence, *fields = text.rstrip('\r\n').split('\t')
    number, _, sentence = sentence.strip().partition(' ')
    answer = fields[0].strip().lower() if fields else ''
    words = tuple(sentence.lower().translate(_NO_MARKS).split())
    is_question = _is_question(sentence, words, answer)
    try:
      self._start_line(number, words, text)
      _check_sentence(sentence, words, answer)
    except UserError:
      if not is_question:
        self.unread_line = self.unread_line or self.line
      raise
    if is_question:
      return self._ask(words, answer, fields[1:])
    self.facts[self.number] = words
    return None

  def _start_line(self, number: str, words: Words, text: str):
    if not (_LINE_NUMBER.fullmatch(number) and words):
      raise UserError(
        f'{text.strip()[:40]!r} has no line number or no sentence; expected a'
        " line such as '1 Mary moved to the garden.' or '2 Where is Mary?'"
      )
    if int(number) == 1:
      self.facts, self.unread_line = {}, 0
    elif int(number) <= self.number:
      raise UserError(
        f'line number {number} follows line number {self.number}; number the'
        ' lines of a story in increasing order, and start a new story with 1'
      )
    self.number = int(number)

  def _ask(self, words: Words, answer: str, fields: list[str]) -> Question:
    if self.unread_line:
      raise UserError(
        f'this question is not answered because line {self.unread_line} of its'
        f' story could not be read; correct line {self.unread_line}'
      )
    if not self.facts:
      raise UserError(
        'a question without a fact before it; put the facts of its story before'
        ' the question'
      )
    kept = dict(list(self.facts.items())[-MAX_FACTS:])
    support = set(fields[0].split()) if fields else set()
    return Question(
      words,
      tuple(kept.values()),
      answer,
      len(self.facts),
      tuple(str(number) in support for number in kept),
      support <= set(map(str, kept)),
    )


def _is_question(sentence: str, words: Words, answer: str) -> bool:
  if '?' in sentence or answer:
    return True
  return words[:1] == ('is',) or not _QUESTION_WORDS.isdisjoint(words)


def _check_sentence(sentence: str, words: Words, answer: str):
  """Raise UserError if a word is unknown or the sentence is too long."""
  if not _ONE_SENTENCE.fullmatch(sentence):
    raise UserError(
      'more than one sentence on a line; give each sentence a line of its own,'
      ' and put a tab between a question and its answer'
    )
  unknown = [w for w in (*words, answer) if w and not vocabulary().get(w)]
  if unknown:
    raise UserError(
      f'unknown words: {", ".join(dict.fromkeys(unknown))}; expected words of'
      ' rrn/babi/vocabulary.txt'
    )
  if len(words) > MAX_WORDS:
    raise UserError(
      f'{len(words)} words; at most {MAX_WORDS} are expected: shorten the'
      ' sentence'
    )


def read_stories(
  lines: Iterable[str],
) -> Iterator[Question | UserError | None]:
  """Read stories; a question after more than `MAX_FACTS` facts is an error.

  Yields:
    For each line its question, None if it has no question, or the UserError
    that says why the line cannot be read or the question cannot be answered.
  """
  story = Story()
  for line in lines:
    try:
      question = story.read(line)
      if question and question.num_facts > MAX_FACTS:
        raise UserError(
          f'the story has {question.num_facts} facts before this question, but'
          f' the network reads at most {MAX_FACTS}; remove facts that the'
          ' question does not need'
        )
    except UserError as error:
      yield error
    else:
      yield question


def read_questions(lines: Iterable[str], name: str) -> Iterator[Question]:
  """Read the questions of a data file; each question needs an answer.

  Args:
    lines: lines of the file.
    name: name of the file, for error messages.

  Raises:
    UserError: a line cannot be read, or a question has no answer.
  """
  story = Story()
  for line in lines:
    try:
      question = story.read(line)
      if question and not question.answer:
        raise UserError('a question without an answer; add it after a tab')
    except UserError as error:
      raise UserError(f'{name}, line {story.line}: {error}') from error
    if question:
      yield question


def encode(questions: Sequence[Question]) -> dict[str, np.ndarray]:
  """Encode questions as the columns of `COLUMNS`.

  The answer '' is encoded as 0.
  """
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
  """Generate the lines of stories like those of bAbI's task 1.

  Each story has ten facts and five questions that ask where a person is.
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
