"""Tests of reading, encoding, and generating bAbI stories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from rrn.babi import data

STORY = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Fred got the milk there.
5 What is Fred carrying?\tmilk,football\t4 1
1 Sandra travelled to the office.
2 Is Sandra in the kitchen?  \tno\t1
"""


def read(text):
  return list(data.read_questions(text.splitlines(), 'story'))


def test_a_story_read_by_hand():
  first, second, third = read(STORY)
  mary = ('mary', 'moved', 'to', 'the', 'bathroom')
  john = ('john', 'went', 'to', 'the', 'hallway')
  fred = ('fred', 'got', 'the', 'milk', 'there')
  asked = ('where', 'is', 'mary'), (mary, john), 'bathroom', 2
  assert first == (*asked, (True, False), True)
  assert second.facts == (mary, john, fred)  # a question is not a fact
  assert second.answer == 'milk,football'  # a list is one class
  sandra = ('sandra', 'travelled', 'to', 'the', 'office')
  assert third.facts == (sandra,)
  assert third.answer == 'no'


def test_encoding_by_hand():
  columns = data.encode(read(STORY))
  for name, (shape, dtype) in data.COLUMNS.items():
    assert columns[name].shape == (3, *shape)
    assert columns[name].dtype == dtype
  index = data.vocabulary()
  row = [index[word] for word in ('fred', 'got', 'the', 'milk', 'there')]
  np.testing.assert_array_equal(columns['facts'][1, 2], row + [0] * 6)
  assert not columns['facts'][1, 3:].any()
  np.testing.assert_array_equal(columns['num_facts'], [2, 3, 1])
  assert columns['answer'][1] == index['milk,football']


def test_only_the_last_facts_are_kept():
  lines = [f'{n} Mary moved to the {place}.' for n, place in numbered(25)]
  lines += ['26 Where is Mary?\tgarden\t25 6', '27 Where is Mary?\tgarden\t5']
  first, second = read('\n'.join(lines))
  assert len(first.facts) == data.MAX_FACTS and first.num_facts == 25
  assert [facts[-1] for facts in first.facts] == [
    place for _, place in numbered(25)
  ][5:]
  assert first.is_supported and not second.is_supported
  supports = data.encode([first, second])['supports']
  assert [np.flatnonzero(row).tolist() for row in supports] == [[0, 19], []]


def numbered(count):
  places = 'garden', 'office', 'kitchen'
  return [(n, places[n % 3]) for n in range(1, count + 1)]


def test_vocabulary():
  words = list(data.vocabulary())
  assert len(words) == 177 and words[0] == '<unk>'
  assert words[1:] == sorted(set(words[1:]))
  assert {'milk,football', 'n,e', 'yes', 'antoine'} < set(words)


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('Mary moved.', 'no line number or no sentence'),
    ('7', 'no line number or no sentence'),
    ('7 ?', 'no line number or no sentence'),
    ('² Mary moved.', 'no line number or no sentence'),
    ('9' * 5000 + ' Mary moved.', 'no line number or no sentence'),
    ('0 Mary moved.', 'line number 0 follows line number 0'),
    ('2 Zoe went to the <unk>.', 'unknown words: zoe, <unk>'),
    ('2 Where is Mary?\tatlantis\t1', 'unknown words: atlantis'),
    ('2 Where is Mary? garden', 'more than one sentence on a line'),
    ('2 Mary moved. John moved.', 'more than one sentence on a line'),
    ('2' + ' mary' * 12, '12 words; at most 11'),
    ('1 Where is Mary?', 'a question without a fact'),
  ],
)
def test_errors_say_what_is_wrong(line, message):
  with pytest.raises(UserError, match=message):
    data.Story().read(line)


MARY, JOHN = '1 Mary moved to the garden.', '2 John went to the office.'


@pytest.mark.parametrize(
  'bad', ['3 Zoe moved.', '3' + ' mary' * 12, 'Fred moved.', '2 Fred moved.']
)
def test_questions_after_an_unread_fact_are_refused(bad):
  results = list(
    data.read_stories(
      [MARY, JOHN, bad, '4 Is Mary in the garden?', '5 Is John in the garden?']
    )
  )
  assert results[:2] == [None, None]
  assert 'could not be read' not in str(results[2])
  for question in results[3:]:
    assert isinstance(question, UserError)
    assert 'line 3 of its story could not be read' in str(question)


def test_the_next_story_is_answered_after_an_unread_fact():
  lines = [MARY, '2 Zoe moved.', MARY, '2 Is Mary in the garden?']
  *_, question = data.read_stories(lines)
  assert isinstance(question, data.Question)
  assert question.facts == (('mary', 'moved', 'to', 'the', 'garden'),)


def test_an_unread_first_fact_starts_a_story():
  lines = [MARY, JOHN, '1 Zoe moved.', '2 Fred moved.', '3 Where is Fred?']
  *_, question = data.read_stories(lines)
  assert 'line 3 of its story' in str(question)


def test_an_unread_question_does_not_spoil_its_story():
  lines = [MARY, '2 Where is Zoe?', '3 Where is Mary?']
  _, bad, question = data.read_stories(lines)
  assert 'unknown words: zoe' in str(bad)
  assert isinstance(question, data.Question) and len(question.facts) == 1


@pytest.mark.parametrize(
  'line', ['2 Where is Mary', '2 is mary in the garden', '2 Mary is where.']
)
def test_questions_without_a_question_mark_are_recognized(line):
  story = data.Story()
  story.read(MARY)
  question = story.read(line)
  assert question and question.words == tuple(
    line.lower().removesuffix('.').split()[1:]
  )


def test_a_tab_after_a_fact_does_not_make_it_a_question():
  story = data.Story()
  assert story.read(MARY + '\t') is None
  assert len(story.facts) == 1


def test_a_story_that_is_too_long_is_refused():
  facts = [f'{n} Mary moved to the {place}.' for n, place in numbered(20)]
  lines = [*facts, '21 Where is Mary?', '22 Mary moved.', '23 Where is Mary?']
  *_, first, _, second = data.read_stories(lines)
  assert isinstance(first, data.Question) and len(first.facts) == 20
  assert '21 facts before this question' in str(second)


@pytest.mark.parametrize('line', ['', ' \t', '# a comment', '  # 1 Mary'])
def test_blank_lines_and_comments_are_skipped(line):
  story = data.Story()
  story.read(MARY)
  assert story.read(line) is None
  assert story.read('2 Is Mary in the garden?').num_facts == 1
  assert story.line == 3


def test_files_name_the_line_and_need_answers():
  with pytest.raises(UserError, match='story, line 2: a question without an'):
    read('1 Mary moved.\n2 Where is Mary?\n')


QUESTION_WORDS = 'is where what who why how does did will'.split()
WORDS = st.lists(
  st.sampled_from(
    [w for w in data.vocabulary() if w.isalpha() and w not in QUESTION_WORDS]
  ),
  min_size=1,
  max_size=data.MAX_WORDS,
)
ITEMS = st.lists(st.tuples(st.booleans(), WORDS), min_size=1, max_size=50)


@settings(max_examples=30, deadline=None)
@given(stories=st.lists(ITEMS, min_size=1, max_size=4))
def test_reads_what_was_written(stories):
  lines, expected = [], []
  for items in stories:
    facts, number = [], 0
    for is_question, words in [(False, ['mary']), *items]:
      number += 1
      sentence = ' '.join(words).capitalize()
      if is_question:
        lines.append(f'{number} {sentence}? \tYes\t1')
        supported = len(facts) <= data.MAX_FACTS
        kept = tuple(facts[-data.MAX_FACTS :])
        cited = (supported, *[False] * (len(kept) - 1))
        asked = tuple(words), kept, 'yes', len(facts)
        expected.append((*asked, cited, supported))
      else:
        lines.append(f'{number} {sentence}.')
        facts.append(tuple(words))
  questions = read('\n'.join(lines))
  assert questions == expected
  columns = data.encode(questions)
  names = list(data.vocabulary())
  for row, question in enumerate(questions):
    for sentence, indices in zip(
      [*question.facts, question.words],
      [*columns['facts'][row, : len(question.facts)], columns['question'][row]],
      strict=True,
    ):
      assert [names[i] for i in indices if i] == list(sentence)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
  story = data.Story()
  story.read('1 Mary moved to the garden.')
  try:
    story.read(text)
  except UserError as error:
    assert str(error)


def test_generated_stories_answer_their_questions():
  lines = data.generate(np.random.default_rng(0), 20)
  questions = read('\n'.join(lines))
  assert len(questions) == 100
  for question in questions:
    person = question.words[-1]
    places = [fact[-1] for fact in question.facts if fact[0] == person]
    assert question.answer == places[-1]
    assert question.is_supported
    cited = zip(question.facts, question.supports, strict=True)
    (fact,) = [fact for fact, is_cited in cited if is_cited]
    assert (fact[0], fact[-1]) == (person, question.answer)
  assert lines == data.generate(np.random.default_rng(0), 20)
