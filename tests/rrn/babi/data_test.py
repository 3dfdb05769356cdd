"""Stories are read as by hand; what is written is what is read."""

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
  assert second.facts == (mary, john, fred)  # the question is no fact
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
    ('Mary moved.', 'a number and a sentence expected'),
    ('', 'a number and a sentence expected'),
    ('7', 'a number and a sentence expected'),
    ('² Mary moved.', 'a number and a sentence expected'),
    ('9' * 5000 + ' Mary moved.', 'a number and a sentence expected'),
    ('2 Zoe went to the <unk>.', 'unknown words: zoe, <unk>'),
    ('2 Where is Mary?\tatlantis\t1', 'unknown words: atlantis'),
    ('2' + ' mary' * 12, '12 words; at most 11'),
    ('1 Where is Mary?', 'a question without a fact'),
  ],
)
def test_mistakes_are_named(line, message):
  with pytest.raises(UserError, match=message):
    data.Story().read(line)


@pytest.mark.parametrize('bad', ['Zoe moved.', 'mary ' * 12, 'Is Zoe here?'])
def test_a_bad_line_may_start_a_story(bad):
  story = data.Story()
  for line in ('1 Mary moved to the garden.', '2 John went to the office.'):
    story.read(line)
  with pytest.raises(UserError):
    story.read('1 ' + bad)
  story.read('2 Fred went to the kitchen.')
  assert story.read('3 Where is Fred?').facts == (
    ('fred', 'went', 'to', 'the', 'kitchen'),
  )


def test_files_name_the_line_and_need_answers():
  with pytest.raises(UserError, match='story, line 2: a question without an'):
    read('1 Mary moved.\n2 Where is Mary?\n')


WORDS = st.lists(
  st.sampled_from([w for w in data.vocabulary() if w.isalpha()]),
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
