"""A decoder-only transformer whose softmax may depend on the length.

The blocks are pre-norm and causal. By default, there are no positional
encodings (NoPE); a public review of Awasthi & Gupta 2023 describes their model
this way. We do not know its sizes, norms, or activation. Rows may be packed: a
token attends only to itself and to earlier tokens of its segment, and the
softmax depends on the number of these keys. The last layer is computed only for
the tokens whose logits are requested.

Axes: B batch, L tokens, A tokens whose logits are requested, D width, H heads,
D2 width of a head, V vocabulary, T decoded tokens.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from hinting import model_config, temperature
from hinting import positions as positional
from hinting.model_config import ModelConfig

# How the mesh axis 'tensor' shards parameters, by path: the outputs of the
# first layers of attention and of the MLP, and the inputs of the next layers.
# Shards contain whole heads if the axis size divides the number of heads.
TENSOR_RULES = (
  (r'blocks/\d+/(query|key|value|up)/kernel$', (None, 'tensor')),
  (r'blocks/\d+/(out|down)/kernel$', ('tensor', None)),
)
_MASKED = -1e30  # logit of a masked key
# Logits, softmax, and sums are float32 for operands of any type.
_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Hook:
  """Functions that observe and change a layer, for analysis.

  Attributes:
    observe: called with a name and an array: 'logits' of attention, -1e30 for a
      masked key, and 'weights', their softmax, both [B, H, A, L]; 'heads', the
      outputs of `edit`; and 'residual' [B, A, D], the output of the layer.
    scale: factor of the attention logits, including their positional bias:
      [1, H, 1, 1].
    edit: maps the outputs of the heads [B, A, H, D2] to new ones.
  """

  observe: Callable[[str, jax.Array], None] = lambda name, value: None
  scale: jax.Array | float = 1.0
  edit: Callable[[jax.Array], jax.Array] = lambda heads: heads


_NO_HOOK = Hook()


class Block(nnx.Module):
  """Attention and feed-forward layers, each added to the residual stream.

  Args:
    config: sizes and variants.
    dtype: type of the operands of matrix products.
    rngs: random keys of the parameters.
  """

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    width, num_layers = config.width, config.num_layers
    residual_scale = 0.02 / (2 * num_layers) ** 0.5

    def linear(inputs, outputs, scale=0.02):
      init = nnx.initializers.normal(scale)
      return layers.Linear(
        inputs, outputs, kernel_init=init, dtype=dtype, rngs=rngs
      )

    self.config = config
    if config.has_norm:
      self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
      self.feed_forward_norm = nnx.LayerNorm(width, rngs=rngs)
    self.query = linear(width, width)
    self.key = linear(width, width)
    self.value = linear(width, width)
    self.out = linear(width, width, residual_scale)
    self.temperature = temperature.Temperature(
      config.temperature, config.num_heads, width // config.num_heads, rngs=rngs
    )
    self.bias = positional.Bias(config.positions, config.num_heads)
    self.up = linear(width, config.feed_forward_width)
    self.down = linear(config.feed_forward_width, width, residual_scale)

  def keys_and_values(
    self, x: Float[Array, 'B L D'], positions: Int[Array, '#B L']
  ) -> tuple[Float[Array, 'B L H D2'], Float[Array, 'B L H D2']]:
    """Return the keys and values that later tokens attend to."""
    x = self._attention_input(x)
    keys = self._split_and_rotate(self.key(x), positions)
    return keys, self._split_heads(self.value(x))

  def __call__(
    self,
    x: Float[Array, 'B A D'],
    memory: tuple[Float[Array, '#B H L D2'], Float[Array, '#B H L D2']],
    *,
    mask: jax.Array,
    num_keys: Int[Array, '#B A'],
    positions: Int[Array, '#B A'],
    key_positions: Int[Array, '#B L'],
    log_counts: Float[Array, '#B 1 1 L'] | float = 0.0,
    hook: Hook = _NO_HOOK,
  ) -> Float[Array, 'B A D']:
    """Compute the residual stream after the layer.

    Args:
      x: residual stream of the tokens.
      memory: keys and values of all tokens.
      mask: whether a token attends to a key, bool [#B, A, L].
      num_keys: number of keys that each token attends to, for the
        temperature.
      positions: positions of the tokens.
      key_positions: positions of the keys.
      log_counts: logarithm of the number of tokens that share each key.
      hook: observes and edits the layer.
    """
    keys, values = memory
    queries = self._split_and_rotate(
      self.query(self._attention_input(x)), positions
    )
    scale = self.temperature(queries, num_keys) / queries.shape[-1] ** 0.5
    scale = layers.expand_left(jnp.asarray(scale)[..., None], queries.ndim)
    queries = (queries * scale).astype(keys.dtype)
    logits = _einsum('bahd,bhld->bhal', queries, keys)
    logits = hook.scale * (logits + self.bias(positions, key_positions))
    logits = jnp.where(mask[:, None], logits + log_counts, _MASKED)
    weights = jax.nn.softmax(logits)
    heads = _einsum('bhal,bhld->bhad', weights.astype(values.dtype), values)
    heads = hook.edit(heads.swapaxes(1, 2))
    hook.observe('logits', logits)
    hook.observe('weights', weights)
    hook.observe('heads', heads)
    x += self.out(heads.reshape(x.shape))
    hidden = self.feed_forward_norm(x) if self.config.has_norm else x
    activation = model_config.ACTIVATIONS[self.config.activation]
    x += self.down(activation(self.up(hidden)))
    hook.observe('residual', x)
    return x

  def _attention_input(self, x):
    return self.attention_norm(x) if self.config.has_norm else x

  def _split_heads(self, x):
    return x.reshape(*x.shape[:-1], self.config.num_heads, -1)

  def _split_and_rotate(self, x, positions):
    x = self._split_heads(x)
    if self.config.positions == 'rotary':
      x = positional.rotate(x, positions).astype(x.dtype)
    return x


class Transformer(nnx.Module):
  """A language model: predicts the next token.

  Args:
    config: sizes and variants.
    vocabulary_size: V.
    dtype: type of the operands of matrix products, except for the output
      layer, which uses float32.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    config: ModelConfig,
    vocabulary_size: int,
    *,
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    normal = nnx.initializers.normal(0.02)
    width = config.width
    self.config = config
    self.embedding = nnx.Param(normal(rngs.params(), (vocabulary_size, width)))
    if config.has_table:
      self.position_table = nnx.Param(
        normal(rngs.params(), (config.max_positions, width))
      )
    self.blocks = nnx.List(
      Block(config, dtype=dtype, rngs=rngs) for _ in range(config.num_layers)
    )
    if config.has_norm:
      self.norm = nnx.LayerNorm(width, rngs=rngs)
    self.head = layers.Linear(
      width, vocabulary_size, use_bias=False, kernel_init=normal, rngs=rngs
    )

  def __call__(
    self,
    tokens: Int[Array, 'B L'],
    *,
    at: Int[Array, 'B A'] | None = None,
    segments: Int[Array, 'B L'] | None = None,
    positions: Int[Array, 'B L'] | None = None,
    position_key: jax.Array | None = None,
    hooks: tuple[Hook, ...] | None = None,
  ) -> Float[Array, 'B A V']:
    """Return the logits of the token that follows each token.

    Args:
      tokens: the rows.
      at: indices of the tokens whose logits are requested; None for all tokens.
      segments: row of each token; None if rows are not packed.
      positions: position of each token in its row; None if rows are not packed.
      position_key: random key of positions in training; None in evaluation.
      hooks: one hook per layer, for analysis.
    """
    batch, length = tokens.shape
    hooks = hooks or (_NO_HOOK,) * self.config.num_layers
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
    num_keys = positions + 1
    positions = self._draw_positions(position_key, positions)
    mask = jnp.tril(jnp.ones((1, length, length), bool))
    if segments is not None:
      mask &= segments[:, :, None] == segments[:, None]
    x = self.embed(tokens, positions)
    # Arguments of a block with one entry per query: [#B, L, ...].
    queries = {'mask': mask, 'num_keys': num_keys, 'positions': positions}
    for index, block in enumerate(self.blocks):
      memory = _heads_first(*block.keys_and_values(x, positions))
      if at is not None and index + 1 == self.config.num_layers:
        x = jax.vmap(layers.embedding_lookup)(x, at)
        queries = {
          name: jax.vmap(lambda a, at: a[at])(
            jnp.broadcast_to(value, (batch, *value.shape[1:])), at
          )
          for name, value in queries.items()
        }
      x = block(
        x, memory, **queries, key_positions=positions, hook=hooks[index]
      )
    return self.read_out(x)

  def embed(
    self, tokens: Int[Array, 'B L'], positions: Int[Array, '#B L']
  ) -> Float[Array, 'B L D']:
    """Return the residual stream before the first layer."""
    x = layers.embedding_lookup(self.embedding[...], tokens)
    if self.config.has_table:
      x += layers.embedding_lookup(self.position_table[...], positions)
    return x

  def read_out(self, x: Float[Array, '... D']) -> Float[Array, '... V']:
    """Apply the output layer to the residual stream after any layer."""
    return self.head(self.norm(x) if self.config.has_norm else x)

  def _token_memory(self, token_ids: Int[Array, '1 V']):
    """Return the keys and values of each token in the first layer.

    Without positions, the second arguments have no effect.
    """
    inputs = self.embed(token_ids, token_ids)
    return _heads_first(*self.blocks[0].keys_and_values(inputs, token_ids))

  def decode(
    self,
    prompts: Int[Array, 'B L'],
    starts: Int[Array, ' B'],
    *,
    num_tokens: int,
  ) -> Int[Array, 'B T']:
    """Decode greedily, with a cache of the keys and values of each layer.

    Without positions, the key and value of a token in the first layer do not
    depend on its place. The cache of this layer is then the number of copies of
    each token, int [B, V].

    Args:
      prompts: prompts, padded on the left.
      starts: index of the first token of each prompt.
      num_tokens: T.
    """
    length = prompts.shape[1]
    index = jnp.arange(length + num_tokens - 1)[None]
    positions = self._draw_positions(None, (index - starts[:, None]).clip(0))
    token_ids = jnp.arange(len(self.embedding[...]))[None]
    counts_tokens = self.config.positions == 'none'
    token_memory = self._token_memory(token_ids) if counts_tokens else None

    def run(tokens, first, cache):
      """Feed tokens [B, A] from index `first`; return the next tokens [B]."""
      here = first + jnp.arange(tokens.shape[1])
      x = self.embed(tokens, positions[:, here])
      new_cache = []
      for block, old in zip(self.blocks, cache, strict=True):
        if isinstance(old, jax.Array):  # the counts of tokens
          new_cache.append(old + (tokens == token_ids).astype(old.dtype))
          x = _attend_to_counts(block, x, token_memory, new_cache[-1])
          continue
        memory = _heads_first(*block.keys_and_values(x, positions[:, here]))
        new_cache.append(_extend_cache(old, memory, first))
        if block is self.blocks[-1]:
          x, here = x[:, -1:], here[-1:]
        x = _attend_to_cache(block, x, new_cache[-1], here, starts, positions)
      return self.read_out(x[:, -1]).argmax(-1), new_cache

    def step(carry, first):
      token, cache = carry
      token, cache = run(token[:, None], first, cache)
      return (token, cache), token

    token, cache = run(prompts, 0, [()] * self.config.num_layers)
    cache = jax.tree.map(
      lambda x: jnp.pad(x, [(0, 0)] * 2 + [(0, num_tokens - 1), (0, 0)]), cache
    )
    if counts_tokens:
      is_prompt = jnp.arange(length)[None] >= starts[:, None]
      is_token = prompts[..., None] == token_ids[None]
      cache[0] = (is_token & is_prompt[..., None]).sum(1)
    _, tokens = jax.lax.scan(
      step, (token, cache), length + jnp.arange(num_tokens - 1)
    )
    return jnp.concatenate([token[None], tokens]).T

  def _draw_positions(self, key, positions):
    config = self.config
    return positional.draw(
      key, positions, config.positions, config.max_positions
    )


def _heads_first(keys, values):
  """Transpose [B, L, H, D2] to [B, H, L, D2].

  This layout avoids a transposition of the cache for each decoded token.
  """
  return keys.swapaxes(1, 2), values.swapaxes(1, 2)


def _attend_to_counts(block, x, token_memory, counts):
  """Apply a layer to one token per row, x [B, 1, D].

  Its keys are the vocabulary, token_memory [1, H, V, D2], weighted by the
  counts of tokens [B, V].
  """
  num_keys = counts.sum(1, keepdims=True)
  return block(
    x,
    token_memory,
    mask=counts[:, None] > 0,
    num_keys=num_keys,
    positions=num_keys - 1,
    key_positions=jnp.arange(counts.shape[1])[None],
    log_counts=jnp.log(counts)[:, None, None],
  )


def _attend_to_cache(block, x, memory, here, starts, positions):
  """Apply a layer to tokens x [B, A, D], which attend to cached keys.

  The indices of the tokens are `here` [A], the first token of a row has the
  index `starts` [B], and index i has the position `positions[:, i]`.
  """
  length = memory[0].shape[2]
  index = jnp.arange(length)[None]
  return block(
    x,
    memory,
    mask=(index >= starts[:, None])[:, None] & (index <= here[:, None])[None],
    num_keys=(here[None] - starts[:, None]).clip(0) + 1,
    positions=positions[:, here],
    key_positions=positions[:, :length],
  )


def _extend_cache(cache, memory, first):
  """Write the memory of new tokens to the cache from index `first`.

  The memory of the prompts replaces the empty cache.
  """
  if not cache:
    return memory
  return jax.tree.map(
    lambda old, now: jax.lax.dynamic_update_slice_in_dim(old, now, first, 2),
    cache,
    memory,
  )
