"""Every problem has one answer; failures and scores are reported by line."""

import numpy as np
import pytest

from core import answers
from core.answers import Answer
from core.errors import UserError

REPORT = [
  'line 7: the answer is larger than 99',
  'line 9: the answer differs from the known answer',
  '2 of 4 answers failed a check',
  'accuracy 50.0% (95 % confidence interval 9.5% to 90.5%): 1 of 2 answers'
  ' match the known answer',
]
LINES = '1', '', '  ', '# 2', 'x', '\t', '70', '3=6', '4=9'


def parse(line):
  question, answer = answers.split_answer(line)
  if not question.isdigit():
    raise UserError(f'{question!r} is not a number')
  return int(question), answer and int(answer)


def finish(problem, value):
  _, known = problem
  failure = 'is larger than 99' if value > 99 else ''
  is_correct = None if known is None else value == known
  return Answer(str(value), failure, is_correct)


def double(line):
  problem = parse(line)
  return finish(problem, 2 * problem[0])


def test_lines_stay_aligned_and_stream(caplog):
  read = []

  def lines():
    for line in LINES:
      read.append(line)
      yield line

  results = answers.answer_lines(lines(), double)
  assert next(results) == '2' and read == ['1']
  rest = list(results)
  assert isinstance(rest.pop(3), UserError)
  assert rest == ['', '', '', '', '140', '6', '8']
  assert caplog.messages == REPORT


def test_batches_give_the_same_answers_as_lines(caplog):
  results = list(
    answers.answer_problems(
      answers.map_lines(LINES, parse),
      encode=lambda problem: {'x': np.array(problem[0])},
      solve=lambda columns: 2 * columns['x'],
      finish=finish,
    )
  )
  assert isinstance(results.pop(4), UserError)
  assert results == ['2', '', '', '', '', '140', '6', '8']
  assert caplog.messages == REPORT


def test_problems_of_several_lines_have_their_own_line(caplog):
  results = [None, Answer('a', 'is long', line=7), UserError('bad', line=9)]
  first, second, third = answers.report(results)
  assert (first, second) == ('', 'a') and third is results[2]
  assert caplog.messages[0] == 'line 7: the answer is long'


def test_nothing_is_reported_without_failures_and_known_answers(caplog):
  assert list(answers.answer_lines(['1', '#', ''], double)) == ['2', '', '']
  assert not caplog.records


def test_compare_names_the_known_answer():
  assert answers.compare('a', 'a') == Answer('a', '', True)
  assert answers.compare('a', 'b') == Answer('a', 'is a; expected b', False)


@pytest.mark.parametrize(
  'line, expected',
  [('', False), (' \t', False), ('#', False), (' # a', False), ('a # b', True)],
)
def test_has_content(line, expected):
  assert answers.has_content(line) == expected


@pytest.mark.parametrize('separator', ['->', '=>', '→', '=', '|', 'output'])
def test_split_answer(separator):
  assert answers.split_answer(f'2 1 {separator} 1 2') == ('2 1 ', ' 1 2')
  assert answers.split_answer('2 1') == ('2 1', None)
  with pytest.raises(UserError, match='2 separators'):
    answers.split_answer(f'2 {separator} 2 {separator} 2')
