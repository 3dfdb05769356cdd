"""The transformer against itself: packed, cached, cut, and per variant."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from hinting import positions, temperature
from hinting.transformer import Hook, ModelConfig, Transformer
from tests import learning

CONFIG = ModelConfig(
  width=32, num_heads=2, feed_forward_width=64, max_positions=64
)
VARIANTS = [
  *({'temperature': kind} for kind in temperature.KINDS),
  *({'positions': kind} for kind in positions.KINDS[1:]),
  {'has_norm': False, 'activation': 'relu', 'num_layers': 3},
  {'num_layers': 1},
]
IDS = ['-'.join(map(str, v.values())) for v in VARIANTS]


def make(**changes):
  """A model whose every parameter matters."""
  config = dataclasses.replace(CONFIG, **changes)
  graphdef, params = nnx.split(Transformer(config, 64, rngs=nnx.Rngs(0)))
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    x + 0.2 * jax.random.normal(key, x.shape)
    for x, key in zip(leaves, keys, strict=True)
  ]
  return nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))


def run(model, *args, **kwargs):
  return learning.compiled(Transformer.__call__, model, *args, **kwargs)


def draw(*shape, seed=0):
  return jax.random.randint(jax.random.key(seed), shape, 1, 64)


def close(actual, desired):
  np.testing.assert_allclose(actual, desired, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('variant', VARIANTS, ids=IDS)
def test_decoding_is_greedy(variant):
  """Each token is the best behind those before it, by a pass without cache."""
  graphdef, params = nnx.split(make(**variant))
  prompts, starts = draw(3, 7), jnp.array([0, 2, 5])

  @jax.jit
  def decode(params):
    model = nnx.merge(graphdef, params)
    decoded = model.decode(prompts, starts, num_tokens=5)
    tokens = jnp.concatenate([prompts, decoded[:, :-1]], 1)
    index = jnp.arange(11)
    logits = model(
      tokens,
      segments=jnp.where(index >= starts[:, None], 0, -1),
      positions=(index - starts[:, None]).clip(0),
    )
    return decoded, logits[:, 6:].argmax(-1)

  decoded, best = decode(params)
  np.testing.assert_array_equal(decoded, best)


@pytest.mark.parametrize('variant', VARIANTS, ids=IDS)
def test_packed_rows_do_not_see_each_other(variant):
  model = make(**variant)
  first, second = draw(2, 5), draw(2, 6, seed=1)
  index = np.array([*range(5), *range(6)])
  tokens = jnp.concatenate([first, second], 1)
  row = dict(
    segments=jnp.array([[0] * 5 + [1] * 6] * 2),
    positions=jnp.broadcast_to(index, (2, 11)),
  )
  if model.config.positions == 'randomised':
    # A packed row has a draw of its own: beside others, in place of alone.
    others = draw(2, 11, seed=2)
    beside = (
      run(model, others.at[:, :5].set(first), **row)[:, :5],
      run(model, others.at[:, 5:].set(second), **row)[:, 5:],
    )
  else:
    beside = run(model, first), run(model, second)
  apart = jnp.concatenate(beside, 1)
  close(run(model, tokens, **row), apart)
  at = jnp.array([[10, 0, 4], [3, 3, 7]])
  some = jnp.take_along_axis(apart, at[..., None], 1)
  close(run(model, tokens, at=at, **row), some)


def test_later_tokens_are_not_seen():
  model = make()
  tokens = draw(2, 8)
  changed = tokens.at[:, 5:].set(1)
  before, after = run(model, tokens), run(model, changed)
  close(before[:, :5], after[:, :5])
  assert not np.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize('num_layers', [1, 2])
def test_order_of_the_list(num_layers):
  """One layer without positions cannot see the order; two can."""
  model = make(num_layers=num_layers)
  tokens = draw(1, 9)
  order = jnp.array([0, 5, 3, 1, 2, 7, 4, 6, 8])
  last, permuted = (run(model, x)[:, -1] for x in (tokens, tokens[:, order]))
  assert np.allclose(last, permuted, atol=1e-5) == (num_layers == 1)


def test_relative_positions_do_not_see_a_shift():
  tokens = draw(1, 6)
  for kind in 'rotary', 'alibi', 't5':
    model = make(positions=kind)
    here = run(model, tokens, positions=jnp.arange(6)[None])
    # The same number of keys: T0 does not ask.
    close(run(model, tokens, positions=jnp.arange(9, 15)[None]), here)
    moved = run(model, tokens, positions=2 * jnp.arange(6)[None])
    assert not np.allclose(moved, here, atol=1e-3)


def test_randomised_positions_are_any_of_the_table():
  """Those of the first of two rows, of 2 and 6 tokens, reach its end too."""
  index = jnp.array([[0, 1, 0, 1, 2, 3, 4, 5]] * 2000)
  drawn = positions.draw(jax.random.key(0), index, 'randomised', 20)
  means = np.asarray(drawn).mean(0)
  # The i-th smallest of m of 20: 21 i / (m + 1) - 1.
  np.testing.assert_allclose(means[:2], [6, 13], atol=0.4)
  np.testing.assert_allclose(means[2:], 3 * np.arange(1, 7) - 1, atol=0.4)


def test_only_randomised_positions_are_drawn_in_evaluation():
  index = jnp.array([[0, 1, 0, 1, 2]])
  for kind in positions.KINDS:
    drawn = positions.draw(None, index, kind, 20)
    assert np.array_equal(drawn, index) == (kind != 'randomised')


def test_positions_are_drawn_in_order():
  index = jnp.array([[0, 1, 2, 0, 1, 0]] * 40)
  key = jax.random.key(0)
  for kind in positions.KINDS:
    drawn = np.asarray(positions.draw(key, index, kind, 20))
    assert drawn.min() >= 0 and drawn.max() < 20
    assert (np.diff(drawn[:, :3]) > 0).all()
    is_moved = kind in positions.TABLE_KINDS
    assert (len(np.unique(drawn[:, 0])) > 4) == is_moved
    steps = np.diff(drawn[:, :3])
    assert (steps == 1).all() == (kind != 'randomised')


def test_temperatures():
  """T1 with a = 0 and b = 1 is T0; all are 1 at 32 keys at first."""
  queries = jnp.ones((1, 3, 2, 4))
  keys = jnp.array([[1, 32, 400]])

  def scales(kind):
    made = temperature.Temperature(kind, 2, 4, rngs=nnx.Rngs(0))
    return made, np.broadcast_to(made(queries, keys), (1, 3, 2))

  for kind in 'T1', 'T2', 'T3', 'T5':
    np.testing.assert_allclose(scales(kind)[1][0, 1], 1, rtol=1e-5)
  for kind in 'T1', 'T2', 'T3':
    close(scales(kind)[1][0, 2], np.log(400) / np.log(32))
  made, _ = scales('T1')
  made.slope[...], made.offset[...] = jnp.zeros(2), jnp.ones(2)
  np.testing.assert_array_equal(made(queries, keys), 1)
  made, scale = scales('T4')
  assert (scale >= 1).all() and (np.diff(scale[0, :, 0]) > 0).all()


def test_table_of_temperatures_goes_on_as_a_line():
  """T5: values of 0.5 + 2 log M are met beyond the table as well."""
  made = temperature.Temperature('T5', 2, 4, rngs=nnx.Rngs(0))
  inside = np.arange(1, 43)
  line = 0.5 + 2 * np.log(inside)
  made.table[...] = jnp.asarray(np.repeat(line, 2), jnp.float32)
  keys = jnp.array([[7, 42, 43, 300]])
  scale = made(jnp.ones((1, 4, 2, 4)), keys)
  close(scale[0, :, 0], 0.5 + 2 * np.log(keys[0]))


def test_hooks_see_and_edit():
  model, tokens, seen = make(), draw(2, 6), {}
  hooks = Hook(), Hook(see=seen.__setitem__)
  logits = model(tokens, hooks=hooks)
  np.testing.assert_array_equal(logits, model(tokens))
  shapes = {name: x.shape for name, x in seen.items()}
  attention = 2, 2, 6, 6
  assert shapes == {
    'logits': attention,
    'weights': attention,
    'heads': (2, 6, 2, 16),
    'residual': (2, 6, 32),
  }
  close(seen['weights'].sum(-1), 1)
  np.testing.assert_array_equal(np.triu(seen['weights'][0, 0], 1), 0)
  close(model.head(model.norm(seen['residual'])), logits)
  without = Hook(edit=lambda heads: heads.at[:, :, 0].set(0))
  assert not np.allclose(model(tokens, hooks=(without, Hook())), logits)


@pytest.mark.parametrize('kind', ['none', 'alibi', 't5'])
def test_hooks_scale_whole_logits(kind):
  """Those of the bias as well; keys that are not seen stay so."""
  model, plain, scaled = make(positions=kind), {}, {}
  scale = jnp.array([0.0, 3.0])[:, None, None]
  for seen, hook_scale in (plain, 1.0), (scaled, scale):
    hook = Hook(scale=hook_scale, see=seen.__setitem__)
    model(draw(2, 6), hooks=(hook, Hook()))
  weights = jax.nn.softmax(scale * plain['logits'])[:, 1]
  close(scaled['weights'][:, 1], weights)
  np.testing.assert_array_equal(scaled['weights'][:, 0, 3, :4], 0.25)


@pytest.mark.parametrize('variant', VARIANTS, ids=IDS)
def test_every_parameter_has_a_gradient(variant):
  model = make(**variant)
  graphdef, params = nnx.split(model)

  def loss(params):
    return (nnx.merge(graphdef, params)(draw(4, 50)) ** 3).sum()

  grads = jax.jit(jax.grad(loss))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    # A bias of all keys moves all logits of a query alike.
    assert jnp.any(grad) or 'key' in name and 'bias' in name, name


@pytest.mark.parametrize(
  'changes', [{'temperature': 'T1'}, {'positions': 'rotary'}]
)
def test_half_precision_is_of_all_products_but_the_last(changes):
  config = dataclasses.replace(CONFIG, **changes)
  model = Transformer(config, 64, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  lowered = jax.jit(model).trace(draw(2, 9)).lower(lowering_platforms=('cuda',))
  products = re.findall(r'dot_general.*: \((.*)\) ->', lowered.as_text())
  assert [x.count('bf16') for x in products] == [2] * 16 + [0]


def test_half_precision_is_close():
  model = Transformer(CONFIG, 64, rngs=nnx.Rngs(0))
  half = Transformer(CONFIG, 64, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  exact, rounded = model(draw(2, 9)), half(draw(2, 9))
  assert rounded.dtype == jnp.float32 and not np.array_equal(exact, rounded)
  np.testing.assert_allclose(exact, rounded, atol=0.02)


def test_unknown_variants_are_refused():
  with pytest.raises(UserError, match='T0, T1'):
    ModelConfig(temperature='T9')
  with pytest.raises(UserError, match='rotary'):
    ModelConfig(positions='rope')
  with pytest.raises(UserError, match='multiple'):
    ModelConfig(width=100, num_heads=8)
