"""Deep Sets and the Set Transformer match the equations of their papers."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.seq2set.read_process_write_test import WIDTH, make_model, sets


def test_deep_sets_are_an_mlp_of_the_sum():
  model = make_model(encoder='deep_sets')
  memories = sets()
  _, summary = model.encoder(memories)
  expected = model.encoder.mlp(memories.sum(1))
  np.testing.assert_allclose(summary, expected, atol=1e-5)


def test_set_transformer_attends_as_in_equations_6_and_7():
  encoder = make_model(encoder='set_transformer').encoder
  block, memories = encoder.blocks[0], sets()
  heads = {}
  for name in 'query', 'key', 'value':
    layer = getattr(block.attention, name)
    heads[name] = (
      jnp.einsum('bnd,dhk->bhnk', memories, layer.kernel[...])
      + layer.bias[...][None, :, None]
    )
  scores = jnp.einsum('bhqk,bhnk->bhqn', heads['query'], heads['key'])
  weights = jax.nn.softmax(scores / np.sqrt(WIDTH / 4))
  seen = jnp.einsum('bhqn,bhnk->bqhk', weights, heads['value'])
  out = block.attention.out
  seen = jnp.einsum('bqhk,hkd->bqd', seen, out.kernel[...])
  seen += out.bias[...][None, None]
  x = block.norm_1(memories + seen)
  expected = block.norm_2(x + block.mlp(x))
  np.testing.assert_allclose(
    block(memories, memories, None), expected, atol=1e-4
  )
