"""The transformer in all variants: decoding, packing, masking, gradients."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from hinting import positions, temperature
from hinting.model_config import ModelConfig
from hinting.transformer import Hook, Transformer
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
# Without and with a temperature; positions in the attention and in the input.
FAST = 'none', 'affine_log', 'rotary', 'randomized'
EACH_VARIANT = pytest.mark.parametrize(
  'variant',
  [
    pytest.param(v, id=name, marks=[] if name in FAST else pytest.mark.slow)
    for v, name in zip(VARIANTS, IDS, strict=True)
  ],
)


def make(**changes):
  """Return a model in which every parameter has an effect."""
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


@EACH_VARIANT
def test_decoding_is_greedy(variant):
  """Each token is the argmax of a forward pass without a cache."""
  graphdef, params = nnx.split(make(**variant))
  prompts, starts = draw(3, 7), jnp.array([0, 2, 5])

  @jax.jit
  def decode(params):
    model = nnx.merge(graphdef, params)
    decoded = model.decode(prompts, starts, num_tokens=5)
    tokens = jnp.concatenate([prompts, decoded[:, :-1]], 1)
    index = jnp.arange(11)[None]
    logits = model(
      tokens,
      segments=jnp.where(index >= starts[:, None], 0, -1),
      positions=(index - starts[:, None]).clip(0),
    )
    return decoded, logits[:, 6:].argmax(-1)

  decoded, best = decode(params)
  np.testing.assert_array_equal(decoded, best)


@EACH_VARIANT
def test_packed_rows_are_independent(variant):
  model = make(**variant)
  first, second = draw(2, 5), draw(2, 6, seed=1)
  index = np.array([*range(5), *range(6)])
  tokens = jnp.concatenate([first, second], 1)
  row = dict(
    segments=jnp.array([[0] * 5 + [1] * 6] * 2),
    positions=jnp.broadcast_to(index, (2, 11)),
  )
  at = jnp.array([[10, 0, 4], [3, 3, 7]])

  def run_all(model):
    if model.config.positions == 'randomized':
      # Each packed row draws its own positions: compare with other neighbors.
      others = draw(2, 11, seed=2)
      packed = (
        model(others.at[:, :5].set(first), **row)[:, :5],
        model(others.at[:, 5:].set(second), **row)[:, 5:],
      )
    else:
      packed = model(first), model(second)
    apart = jnp.concatenate(packed, 1)
    return apart, model(tokens, **row), model(tokens, at=at, **row)

  apart, together, some = learning.compiled(run_all, model)
  close(together, apart)
  close(some, jnp.take_along_axis(apart, at[..., None], 1))


def test_later_tokens_are_masked():
  model = make()
  tokens = draw(2, 8)
  changed = tokens.at[:, 5:].set(1)
  before, after = run(model, tokens), run(model, changed)
  close(before[:, :5], after[:, :5])
  assert not np.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize('num_layers', [1, 2])
def test_order_matters_from_two_layers_on(num_layers):
  """One layer without positions is invariant to the order; two are not."""
  model = make(num_layers=num_layers)
  tokens = draw(1, 9)
  order = jnp.array([0, 5, 3, 1, 2, 7, 4, 6, 8])
  last, permuted = (run(model, x)[:, -1] for x in (tokens, tokens[:, order]))
  assert np.allclose(last, permuted, atol=1e-5) == (num_layers == 1)


def test_relative_positions_ignore_a_shift():
  tokens = draw(1, 6)
  for kind in 'rotary', 'alibi', 't5':
    graphdef, params = nnx.split(make(positions=kind))
    call = jax.jit(
      lambda params, index, graphdef=graphdef: nnx.merge(graphdef, params)(
        tokens, positions=index[None]
      )
    )
    here = call(params, jnp.arange(6))
    # The shift changes `num_keys`, but temperature 'none' ignores it.
    close(call(params, jnp.arange(9, 15)), here)
    moved = call(params, 2 * jnp.arange(6))
    assert not np.allclose(moved, here, atol=1e-3)


def test_randomized_positions_cover_the_table():
  """Positions of both rows, of 2 and 6 tokens, cover the whole table."""
  index = jnp.array([[0, 1, 0, 1, 2, 3, 4, 5]] * 2000)
  drawn = positions.draw(jax.random.key(0), index, 'randomized', 20)
  means = np.asarray(drawn).mean(0)
  # The mean of the i-th smallest of m positions in 0 .. 19.
  np.testing.assert_allclose(means[:2], [6, 13], atol=0.4)
  np.testing.assert_allclose(means[2:], 3 * np.arange(1, 7) - 1, atol=0.4)


def test_only_randomized_positions_are_drawn_in_evaluation():
  index = jnp.array([[0, 1, 0, 1, 2]])
  for kind in positions.KINDS:
    drawn = positions.draw(None, index, kind, 20)
    assert np.array_equal(drawn, index) == (kind != 'randomized')


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
    assert (steps == 1).all() == (kind != 'randomized')


def test_temperatures():
  """Scales have the right values, and 'affine_log' can be constant."""
  queries = jnp.ones((1, 3, 2, 4))
  keys = jnp.array([[1, 32, 400]])

  def scales(kind):
    made = temperature.Temperature(kind, 2, 4, rngs=nnx.Rngs(0))
    return made, np.broadcast_to(made(queries, keys), (1, 3, 2))

  for kind in 'affine_log', 'log':
    np.testing.assert_allclose(scales(kind)[1][0, 1], 1, rtol=1e-5)
    close(scales(kind)[1][0, 2], np.log(400) / np.log(32))
  made, _ = scales('affine_log')
  made.slope[...], made.offset[...] = jnp.zeros(2), jnp.ones(2)
  np.testing.assert_array_equal(made(queries, keys), 1)
  made, scale = scales('per_query')
  assert (scale >= 1).all() and (np.diff(scale[0, :, 0]) > 0).all()


@pytest.mark.slow
def test_hooks_see_and_edit():
  model, tokens, seen = make(), draw(2, 6), {}
  hooks = Hook(), Hook(observe=seen.__setitem__)
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
  """The scale applies to the bias, and masked keys stay masked."""
  model, plain, scaled = make(positions=kind), {}, {}
  scale = jnp.array([0.0, 3.0])[None, :, None, None]
  for seen, hook_scale in (plain, 1.0), (scaled, scale):
    hook = Hook(scale=hook_scale, observe=seen.__setitem__)
    model(draw(2, 6), hooks=(hook, Hook()))
  weights = jax.nn.softmax(scale * plain['logits'])[:, 1]
  close(scaled['weights'][:, 1], weights)
  np.testing.assert_array_equal(scaled['weights'][:, 0, 3, :4], 0.25)


@EACH_VARIANT
def test_every_parameter_has_a_gradient(variant):
  model = make(**variant)
  graphdef, params = nnx.split(model)

  def loss(params):
    return (nnx.merge(graphdef, params)(draw(4, 50)) ** 3).sum()

  grads = jax.jit(jax.grad(loss))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    # A key bias shifts all logits of a query by the same amount.
    assert jnp.any(grad) or 'key' in name and 'bias' in name, name


@pytest.mark.parametrize(
  'changes', [{'temperature': 'affine_log'}, {'positions': 'rotary'}]
)
@jax.numpy_dtype_promotion('standard')  # float32 and bfloat16 are mixed
def test_half_precision_applies_to_all_products_but_the_last(changes):
  config = dataclasses.replace(CONFIG, **changes)
  model = Transformer(config, 64, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  lowered = jax.jit(model).trace(draw(2, 9)).lower(lowering_platforms=('cuda',))
  products = re.findall(r'dot_general.*: \((.*)\) ->', lowered.as_text())
  assert [x.count('bf16') for x in products] == [2] * 16 + [0]


@pytest.mark.slow
@jax.numpy_dtype_promotion('standard')  # float32 and bfloat16 are mixed
def test_half_precision_is_close():
  model = Transformer(CONFIG, 64, rngs=nnx.Rngs(0))
  half = Transformer(CONFIG, 64, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  exact, rounded = model(draw(2, 9)), half(draw(2, 9))
  assert rounded.dtype == jnp.float32 and not np.array_equal(exact, rounded)
  np.testing.assert_allclose(exact, rounded, atol=0.02)


def test_names_of_older_versions_are_translated():
  names = [
    ModelConfig(temperature=kind).temperature for kind in ('T0', 'T1', 'T2')
  ]
  assert names == ['none', 'affine_log', 'log']
  assert ModelConfig(temperature='T4').temperature == 'per_query'
  assert ModelConfig(positions='randomised').positions == 'randomized'


def test_unknown_variants_are_errors():
  with pytest.raises(UserError, match='none, affine_log'):
    ModelConfig(temperature='T9')
  with pytest.raises(UserError, match='rotary'):
    ModelConfig(positions='rope')
  with pytest.raises(UserError, match='multiple'):
    ModelConfig(width=100, num_heads=8)
