"""Each kind of row against plain Python, and the distributions of lists."""

import collections
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinting.sorting import hints
from hinting.vocabulary import FIRST_VALUE, Token

NUM_VALUES = 12
SIZE = 8
KINDS = hints.kinds(NUM_VALUES)


def value(token):
  return int(token) - FIRST_VALUE + 1


def read(row):
  """Return all symbols of a row and its answer: ints, or names of tokens."""
  tokens = np.asarray(row.tokens)[: int(row.length)]
  symbols = [Token(t).name if t < FIRST_VALUE else value(t) for t in tokens]
  flags = np.asarray(row.is_answer)[: int(row.length)]
  return symbols, [s for s, flag in zip(symbols, flags, strict=True) if flag]


def examples(name, count=200):
  """Yield the list, delimiter, symbols after it, and answer of many rows."""
  kind = KINDS[name]

  def make(key):
    value_key, row_key, length_key = jax.random.split(key, 3)
    length = jax.random.randint(length_key, (), 1, SIZE + 1)
    values = jax.random.randint(value_key, (SIZE,), 1, NUM_VALUES + 1)
    return values, length, kind.make_row(row_key, values, length)

  drawn = jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(7), count))
  drawn = jax.tree.map(np.asarray, drawn)
  for index in range(count):
    values, length, row = jax.tree.map(operator.itemgetter(index), drawn)
    symbols, answer = read(row)
    length = int(length)
    x = np.asarray(values)[:length].tolist()
    assert symbols[: 1 + length] == ['BOS', *x]
    assert int(row.length) <= kind.num_tokens(length)
    assert len(answer) <= kind.num_answers(length)
    yield x, symbols[1 + length], symbols[2 + length :], answer


def next_larger(x, query):
  return min((v for v in x if v > query), default='EOS')


@pytest.mark.parametrize('name', ['sort', 'more_sort'])
def test_sort(name):
  for x, delimiter, rest, answer in examples(name):
    assert delimiter == 'SORT'
    assert answer == rest == [*sorted(x), 'EOS']


def test_scratchpad():
  for x, _, rest, answer in examples('scratchpad'):
    expected, left = [], collections.Counter(x)
    for v in sorted(x):
      left[v] -= 1
      expected += [v, left[v] + 1]
    assert answer == rest == [*expected, 'EOS']


def test_successor():
  starts = 0
  for x, delimiter, (query, *rest), answer in examples('successor'):
    assert delimiter == 'SUCCESSOR'
    starts += query == 'START'
    if query == 'START':
      query = 0
    else:
      assert query in x
    b = next_larger(x, query)
    expected = [b] if b == 'EOS' else [b, 'EOS']
    assert answer == rest == expected
  assert 20 < starts < 80  # the rate is 1 / (k + 1) for k distinct values


def test_successors():
  for x, _, rest, answer in examples('successors'):
    queries = [0 if q == 'START' else q for q in rest[::2]]
    assert len(queries) == min(5, 1 + len(set(x))) == len(set(queries))
    assert set(queries) <= {0, *x}
    assert answer == rest[1::2] == [next_larger(x, q) for q in queries]


def test_shuffled_successor():
  wrong = 0
  for x, _, (query, *_), answer in examples('shuffled_successor'):
    query = 0 if query == 'START' else query
    if len(answer) == 2:
      assert answer[0] in x
      wrong += answer[0] != next_larger(x, query)
  assert wrong > 60


def test_predecessor():
  for x, _, (query, *rest), answer in examples('predecessor'):
    smaller = [v for v in x if v < query]
    expected = [max(smaller), 'EOS'] if smaller else ['EOS']
    assert query in x and answer == rest == expected


def test_counts_and_ranks():
  for x, _, (query, *_), answer in examples('count'):
    assert query in x and answer == [x.count(query), 'EOS']
  for x, _, (query, *_), answer in examples('rank'):
    assert query in x
    assert answer == [sum(v <= query for v in x), 'EOS']


def test_queries_are_uniform_over_distinct_values():
  kind = KINDS['count']
  values = jnp.array([5, 5, 5, 5, 5, 9, 1, 1])
  keys = jax.random.split(jax.random.key(0), 3000)
  make_rows = jax.jit(jax.vmap(kind.make_row, (0, None, None)))
  made = make_rows(keys, values, 7)
  queries = np.asarray(made.tokens)[:, 9] - FIRST_VALUE + 1
  counts = collections.Counter(queries.tolist())
  assert counts.keys() == {5, 9, 1}
  assert min(counts.values()) > 900


def test_member():
  asked = collections.Counter()
  for x, _, (query, *_), answer in examples('member'):
    assert answer == [1 + (query in x), 'EOS']
    asked[query in x] += 1
  assert min(asked.values()) > 70


@pytest.mark.parametrize(
  ('name', 'measure'),
  [
    ('min', min),
    ('max', max),
    ('parity', lambda x: 1 + sum(v % 2 for v in x) % 2),
  ],
)
def test_hints_about_the_whole_list(name, measure):
  for x, _, _, answer in examples(name):
    assert answer == [measure(x), 'EOS']


def test_copy():
  for x, _, _, answer in examples('copy'):
    assert answer == [*x, 'EOS']


def test_fill():
  holes = total = 0
  for x, _, rest, answer in examples('fill'):
    shown = rest[: len(x)]
    assert rest[len(x)] == 'GO' and answer == rest[len(x) + 1 :]
    missing = iter(answer)
    filled = [next(missing) if s == 'MASK' else s for s in shown]
    assert filled == sorted(x) and list(missing) == ['EOS']
    assert 'MASK' in shown
    holes += shown.count('MASK')
    total += len(x)
  assert 0.3 < holes / total < 0.55


def test_lists():
  @functools.cache
  def draw_many(lists, count=20):
    """Return lists, and the share of them with four copies of a value."""
    keys = jax.random.split(jax.random.key(0), 2000)
    draw = jax.vmap(
      lambda key: hints.draw_values(
        key, jnp.asarray(count), size=20, num_values=100, lists=lists
      )
    )
    drawn = jax.jit(draw)(keys)
    drawn = np.asarray(drawn)
    assert drawn.min() >= 1 and drawn.max() <= 100
    most = [np.bincount(x).max() for x in drawn]
    return drawn, np.mean(np.array(most) >= 4)

  _, uniform = draw_many('uniform')
  _, rich = draw_many('rich')
  _, diverse = draw_many('diverse')
  assert uniform < 0.02 and rich > 0.15 and diverse > 0.15
  drawn, share = draw_many('distinct')
  assert share == 0 and all(len(set(x)) == 20 for x in drawn.tolist())
  narrow = {}
  for lists in 'uniform', 'dense', 'diverse':
    drawn, _ = draw_many(lists)
    narrow[lists] = np.mean(np.ptp(drawn, 1) < 40)
  assert narrow['uniform'] == 0
  assert narrow['dense'] > 0.1 and narrow['diverse'] > 0.2
  # For 5 values, k is 1 in a tenth of the lists; for 20, in a fortieth.
  drawn, _ = draw_many('rich', count=5)
  assert 0.09 < np.mean((drawn[:, :5] == drawn[:, :1]).all(1)) < 0.15
