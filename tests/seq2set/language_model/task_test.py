"""Language modeling: two perplexities, and logits that see only the past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import language_model
from core.errors import UserError
from seq2set.language_model import task
from tests import learning


def make(arg='smoke', **changes):
  config = language_model.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


class Uniform(nnx.Module):
  """Every word is as likely as any other."""

  def __init__(self, num_words):
    self.num_words = num_words

  def __call__(self, words, key=None, *, num_scored=None):
    shape = len(words), num_scored or words.shape[1], self.num_words
    return jnp.zeros(shape)


def measure(made, model):
  columns = made.evaluators()['validation'].arrays()
  batch = columns | {'weight': np.ones(len(columns['words']))}
  metrics = made._measure(model, batch)
  return {name: float(m.result()) for name, m in metrics.items()}


def test_perplexity_of_a_uniform_model_counts_pads_in_two_ways():
  natural, three = make(), make('smoke,order=three_words')
  values = measure(natural, Uniform(151))
  assert values['perplexity'] == pytest.approx(151, rel=1e-4)
  assert values['perplexity_with_pads'] == pytest.approx(151, rel=1e-4)
  values = measure(three, Uniform(151))
  words = three._stream('validation')
  rate = len(words) / (words != three.pad).sum()
  assert rate > 1.05
  assert values['perplexity'] == pytest.approx(151**rate, rel=1e-3)
  assert values['perplexity_with_pads'] == pytest.approx(151, rel=1e-4)


def test_orders_contain_the_same_words():
  streams = {
    order: make(f'smoke,order={order}')._stream('test')
    for order in language_model.PAPER
  }
  counts = {
    order: np.bincount(words, minlength=151)[:150]
    for order, words in streams.items()
  }
  np.testing.assert_array_equal(counts['natural'], counts['reverse'])
  np.testing.assert_array_equal(counts['natural'], counts['three_words'])
  assert not np.array_equal(streams['natural'], streams['reverse'])


def test_logits_depend_only_on_past_words():
  made = make()
  model = made.make_model(nnx.Rngs(0))
  words = jax.random.randint(jax.random.key(0), (2, 9), 0, 150)
  run = jax.jit(lambda words: model(words))
  logits = run(words)
  assert logits.shape == (2, 9, 151)
  last = jax.jit(lambda words: model(words, num_scored=4))(words)
  np.testing.assert_allclose(last, logits[:, -4:], atol=1e-6)
  changed = run(words.at[:, 5].set(3))
  np.testing.assert_array_equal(changed[:, :5], logits[:, :5])
  assert (changed[:, 5:] != logits[:, 5:]).any(-1).all()


def test_dropout_requires_a_key():
  made = make(**{'model.dropout': 0.5})
  model = made.make_model(nnx.Rngs(0))
  words = jnp.ones((2, 9), int)
  np.testing.assert_array_equal(model(words), model(words))
  drawn = [model(words, jax.random.key(k)) for k in range(2)]
  assert (drawn[0] != drawn[1]).any()


def test_batches_are_windows_of_the_text():
  made = make()
  arrays = made.arrays('train')
  columns = jax.tree.map(jnp.asarray, arrays)
  batch = made.batch(jax.random.key(0), columns, size=4, step=0)
  assert batch['words'].shape == (4, 26)
  text = arrays['words'].tobytes()
  assert all(np.asarray(row).tobytes() in text for row in batch['words'])


def test_invalid_settings_and_predict(tmp_path):
  with pytest.raises(UserError, match='config.model.order'):
    make(**{'model.order': 'backwards'})
  path = tmp_path / 'short'
  path.write_text('\n'.join(['a b'] * 10))
  with pytest.raises(UserError, match='at least 26'):
    make(f'smoke,source={path}').arrays('test')
  made = make()
  lines = ['determiner0 noun1 unheard', '', '# noun1']
  good, *empty = made.predict(Uniform(151), lines)
  assert float(good) == pytest.approx(151, rel=1e-3)
  assert empty == ['', '']


@pytest.mark.slow
def test_learns_one_batch():
  made = make()
  without_gradient, loss, _ = learning.learn(
    made, learning.draw(made, 2), rate=2e-2
  )
  assert not without_gradient
  assert loss < 0.6  # 5.0 at the start
