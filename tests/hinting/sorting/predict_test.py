"""Predict: alignment, errors and warnings by line, accuracy, and streaming."""

import time
import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs.hinting import sorting
from core import inference
from core.errors import UserError
from hinting import vocabulary
from hinting.sorting import task
from hinting.vocabulary import Token


def make(**changes):
  config = sorting.get_config('smoke')
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


class SortingDecoder(nnx.Module):
  """A model that sorts, but writes MASK for values above 13 after a 13."""

  def decode(self, prompts, starts, *, num_tokens):
    is_value = prompts >= vocabulary.FIRST_VALUE
    big = 10**6
    values = jnp.sort(jnp.where(is_value, prompts, big))[:, :num_tokens]
    has_13 = (prompts == vocabulary.value_token(13)).any(1, keepdims=True)
    values = jnp.where(
      has_13 & (values > vocabulary.value_token(13)), Token.MASK, values
    )
    values = jnp.where(values == big, Token.EOS, values)
    missing = num_tokens - values.shape[1]
    return jnp.pad(values, ((0, 0), (0, missing)))


def test_predict(caplog):
  made = make()
  lines = ['3 1 2 1', 'x', '32', '13 20 4', '1 ' * 33, '5 6']
  answers = list(made.predict(SortingDecoder(), lines))
  assert answers[0] == '1 1 2 3'
  assert isinstance(answers[1], UserError) and isinstance(answers[4], UserError)
  assert answers[2] == '32' and answers[5] == '5 6'
  assert answers[3].startswith('4 13 ?')
  warning, _ = caplog.messages
  assert warning.startswith('line 4: the answer is not a permutation')
  assert 'lacks 20 and adds ?' in warning


def test_predict_writes_one_line_per_line(tmp_path, capsys):
  """Blank lines and comments give empty lines, and are not errors."""
  trained = types.SimpleNamespace(task=make(), model=SortingDecoder())
  text = '\ufeff3 1 2\r\n\n# comment\n7 5\n\n'
  path = tmp_path / 'lists.txt'
  path.write_bytes(text.encode())
  assert inference.predict(trained, str(path))
  output = capsys.readouterr()
  assert output.out == '1 2 3\n\n\n5 7\n\n' and output.err == ''
  # A separator that Unicode treats as a line break is part of its line.
  path.write_bytes('3 1\x852 4\n5\r6\n2 1\n'.encode())
  assert not inference.predict(trained, str(path))
  output = capsys.readouterr()
  assert output.out == '\n\n1 2\n'
  first, second = output.err.splitlines()
  assert first.startswith('error: line 1: ') and '1\\x852' in first
  assert second.startswith('error: line 2: ') and '5\\r6' in second


def test_predict_scores_lists_that_carry_their_answers(caplog):
  lines = ['3 1 -> 1 3', '', '13 20 -> 13 20', '5 4', '2 1 -> 2 1', '9\t->\t9']
  answers = list(make().predict(SortingDecoder(), lines))
  assert answers[0] == '1 3' and answers[1] == '' and answers[3] == '4 5'
  assert isinstance(answers[4], UserError) and "'1 2'" in str(answers[4])
  wrong, _, accuracy = caplog.messages
  assert wrong.startswith('line 3: ')
  assert accuracy.startswith('accuracy 66.7%') and '2 of 3' in accuracy


def test_predict_streams(caplog):
  """An answer and its warning come before the next line is read."""
  made, written = make(), []

  def lines():
    yield '13 20'
    while not written:
      time.sleep(0.01)
    yield '2 1'

  for answer in made.predict(SortingDecoder(), lines()):
    assert len(caplog.messages) == 1
    written.append(answer)
  assert written[1] == '1 2'


def test_predict_is_greedy():
  made = make(**{'data.max_predict_length': 4})
  model = made.make_model(nnx.Rngs(0))
  call = jax.jit(lambda tokens: model(tokens))
  lines = ['3 1 2', '9']
  for line, answer in zip(lines, made.predict(model, lines), strict=True):
    values = [int(word) for word in line.split()]
    start = len(values) + 2
    tokens = np.full((1, 10), Token.PAD, np.int32)
    tokens[0, :start] = [
      Token.BOS,
      *vocabulary.value_token(np.array(values)),
      Token.SORT,
    ]
    for place in range(start, start + 5):
      tokens[0, place] = call(tokens)[0, place - 1].argmax()
    written = vocabulary.answer_values(tokens[0, start : start + 5])
    assert answer == made.finish(written, values)[0]
