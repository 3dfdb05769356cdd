"""Every line has one answer; rules and scores are reported by line."""

import pytest

from core.errors import UserError
from seq2set import line_answers
from seq2set.line_answers import Answer


def double(line):
  question, _, answer = line.partition('=')
  if not question.strip().isdigit():
    raise UserError(f'{question!r} is not a number')
  value = 2 * int(question)
  failure = 'is larger than 99' if value > 99 else ''
  return Answer(str(value), failure, value == int(answer) if answer else None)


def test_answers_stay_aligned_and_stream(caplog):
  read = []

  def lines():
    for line in '1', '', '  ', '# 2', 'x', '\t', '70', '3=6', '4=9':
      read.append(line)
      yield line

  answers = line_answers.answer_lines(lines(), double)
  assert next(answers) == '2' and read == ['1']
  rest = list(answers)
  assert isinstance(rest.pop(3), UserError)
  assert rest == ['', '', '', '', '140', '6', '8']
  assert [record.message for record in caplog.records] == [
    'line 7: the answer is larger than 99',
    '1 of 4 answers break a rule of the task',
    'accuracy 50.0% (95 % interval 9.5% to 90.5%): 1 of 2 answers equal those'
    ' of the input',
  ]


def test_nothing_is_reported_without_answers(caplog):
  assert list(line_answers.answer_lines(['1', '#', ''], double)) == [
    '2',
    '',
    '',
  ]
  assert not caplog.records


@pytest.mark.parametrize(
  'line, expected',
  [('', False), (' \t', False), ('#', False), (' # a', False), ('a # b', True)],
)
def test_has_content(line, expected):
  assert line_answers.has_content(line) == expected
