"""A decoder-only transformer whose softmax may depend on the length.

Pre-norm, causal, without positions by default (NoPE), as a reviewer saw it in
the paper (Awasthi & Gupta 2023); sizes, norms and activation are not known to
us. Rows may be packed: tokens see those of their own segment alone, and their
own number of keys. The last layer is computed only where it is asked for.

Axes: B batch, L tokens, A tokens that are asked for, D width, H heads, V
vocabulary, T decoded tokens; D2 the width of a head.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError, check_choice
from hinting import positions as positional
from hinting import temperature

ACTIVATIONS = {'gelu': jax.nn.gelu, 'relu': jax.nn.relu}
_NEVER = -1e30  # logit of a key that is not seen
# Logits, softmax and sums are float32 whatever the factors are.
_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and variants.

  Attributes:
    num_layers, width, num_heads, feed_forward_width: of the transformer.
    temperature: one of `temperature.KINDS`.
    positions: one of `positions.KINDS`.
    max_positions: rows of the table of 'learned' and 'randomised'.
    has_norm: False for the construction.
    activation: 'gelu' or 'relu'.
  """

  num_layers: int = 2
  width: int = 128
  num_heads: int = 4
  feed_forward_width: int = 512
  temperature: str = 'T0'
  positions: str = 'none'
  max_positions: int = 512
  has_norm: bool = True
  activation: str = 'gelu'

  @property
  def has_table(self) -> bool:
    """Whether positions are rows of a table."""
    return self.positions in positional.TABLE_KINDS

  def __post_init__(self):
    check_choice(
      'config.model.temperature', self.temperature, temperature.KINDS
    )
    check_choice('config.model.positions', self.positions, positional.KINDS)
    check_choice('config.model.activation', self.activation, ACTIVATIONS)
    if self.width % (2 * self.num_heads):
      raise UserError(
        f'config.model.width={self.width}: a multiple of twice num_heads='
        f'{self.num_heads} expected'
      )


@dataclasses.dataclass(frozen=True)
class Hook:
  """How analysis looks into a layer, and changes it.

  Attributes:
    see: called with a name and an array: 'logits' of attention, -1e30 where a
      key is not seen, and its 'weights' [B H A L], 'heads' [B A H D / H],
      'residual' [B A D].
    scale: of attention logits, their bias by position included, [H 1 1].
    edit: of the heads' outputs [B A H D / H].
  """

  see: Callable[[str, jax.Array], None] = lambda name, value: None
  scale: jax.Array | float = 1.0
  edit: Callable[[jax.Array], jax.Array] = lambda heads: heads


_NO_HOOK = Hook()


class Block(nnx.Module):
  """Attention and feed-forward layers, each added to the residual stream."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    width, num_layers = config.width, config.num_layers
    small = 0.02 / (2 * num_layers) ** 0.5

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
    self.out = linear(width, width, small)
    self.temperature = temperature.Temperature(
      config.temperature, config.num_heads, width // config.num_heads, rngs=rngs
    )
    self.bias = positional.Bias(config.positions, config.num_heads)
    self.up = linear(width, config.feed_forward_width)
    self.down = linear(config.feed_forward_width, width, small)

  def keys_and_values(
    self, x: Float[Array, 'B L D'], positions: Int[Array, '#B L']
  ) -> tuple[Float[Array, 'B L H D2'], Float[Array, 'B L H D2']]:
    """What later tokens attend to."""
    x = self._attention_input(x)
    return self._place(self.key(x), positions), self._split(self.value(x))

  def __call__(
    self,
    x: Float[Array, 'B A D'],
    memory: tuple[Float[Array, '#B H L D2'], Float[Array, '#B H L D2']],
    *,
    is_seen: jax.Array,
    num_keys: Int[Array, '#B A'],
    positions: Int[Array, '#B A'],
    key_positions: Int[Array, '#B L'],
    log_counts: Float[Array, '#B 1 1 L'] | float = 0.0,
    hook: Hook = _NO_HOOK,
  ) -> Float[Array, 'B A D']:
    """Updates tokens.

    Args:
      x: the tokens.
      memory: keys and values of all tokens.
      is_seen: whether a token sees a key, bool [#B A L].
      num_keys: how many keys each sees, for the temperature.
      positions: of the tokens.
      key_positions: of the keys.
      log_counts: the logarithm of how many keys each stands for.
      hook: looks in, and edits.
    """
    keys, values = memory
    queries = self._place(self.query(self._attention_input(x)), positions)
    scale = self.temperature(queries, num_keys) / queries.shape[-1] ** 0.5
    scale = layers.expand_left(jnp.asarray(scale)[..., None], queries.ndim)
    queries = (queries * scale).astype(keys.dtype)
    logits = _einsum('bahd,bhld->bhal', queries, keys)
    logits = hook.scale * (logits + self.bias(positions, key_positions))
    logits = jnp.where(is_seen[:, None], logits + log_counts, _NEVER)
    weights = jax.nn.softmax(logits)
    heads = _einsum('bhal,bhld->bhad', weights.astype(values.dtype), values)
    heads = hook.edit(heads.swapaxes(1, 2))
    hook.see('logits', logits)
    hook.see('weights', weights)
    hook.see('heads', heads)
    x += self.out(heads.reshape(x.shape))
    hidden = self.feed_forward_norm(x) if self.config.has_norm else x
    x += self.down(ACTIVATIONS[self.config.activation](self.up(hidden)))
    hook.see('residual', x)
    return x

  def _attention_input(self, x):
    return self.attention_norm(x) if self.config.has_norm else x

  def _split(self, x):
    return x.reshape(*x.shape[:-1], self.config.num_heads, -1)

  def _place(self, x, positions):
    x = self._split(x)
    if self.config.positions == 'rotary':
      x = positional.rotate(x, positions).astype(x.dtype)
    return x


class Transformer(nnx.Module):
  """Predicts the next token.

  Args:
    config: sizes and variants.
    vocabulary_size: V.
    dtype: of the factors of matrix products, but float32 in the read-out.
    rngs: of the parameters.
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
    """Returns the logits of the token behind each token.

    Args:
      tokens: of the rows.
      at: where logits are asked for, each once or more; None: everywhere.
      segments: the row that each token is of; None: one row.
      positions: of each token in its row; None: one row.
      position_key: for positions that are drawn in training.
      hooks: one a layer, for analysis.
    """
    batch, length = tokens.shape
    hooks = hooks or (_NO_HOOK,) * self.config.num_layers
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
    num_keys = positions + 1
    positions = self._in_table(position_key, positions)
    is_seen = jnp.tril(jnp.ones((1, length, length), bool))
    if segments is not None:
      is_seen &= segments[:, :, None] == segments[:, None]
    x = self.embed(tokens, positions)
    queries = {
      'is_seen': is_seen,
      'num_keys': num_keys,
      'positions': positions,
    }
    for index, block in enumerate(self.blocks):
      memory = _by_head(*block.keys_and_values(x, positions))
      if at is not None and index + 1 == self.config.num_layers:
        x = jax.vmap(layers.look_up)(x, at)
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
    """The residual stream before the first layer."""
    x = layers.look_up(self.embedding[...], tokens)
    if self.config.has_table:
      x += layers.look_up(self.position_table[...], positions)
    return x

  def read_out(self, x: Float[Array, '... D']) -> Float[Array, '... V']:
    """The logits of a residual stream, of the last layer or of another."""
    return self.head(self.norm(x) if self.config.has_norm else x)

  def decode(
    self,
    prompts: Int[Array, 'B L'],
    starts: Int[Array, ' B'],
    *,
    num_tokens: int,
  ) -> Int[Array, 'B T']:
    """Continues prompts greedily, by one pass over them and a cache.

    Args:
      prompts: each stands at the right end of its row.
      starts: the index of the first token of each.
      num_tokens: T.
    """
    length = prompts.shape[1]
    index = jnp.arange(length + num_tokens - 1)
    positions = self._in_table(None, (index - starts[:, None]).clip(0))
    vocabulary = jnp.arange(len(self.embedding[...]))[None]

    def run(tokens, first, cache):
      """Feeds tokens [B A] that stand at `first`; returns the next ones [B]."""
      here = first + jnp.arange(tokens.shape[1])
      x, new = self.embed(tokens, positions[:, here]), []
      for block, old in zip(self.blocks, cache, strict=True):
        if isinstance(old, jax.Array):
          new.append(old + (tokens == vocabulary))
          x = _by_counts(block, x, by_token, new[-1])
          continue
        memory = _by_head(*block.keys_and_values(x, positions[:, here]))
        new.append(_extended(old, memory, first))
        if block is self.blocks[-1]:
          x, here = x[:, -1:], here[-1:]
        x = _by_cache(block, x, new[-1], here, starts, positions)
      return self.read_out(x[:, -1]).argmax(-1), new

    def step(carry, first):
      token, cache = carry
      token, cache = run(token[:, None], first, cache)
      return (token, cache), token

    token, cache = run(prompts, 0, [()] * self.config.num_layers)
    cache = jax.tree.map(
      lambda x: jnp.pad(x, [(0, 0)] * 2 + [(0, num_tokens - 1), (0, 0)]), cache
    )
    if self.config.positions == 'none':
      # A first layer without positions has the same key and value wherever a
      # token stands: in place of them, how often each token was there.
      inputs = self.embed(vocabulary, vocabulary)
      by_token = _by_head(*self.blocks[0].keys_and_values(inputs, vocabulary))
      is_there = jnp.arange(length) >= starts[:, None]
      counts = (prompts[..., None] == vocabulary) & is_there[..., None]
      cache[0] = counts.sum(1)
    _, tokens = jax.lax.scan(
      step, (token, cache), length + jnp.arange(num_tokens - 1)
    )
    return jnp.concatenate([token[None], tokens]).T

  def _in_table(self, key, positions):
    config = self.config
    return positional.draw(
      key, positions, config.positions, config.max_positions
    )


def _by_head(keys, values):
  # Decoding would else turn the whole cache for each token.
  return keys.swapaxes(1, 2), values.swapaxes(1, 2)


def _by_counts(block, x, by_token, counts):
  # A layer whose keys are the vocabulary's, by how often each token was there.
  num_keys = counts.sum(1, keepdims=True)
  return block(
    x,
    by_token,
    is_seen=counts[:, None] > 0,
    num_keys=num_keys,
    positions=num_keys - 1,
    key_positions=jnp.arange(counts.shape[1])[None],
    log_counts=jnp.log(counts)[:, None, None],
  )


def _by_cache(block, x, memory, here, starts, positions):
  # A layer for the tokens `here`, whose keys are those of their rows so far.
  index = jnp.arange(memory[0].shape[2])
  return block(
    x,
    memory,
    is_seen=(index >= starts[:, None])[:, None] & (index <= here[:, None]),
    num_keys=(here - starts[:, None]).clip(0) + 1,
    positions=positions[:, here],
    key_positions=positions[:, index],
  )


def _extended(cache, memory, first):
  # The empty cache becomes the memory itself.
  if not cache:
    return memory
  return jax.tree.map(
    lambda old, now: jax.lax.dynamic_update_slice_in_dim(old, now, first, 2),
    cache,
    memory,
  )
