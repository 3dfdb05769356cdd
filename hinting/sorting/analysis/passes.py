"""Forward passes that observe and edit a model.

The passes are jitted, and process lists in chunks to bound the memory.

Axes: B lists, N values, L tokens, A answer steps, H heads, D width, D2 = D / H,
K layers, R roles, V vocabulary.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from hinting.model_config import ModelConfig
from hinting.sorting import hints
from hinting.sorting.analysis import measures
from hinting.transformer import Hook, Transformer
from hinting.vocabulary import Token

ROLES = 4  # BOS, list, delimiter, later tokens
_CHUNK = 25  # lists per chunk, at most
Merge = Callable[[Any], nnx.Module]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Edit:
  """Edits of heads.

  Attributes:
    scales: factors of the attention logits, [K, H]; see `Hook.scale`.
    is_ablated: whether `means` replaces the output of a head, bool [K, H].
    means: mean outputs of the heads by role, [K, R, H, D2].
  """

  scales: jax.Array
  is_ablated: jax.Array
  means: jax.Array


def no_edit(config: ModelConfig) -> Edit:
  """Return an edit that changes nothing."""
  shape = config.num_layers, config.num_heads
  means = config.num_layers, ROLES, config.num_heads
  return Edit(
    scales=jnp.ones(shape),
    is_ablated=jnp.zeros(shape, bool),
    means=jnp.zeros((*means, config.width // config.num_heads)),
  )


def roles(length: int, num_tokens: int) -> Int[Array, ' L']:
  """Return the role of each token of a row with a list of `length` values."""
  # BOS is at 0. The list, the delimiter, and the later tokens follow.
  role_starts = jnp.array([1, length + 1, length + 2])
  return (jnp.arange(num_tokens)[:, None] >= role_starts[None]).sum(1)


def run(
  model: Transformer,
  tokens: Int[Array, 'B L'],
  edit: Edit,
  *,
  length: int,
  all_tokens: bool = False,
) -> tuple[Float[Array, 'B A V'], list[dict[str, jax.Array]]]:
  """Run an edited model on rows with lists of `length` values.

  Args:
    model: the model.
    tokens: the rows.
    edit: edits of heads.
    length: N.
    all_tokens: whether to compute the last layer for all tokens.

  Returns:
    The logits at the delimiter and at each later token, and the arrays that
    hooks observe in each layer. Unless `all_tokens` is True, the arrays of the
    last layer have only these tokens.
  """
  role = roles(length, tokens.shape[1])
  at = jnp.arange(length + 1, tokens.shape[1])
  seen = [{} for _ in model.blocks]

  def hook(layer):
    is_cut = not all_tokens and layer + 1 == len(seen)
    means = edit.means[layer, role[at] if is_cut else role]
    is_ablated = edit.is_ablated[layer][:, None]
    return Hook(
      observe=seen[layer].__setitem__,
      scale=edit.scales[layer][None, :, None, None],
      edit=lambda heads: jnp.where(is_ablated, means, heads),
    )

  logits = model(
    tokens,
    at=None if all_tokens else jnp.broadcast_to(at, (len(tokens), len(at))),
    hooks=tuple(map(hook, range(len(seen)))),
  )
  return (logits[:, length + 1 :] if all_tokens else logits), seen


def _sum_chunks(function, *columns):
  """Sum the first result of a function over chunks of columns [B, ...].

  The second result, with one entry per element of B, is concatenated.
  """
  count = len(columns[0])
  size = math.gcd(count, _CHUNK)
  chunks = [x.reshape(-1, size, *x.shape[1:]) for x in columns]
  shapes, _ = jax.eval_shape(function, *(x[0] for x in chunks))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def add(total, chunk):
    one, kept = function(*chunk)
    return jax.tree.map(jnp.add, total, one), kept

  total, kept = jax.lax.scan(add, zeros, tuple(chunks))
  return total, jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), kept)


@functools.partial(jax.jit, static_argnums=0)
def residuals(merge: Merge, params, values: Int[Array, 'B N']):
  """Return the residual stream before and after each layer: [B, K+1, L, D]."""
  model, tokens = merge(params), hints.sort_rows(values)[:, :-1]
  edit = no_edit(model.config)

  def measure(tokens):
    _, seen = run(model, tokens, edit, length=values.shape[1], all_tokens=True)
    return (), _stream(model, tokens, seen)

  return _sum_chunks(measure, tokens)[1]


def _stream(model, tokens, seen):
  """Return the residual stream before and after each layer: [B, K+1, L, D]."""
  positions = jnp.arange(tokens.shape[1])[None]
  stream = [model.embed(tokens, positions), *(x['residual'] for x in seen)]
  return jnp.stack(stream, 1)


@functools.partial(jax.jit, static_argnums=0)
def observe(
  merge: Merge, params, values: Int[Array, 'B N']
) -> tuple[dict[str, jax.Array], Float[Array, 'B K+1 L D']]:
  """Return attention and logit lens at answer steps.

  Returns:
    Means over lists and steps, and the residual stream. The means are 'lens'
    [K + 1, 2, 5], with the last norm, and 'lens_without_norm'; 'mass' [K, H,
    3]; 'gap' and 'entropy' [K, H]; and 'maps' [K, H, A, L], with keys in order
    of value.
  """
  model, length = merge(params), values.shape[1]
  edit = no_edit(model.config)

  def measure(values):
    tokens = hints.sort_rows(values)[:, :-1]
    steps = measures.answer_steps(values)
    _, seen = run(model, tokens, edit, length=length, all_tokens=True)
    stream = _stream(model, tokens, seen)
    answers = stream[:, :, length + 1 :]

    def lens(read_out):
      shares = [
        measures.bucket_shares(read_out(answers[:, layer]), steps)
        for layer in range(answers.shape[1])
      ]
      return jnp.stack(shares).mean(2).sum(1)

    def attention(x):
      logits = x['logits'][:, :, length + 1 :]
      weights = x['weights'][:, :, length + 1 :]
      return {
        'mass': measures.group_mass(weights, tokens, steps).sum(0),
        'gap': measures.logit_gap(logits, tokens, steps).sum(0),
        'entropy': measures.entropy(logits) * len(tokens),
        'maps': measures.order_by_value(weights, values).sum(0),
      }

    sums = {
      'lens': lens(model.read_out),
      'lens_without_norm': lens(model.head),
    } | jax.tree.map(lambda *x: jnp.stack(x), *map(attention, seen))
    return sums, stream

  sums, stream = _sum_chunks(measure, values)
  return {name: x / len(values) for name, x in sums.items()}, stream


@functools.partial(jax.jit, static_argnums=0, static_argnames='length')
def head_means(
  merge: Merge, params, tokens: Int[Array, 'B L'], *, length: int
) -> Float[Array, 'K R H D2']:
  """Return the mean output of each head by role, excluding padding."""
  model = merge(params)
  edit = no_edit(model.config)
  role = jax.nn.one_hot(roles(length, tokens.shape[1]), ROLES)

  def measure(tokens):
    _, seen = run(model, tokens, edit, length=length, all_tokens=True)
    weights = jnp.where((tokens != Token.PAD)[..., None], role[None], 0)
    sums = [jnp.einsum('blhd,blr->rhd', x['heads'], weights) for x in seen]
    return (jnp.stack(sums), weights.sum((0, 1))), ()

  (sums, counts), _ = _sum_chunks(measure, tokens)
  return sums / jnp.maximum(counts, 1)[None, :, None, None]


@functools.partial(jax.jit, static_argnums=0, static_argnames='length')
def score(
  merge: Merge,
  params,
  tokens: Int[Array, 'B L'],
  is_answer: Array,
  edit: Edit,
  *,
  length: int,
) -> dict[str, jax.Array]:
  """Return the loss and the accuracy of an edited model.

  Args:
    merge: maps parameters to the model.
    params: the parameters of the model.
    tokens: whole rows.
    is_answer: whether each token is in the answer, bool [B, L].
    edit: edits of heads.
    length: N.

  Returns:
    'loss', in nats per answer token, and 'accuracy' of whole answers.
  """
  model = merge(params)

  def measure(tokens, is_answer):
    logits, _ = run(model, tokens[:, :-1], edit, length=length)
    targets, is_counted = tokens[:, length + 2 :], is_answer[:, length + 2 :]
    losses = jnp.where(is_counted, layers.cross_entropy(logits, targets), 0)
    is_right = (logits.argmax(-1) == targets) | ~is_counted
    return (losses.sum(), is_counted.sum(), is_right.all(1).sum()), ()

  (loss, count, right), _ = _sum_chunks(measure, tokens, is_answer)
  return {
    'loss': loss / count.astype(jnp.float32),
    'accuracy': right / len(tokens),
  }


@functools.partial(jax.jit, static_argnums=0)
def predictions(
  merge: Merge, params, tokens: Int[Array, 'B L'], at: Int[Array, ' B']
) -> Int[Array, ' B']:
  """Return the prediction at token `at` of each row."""
  model = merge(params)

  def measure(tokens, at):
    return (), model(tokens, at=at[:, None])[:, 0].argmax(-1)

  return _sum_chunks(measure, tokens, at)[1]


@functools.partial(jax.jit, static_argnums=0)
def decode(merge: Merge, params, values: Int[Array, 'B N']):
  """Return greedy answers: tokens [B, N + 1]."""
  model, length = merge(params), values.shape[1]

  def measure(values):
    prompts = hints.sort_rows(values)[:, : length + 2]
    starts = jnp.zeros(len(values), jnp.int32)
    return (), model.decode(prompts, starts, num_tokens=length + 1)

  return _sum_chunks(measure, values)[1]


@functools.partial(jax.jit, static_argnums=(0, 4))
def _matched_layer(merge, params, values, edit, layer, wanted):
  tokens = hints.sort_rows(values)[:, :-1]
  _, seen = run(merge(params), tokens, edit, length=values.shape[1])
  logits = seen[layer]['logits'][:, :, -values.shape[1] - 1 :]
  return measures.match_entropy(logits, wanted)


def match_entropies(
  merge: Merge, params, values: Int[Array, 'B N'], wanted: Float[Array, 'K H']
) -> Float[Array, 'K H']:
  """Return the factors of the logits that give heads the mean entropy `wanted`.

  The entropy is the mean over answer steps. The search goes layer by layer,
  because the logits of a layer depend on the factors in earlier ones.
  """
  config = merge(params).config
  edit = no_edit(config)
  for layer in range(config.num_layers):
    scales = _matched_layer(merge, params, values, edit, layer, wanted[layer])
    edit = dataclasses.replace(edit, scales=edit.scales.at[layer].set(scales))
  return edit.scales
