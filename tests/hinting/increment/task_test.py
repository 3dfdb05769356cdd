"""Accuracy by length, packed rows, and predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.hinting import increment
from core.errors import UserError
from hinting import hinted_task, vocabulary
from hinting.increment import hints, task
from hinting.vocabulary import Token
from tests import learning

WRONG = 'is not the number plus one'
ORDERS = pytest.mark.parametrize('order', hints.ORDERS)


def make(arg='smoke', **changes):
  config = increment.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


def draw(made, size=16):
  draw = jax.jit(lambda key: made.batch(key, {}, size=size, step=0))
  return draw(jax.random.key(0))


def next_row(digits, order):
  """Return the digits of the number plus one, in the order of rows."""
  turn = -1 if order == 'reversed' else 1
  text = ''.join(str(d) for d in digits[::turn])
  return [int(d) for d in str(int(text) + 1)][::turn]


class Oracle(nnx.Module):
  """A model that adds one; with `fails`, except to numbers of only 9s."""

  def __init__(self, order, fails=False):
    self.order, self.fails = order, fails

  def answer(self, row):
    """Return the answer to a row and the index of its delimiter."""
    row = row.tolist()
    at = row.index(Token.INCREMENT)
    digits = [t - vocabulary.value_token(1) for t in row[:at]]
    digits = [d for d in digits if d >= 0]
    answer = next_row(digits, self.order)
    if self.fails and len(answer) > len(digits):
      answer = answer[:-1]
    return [*(vocabulary.value_token(1 + d) for d in answer), Token.EOS], at

  def __call__(self, tokens, at):
    def solve(tokens, at):
      found = []
      for row, places in zip(np.asarray(tokens), np.asarray(at), strict=True):
        answer, start = self.answer(row)
        answer += [Token.PAD] * (len(row) + 1)  # for padding
        found.append([answer[place - start] for place in places])
      return np.array(found, np.int32)

    shape = jax.ShapeDtypeStruct(at.shape, jnp.int32)
    found = jax.pure_callback(solve, shape, tokens, at)
    return jax.nn.one_hot(found, vocabulary.size(10))

  def decode(self, prompts, starts, *, num_tokens):
    def solve(prompts):
      rows = [self.answer(row)[0] for row in np.asarray(prompts)]
      rows = [row + [Token.PAD] * (num_tokens - len(row)) for row in rows]
      return np.array(rows, np.int32)

    shape = jax.ShapeDtypeStruct((len(prompts), num_tokens), jnp.int32)
    return jax.pure_callback(solve, shape, prompts)


def measure(made, model, name, count=40):
  batch = {'index': np.arange(count), 'weight': np.ones(count)}
  measure = made.evaluators()[name].measure
  measured = learning.compiled(measure, model, batch)
  return {key: float(m.result()) for key, m in measured.items()}


@pytest.mark.parametrize(
  'order', ['standard', pytest.param('reversed', marks=pytest.mark.slow)]
)
def test_measures_of_an_oracle(order):
  lengths = {'evals.lengths': (3, 8), 'evals.test_lengths': (3, 8)}
  made = make(f'smoke,order={order}', **lengths)
  assert list(made.evaluators()) == ['validation', 'test', 'carries']
  for name in 'validation', 'carries':
    assert set(measure(made, Oracle(order), name).values()) == {1}
    values = measure(made, Oracle(order, fails=True), name)
    lists = made.draw_lists(
      hinted_task.SEEDS[name],
      jnp.arange(40),
      8,
      distribution='carries' if name == 'carries' else 'test',
    )
    is_nines = (np.asarray(lists) == 10).all(1)
    assert 0 < is_nines.sum() < 20
    assert values['accuracy_length_8'] == pytest.approx(1 - is_nines.mean())
    assert values['tokens_length_8'] < 1


def test_rows_of_every_hint_of_the_sweep():
  points = increment.sweep('smoke')
  assert set(points) == {'none', *hints.kinds('standard')} - {'increment'}
  for name, config in points.items():
    names = {'increment'} if name == 'none' else {'increment', name}
    batch = jax.eval_shape(functools.partial(draw, task.make_task(config)))
    assert {column.split('/')[0] for column in batch} == names


@ORDERS
def test_packed_rows_of_a_batch(order):
  """A packed row holds two numbers, of n and 22 - n digits."""
  made = make(f'cpu,hint=none,order={order}')
  batch = jax.tree.map(np.asarray, draw(made, 256))
  batch = {name.split('/')[1]: x for name, x in batch.items()}
  lengths = []
  for index in range(128):
    row = {name: x[index] for name, x in batch.items()}
    expected = []
    for segment in 0, 1:
      tokens = row['tokens'][row['segments'] == segment].tolist()
      count = tokens.index(Token.INCREMENT) - 1
      lengths.append(count)
      digits = [t - vocabulary.value_token(1) for t in tokens[1 : 1 + count]]
      answer = next_row(digits, order)
      expected += [*(vocabulary.value_token(1 + d) for d in answer), Token.EOS]
    assert sum(lengths[-2:]) == 22
    assert row['targets'][row['weights'] > 0].tolist() == expected
  assert set(lengths) == set(range(2, 21))


@ORDERS
def test_predict(order):
  made = make(f'smoke,order={order}')
  lines = ['1399', '0', 'x', '9' * 32, '9' * 33, '00129']
  answers = list(made.predict(Oracle(order), lines))
  assert answers[:2] == ['1400', '1'] and answers[5] == '130'
  assert answers[3] == '1' + 32 * '0'
  assert isinstance(answers[2], UserError) and isinstance(answers[4], UserError)


@ORDERS
def test_predict_scores_numbers_that_carry_their_answers(order, caplog):
  made = make(f'smoke,order={order}')
  lines = ['# n', '1399 -> 1400', '99=100', '12 -> 14', '', '8']
  answers = list(made.predict(Oracle(order, fails=True), lines))
  assert answers[:2] == ['', '1400'] and answers[4:] == ['', '9']
  assert isinstance(answers[3], UserError) and "'13'" in str(answers[3])
  wrong, _, accuracy = caplog.messages
  assert wrong == 'line 3: the answer is not the number plus one'
  assert accuracy.startswith('accuracy 50.0%') and '1 of 2' in accuracy


@ORDERS
def test_finish(order):
  made = make(f'smoke,order={order}')
  for values, answer, expected in [
    ([2, 10], [3, 1], ('20', '')),
    ([2, 10], [3, 2], ('21', WRONG)),
    ([10], [2, 1], ('10', '')),
    ([2, 3], [None, 11], ('??', WRONG)),
    ([2, 3], [], ('', WRONG)),
  ]:
    turn = -1 if order == 'reversed' else 1
    assert made.finish(answer[::turn], values[::turn]) == expected


def test_figures():
  made = make()
  values = {
    f'{name}/accuracy_length_{length}': 0.5
    for name in made.tests
    for length in (4, 8, 16, 32)
  }
  (figure,) = made.figures(values).values()
  labels = [line.get_label() for line in figure.axes[0].get_lines()]
  assert {'test', 'carries'} < set(labels)
  assert made.figures({}) == {}


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='standard, reversed'):
    make('smoke,order=backwards')
  with pytest.raises(UserError, match='changed'):
    make('smoke,hint=change')
  with pytest.raises(UserError, match='4 to 20'):
    make(**{'data.max_train_length': 21})


@pytest.mark.slow
def test_learns_one_batch():
  made = make('smoke,hint=tail,order=reversed')
  without_gradient, loss, metrics = learning.learn(
    made, draw(made, 8), num_updates=500, rate=3e-3
  )
  assert all('key' in name and 'bias' in name for name in without_gradient)
  assert metrics['increment_tokens'] == 1 and loss < 0.1
