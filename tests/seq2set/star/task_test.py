"""The star model task: tokens, orders, and metrics of the true model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import star
from core.errors import UserError
from seq2set.star import data, task
from tests import learning


def make(arg='smoke', **changes):
  config = star.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


class Truth(nnx.Module, pytree=False):
  """The true model, for tokens with the head first."""

  def __init__(self, star):
    self.star = star

  def log_p(self, tokens):
    symbols = np.asarray(tokens) % 10
    total = data.log_p(self.star, symbols)
    return jnp.asarray(total)[:, None]


def test_the_true_model_has_zero_excess_nats():
  made = make()
  columns = made._evaluation_set('test')
  batch = columns | {'weight': np.ones(len(columns['index']))}
  model = Truth(data.make(10, 2.0, 0))
  excess = made._measure(model, batch)['excess_nats'].result()
  assert abs(excess) < 1e-4


def test_orders_contain_the_same_examples():
  first, last = make(), make('smoke,order=head_last')
  a, b = first.arrays('train'), last.arrays('train')
  np.testing.assert_array_equal(
    np.sort(a['tokens'], 1), np.sort(b['tokens'], 1)
  )
  assert (a['tokens'][:, 0] < 10).all() and (b['tokens'][:, -1] < 10).all()
  np.testing.assert_array_equal(a['log_p'], b['log_p'])
  heads = first.arrays('test')['tokens'][:, 0]
  assert (a['tokens'][: len(heads), 0] != heads).any()


@pytest.mark.parametrize(
  'order, position', [('head_first', 0), ('head_last', 9)]
)
def test_head_position_of_fixed_orders(order, position):
  made = make(f'smoke,order={order}')
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  batch = made.batch(jax.random.key(0), arrays, size=4, step=jnp.asarray(0))
  model = made.make_model(nnx.Rngs(0))
  _, metrics = jax.jit(made.loss)(model, batch, jax.random.key(1))
  assert metrics['head_position'].result() == position


def test_search_begins_after_uniform_orders():
  made = make('smoke,order=sample')
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  for step, expected in (99, True), (100, False):
    batch = made.batch(
      jax.random.key(0), arrays, size=4, step=jnp.asarray(step)
    )
    assert (batch['is_uniform'] == expected).all()
  model = made.make_model(nnx.Rngs(0))
  # The tokens of the head are far likelier than all others.
  model.bias[...] = model.bias[...].at[:10].set(50.0)
  batch['tokens'] = jnp.repeat(batch['tokens'], 100, 0)
  loss = jax.jit(made.loss)
  for is_uniform, position in (True, 4.5), (False, 0.0):
    batch['is_uniform'] = jnp.full(len(batch['tokens']), is_uniform)
    _, metrics = loss(model, batch, jax.random.key(1))
    assert metrics['head_position'].result() == pytest.approx(position, abs=0.6)


def test_measures_of_a_search():
  made = make('smoke,order=posterior', **{'data.num_variables': 4})
  columns = made._evaluation_set('test')
  batch = {name: x[:50] for name, x in columns.items()}
  batch['weight'] = np.ones(50)
  model = made.make_model(nnx.Rngs(0))
  values = learning.compiled(made._measure, model, batch)
  assert not any(metric.is_independent for metric in values.values())
  all_orders = values['excess_nats'].result()
  assert 0 < all_orders < values['excess_nats_of_one_order'].result()


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='one of head_first'):
    make('smoke,order=head')
  with pytest.raises(UserError, match="'given'"):
    make('smoke,order=given')
  with pytest.raises(UserError, match='at most 6 variables'):
    make('smoke,order=posterior')


def test_predict():
  made = make('smoke,order=head_last')
  model = made.make_model(nnx.Rngs(0))
  lines = ['0 1 2 3 4 5 6 7 8 9', '', '1 2', '0 1 2 3 4 5 6 7 8 x']
  good, empty, *bad = made.predict(model, lines)
  assert empty == ''
  tokens = np.roll(np.arange(10) + 10 * np.arange(10), -1)
  expected = model.log_p(jnp.asarray(tokens)[None]).sum()
  assert float(good) == pytest.approx(float(expected), abs=1e-3)
  assert all(isinstance(answer, UserError) for answer in bad)


@pytest.mark.slow
@pytest.mark.parametrize('order', ['head_first', 'sample'])
def test_learns_one_batch(order):
  made = make(f'smoke,order={order}')
  without_gradient, loss, _ = learning.learn(made, learning.draw(made))
  assert not without_gradient
  # The probabilities of 8 different examples sum to at most 1.
  assert np.log(8) < loss + 0.1 < np.log(8) + 1
