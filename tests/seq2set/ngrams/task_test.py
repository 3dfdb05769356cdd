"""5-grams: windows, orders, and the three ways to measure them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import ngrams
from core.errors import UserError
from seq2set import order_search
from seq2set.ngrams import data, task
from tests import learning


def make(arg='smoke', **changes):
  config = ngrams.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


def test_windows_stay_inside_sentences():
  windows = data.windows([[1, 2, 3], [4, 5, 6, 7, 8, 9], []])
  np.testing.assert_array_equal(windows, [[4, 5, 6, 7, 8], [5, 6, 7, 8, 9]])
  assert data.windows([]).shape == (0, 5)


def test_the_sweep_sets_the_number_of_sets_that_select_an_order():
  num_sets = {
    row: config.model.num_sets
    for row, config in ngrams.sweep('cpu').items()
    if config.model.mode == 'shared'
  }
  assert num_sets == {'easy_shared': 128, 'hard_shared': 16}


def test_tokens_convert_back_from_any_order():
  words = np.array([7, 7, 0, 3, 7])
  tokens = np.random.default_rng(0).permutation(data.tokens(words))
  tokens = tokens[np.argsort(tokens % data.N)]
  np.testing.assert_array_equal(tokens // data.N, words)


def test_kendall_tau():
  assert data.kendall_tau(data.NATURAL) == 1
  assert data.kendall_tau((4, 3, 2, 1, 0)) == -1
  assert data.kendall_tau(data.BAD) == pytest.approx(-0.2)


class OneOrder(nnx.Module):
  """Gives each word p = 1/2 in one order, and p = e^-10 in all others."""

  def __init__(self, order):
    self.order = tuple(order)

  def log_p(self, tokens):
    is_order = (tokens % data.N == jnp.array(self.order)[None]).all(1)
    log_p = jnp.where(is_order, -jnp.log(2.0), -10.0)
    return jnp.broadcast_to(log_p[:, None], tokens.shape)


def measure(made, model, rows=slice(40)):
  columns = made._evaluation_set('test')
  batch = {name: x[rows] for name, x in columns.items()}
  batch['weight'] = np.ones(len(batch['index']))
  metrics = learning.compiled(made._measure, model, batch)
  return {name: np.asarray(m.result()) for name, m in metrics.items()}


def test_measures_of_one_order(monkeypatch):
  monkeypatch.setattr(
    order_search,
    'log_p_of_all_orders',
    lambda model, tokens: jnp.stack(
      [model.log_p(tokens[:, o]).sum(1) for o in order_search.all_orders(5)], 1
    ),
  )
  reverse = (4, 3, 2, 1, 0)
  values = measure(make(), OneOrder(reverse))
  for name in '', '_of_all_orders', '_of_a_posterior_draw':
    assert values[f'perplexity{name}'] == pytest.approx(2, rel=1e-4)
  assert values['absolute_kendall_tau'] == 1
  assert values['share_by_order'][-1] == 1
  for arg, perplexity in ('natural', 2), ('bad', np.exp(10)):
    values = measure(make(f'smoke,orders={arg}'), OneOrder(data.NATURAL))
    assert values['perplexity'] == pytest.approx(perplexity, rel=1e-4)
  values = measure(make('smoke,orders=easy'), OneOrder(data.BAD))
  assert values['perplexity'] == pytest.approx(2, rel=1e-4)


def test_all_orders_are_at_least_as_likely_as_one():
  made = make()
  values = measure(made, made.make_model(nnx.Rngs(0)))
  assert values['perplexity_of_all_orders'] < values['perplexity']
  assert values['perplexity'] < values['perplexity_of_a_posterior_draw']


def test_draws_do_not_depend_on_the_batch_size():
  """Perplexities are exponentials of means, so their logarithms average."""
  made = make()
  model = made.make_model(nnx.Rngs(0))
  whole, first, second = (
    np.log(measure(made, model, rows)['perplexity_of_a_posterior_draw'])
    for rows in (slice(40), slice(20), slice(20, 40))
  )
  assert first != second
  assert whole == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize(
  'orders, mode',
  [
    pytest.param(
      orders,
      mode,
      marks=[]
      if orders == 'hard' and mode in ('given', 'sample', 'posterior')
      else pytest.mark.slow,
    )
    for orders in task.ORDERS
    for mode in order_search.MODES
  ],
)
def test_every_mode_has_a_loss(orders, mode):
  if mode == 'given' and orders != 'hard':
    with pytest.raises(UserError, match="orders='hard'"):
      make(f'smoke,orders={orders},mode={mode}')
    return
  made = make(f'smoke,orders={orders},mode={mode}')
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  batch = made.batch(jax.random.key(0), arrays, size=4, step=jnp.asarray(500))
  model = made.make_model(nnx.Rngs(0))
  loss, _ = jax.jit(made.loss)(model, batch, jax.random.key(1))
  assert 0 < loss < 5 * np.log(5 * 150) + 1


def test_invalid_settings_are_errors(tmp_path):
  with pytest.raises(UserError, match='config.model.mode'):
    make(**{'model.mode': 'samples'})
  path = tmp_path / 'short'
  path.write_text('\n'.join(['a b c'] * 20))
  with pytest.raises(UserError, match='no sentence of at least 5 words'):
    make(f'smoke,source={path}').arrays('train')


def test_shares_over_training_are_stacked():
  name = 'eval/validation/share_by_order'
  early, late = np.full(120, 1 / 120), np.zeros(120)
  late[[119, 0]] = 0.75, 0.25
  lines = [
    {'step': 500, name: early.tolist()},
    {'step': 600, 'train/loss': 1.0},
    {'step': 1000, name: late.tolist()},
  ]
  (axes,) = task.training_figures(lines)['share_by_update'].axes
  first, second, *_, others = axes.collections
  assert [x.get_label() for x in (first, second, others)] == [
    '5 4 3 2 1',
    '1 2 3 4 5',
    'all others',
  ]
  tops = [x.get_paths()[0].vertices[:, 1].max() for x in (first, second)]
  np.testing.assert_allclose(tops, [0.75, 1])
  assert task.training_figures(lines[:2]) == {}


def test_predict():
  made = make('smoke,orders=easy')
  model = made.make_model(nnx.Rngs(0))
  lines = ['determiner0 noun0 verb0 determiner1 unheard', '', 'one two']
  good, empty, bad = made.predict(model, lines)
  assert empty == ''
  assert good.endswith(('1 2 3 4 5', '5 1 3 4 2'))
  assert isinstance(bad, UserError)


@pytest.mark.slow
@pytest.mark.parametrize('orders', ['natural', 'hard'])
def test_learns_one_batch(orders):
  made = make(f'smoke,orders={orders}')
  without_gradient, loss, _ = learning.learn(made, learning.draw(made))
  assert not without_gradient
  # The probabilities of 8 different 5-grams sum to at most 1.
  assert np.log(8) < loss + 0.1 < np.log(8) + 1
