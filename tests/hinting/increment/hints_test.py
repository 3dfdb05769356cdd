"""Each kind of row against Python integers, and the distribution of numbers."""

import collections
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinting.increment import hints
from hinting.vocabulary import FIRST_VALUE, Token

SIZE = 8
ORDERS = pytest.mark.parametrize('order', hints.ORDERS)


def draw(order, distribution='train', count=300, length=None, seed=7):
  """Return the digits, the row key, and the length of many numbers."""

  def draw_one(key):
    value_key, row_key, length_key = jax.random.split(key, 3)
    n = length or jax.random.randint(length_key, (), 1, SIZE + 1)
    size = length or SIZE
    values = hints.draw_values(
      value_key, n, size=size, order=order, distribution=distribution
    )
    return values, row_key, jnp.asarray(n)

  return jax.jit(jax.vmap(draw_one))(
    jax.random.split(jax.random.key(seed), count)
  )


def read_number(values, order):
  """Return the values of a row as a decimal number."""
  digits = [str(v - 1) for v in values]
  return ''.join(digits[::-1] if order == 'reversed' else digits)


def examples(name, order):
  """Yield the number, the query, and the answer of many rows."""
  kind = hints.kinds(order)[name]
  values, keys, counts = draw(order)
  made = jax.jit(jax.vmap(kind.make_row))(keys, values, counts)
  values, counts, made = jax.tree.map(np.asarray, (values, counts, made))
  for index in range(len(counts)):
    row = jax.tree.map(operator.itemgetter(index), made)
    n, length = int(counts[index]), int(row.length)
    tokens = row.tokens[:length].tolist()
    flags = row.is_answer[:length].tolist()
    assert not row.is_answer[length:].any()
    number = read_number(values[index, :n].tolist(), order)
    written = [t - FIRST_VALUE + 1 for t in tokens[1 : 1 + n]]
    assert tokens[0] == Token.BOS and read_number(written, order) == number
    assert tokens[1 + n] == Token[name.upper()]
    assert tokens[-1] == Token.EOS and flags == sorted(flags)
    assert length <= kind.num_tokens(n)
    assert sum(flags) <= kind.num_answers(n)
    start = flags.index(True)
    before, answer = (
      [t - FIRST_VALUE + 1 for t in part]
      for part in (tokens[2 + n : start], tokens[start:-1])
    )
    assert before == [] or name == 'digit'
    yield number, before, answer


def run_of_nines(number):
  return len(number) - len(number.rstrip('9'))


@ORDERS
def test_increment(order):
  has_grown = 0
  for number, _, answer in examples('increment', order):
    assert read_number(answer, order) == str(int(number) + 1)
    has_grown += len(answer) > len(number)
  assert has_grown > 30


@ORDERS
def test_span_and_parity(order):
  for number, _, answer in examples('span', order):
    assert answer == [1 + run_of_nines(number)]
  for number, _, answer in examples('parity', order):
    assert answer == [1 + run_of_nines(number) % 2]


@ORDERS
def test_changed(order):
  for number, _, answer in examples('changed', order):
    after = str(int(number) + 1)[-len(number) :]
    mask = ''.join(str(int(a != b)) for a, b in zip(number, after, strict=True))
    assert read_number(answer, order) == mask


@ORDERS
def test_tail(order):
  for number, _, answer in examples('tail', order):
    after = str(int(number) + 1)
    same = 0
    while len(after) == len(number) and number[same] == after[same]:
      same += 1
    assert read_number(answer, order) == after[same:]


@ORDERS
def test_digit_and_copy(order):
  asked = collections.Counter()
  for _, (query,), (answer,) in examples('digit', order):
    asked[query - 1] += 1
    assert answer - 1 == query % 10
  assert asked.keys() == set(range(10)) and min(asked.values()) > 10
  for number, _, answer in examples('copy', order):
    assert read_number(answer, order) == number


@ORDERS
def test_distribution_of_numbers(order):
  values, _, _ = draw(order, count=4000, length=6)
  drawn = [read_number(v, order) for v in np.asarray(values).tolist()]
  assert all(len(x) == 6 and x[0] != '0' for x in drawn)
  runs = np.array([run_of_nines(x) for x in drawn])
  shares = np.bincount(runs, minlength=7) / len(runs)
  expected = [0.9 * 2.0 ** -(k + 1) for k in range(6)]
  expected.append(0.1 + 0.9 * 2.0**-6)
  np.testing.assert_allclose(shares, expected, atol=0.03)
  others = [x for x in drawn if run_of_nines(x) == 0]
  for place, options in (0, 9), (1, 10), (5, 9):
    counts = collections.Counter(x[place] for x in others)
    assert len(counts) == options
    assert min(counts.values()) > 0.6 * len(others) / options


@ORDERS
@pytest.mark.parametrize('length', [1, 2, 7])
def test_long_carries(order, length):
  values, _, _ = draw(order, distribution='carries', length=length)
  runs = {
    run_of_nines(read_number(v, order)) for v in np.asarray(values).tolist()
  }
  assert runs == set(range((length + 1) // 2, length + 1))
