"""Read, Process and Write (Vinyals, Bengio, Kudlur 2016, section 4).

Read embeds each element of a set alone. Process, an LSTM without inputs,
attends to these memories repeatedly, so its final state does not depend on
their order. Write, an LSTM pointer network, starts from this state and points
at one memory after the other. The baseline of the paper is the Pointer Network,
which replaces Process with an LSTM over the elements.

The paper leaves several details open. This module chooses:
- Read is an MLP with two layers, also in the Pointer Network.
- Write starts in the tanh of a linear layer of q*.
- The pointer uses additive attention.
- The result of a glimpse is added to the state before the pointer.
- The stop is a learned memory.

Axes: B batch, N elements, P process steps, T outputs, D width, F features,
Q queries.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice
from seq2set import set_encoders
from seq2set.attention import (
  Attention,
  Mask,
  attend,
  mask_scores,
  zero_masked,
)

ENCODERS = (
  *('read_process_write', 'pointer_network'),  # as in the paper
  *('deep_sets', 'set_transformer'),  # later work, see set_encoders.py
)


class Process(nnx.Module):
  """A permutation-invariant summary of a set (eqs. 3-7), known as Set2Set.

  Args:
    width: D.
    attention: one of `attention.ATTENTIONS`.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    width: int,
    *,
    attention: str = 'dot',
    rngs: nnx.Rngs,
  ):
    # The kernel multiplies q*: the hidden state q and the attention result r.
    self.lstm = layers.LSTM(width, width, rngs=rngs)
    self.attention = Attention(width, attention, rngs=rngs)

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    *,
    num_steps: int,
    mask: Mask | None = None,
  ) -> Float[Array, 'B D2']:
    """Compute q* after `num_steps`, with D2 = 2 D; 0 after no steps.

    q* is the hidden state and the attention result of the last step.
    """
    memories = zero_masked(memories, mask)
    graphdef, params = nnx.split(self.attention)

    def step(state, gates, inputs, given):
      del inputs
      params, keys, memories, mask = given
      state, cell = layers.LSTM.update(gates, state[1])
      scores = nnx.merge(graphdef, params)(keys, state[:, None])
      reading = attend(scores, memories, mask)[:, 0]
      return jnp.concatenate([state, reading], -1), cell

    batch, _, width = memories.shape
    bias = self.lstm.bias[...]
    gates = jnp.broadcast_to(bias, (num_steps, batch, *bias.shape))
    start = jnp.zeros((batch, 2 * width)), jnp.zeros((batch, width))
    given = params, self.attention.keys(memories), memories, mask
    _, (summary, _) = layers.recur(
      step, self.lstm.kernel[...], gates, start, None, given
    )
    return summary


class Write(nnx.Module):
  """An LSTM that points at one memory after the other (section 4.3).

  A glimpse attends to the memories and adds the result to the state before the
  pointer. It does not enter the recurrence, which the paper leaves open. In
  training, all attention is therefore one batched product after one scan.

  Args:
    width: D.
    num_glimpses: number of glimpses before each output.
    attention: one of `attention.ATTENTIONS`, for glimpses and pointer.
    has_stop: append a learned memory that ends the output.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    width: int,
    *,
    num_glimpses: int,
    attention: str = 'additive',
    has_stop: bool = False,
    rngs: nnx.Rngs,
  ):
    self.lstm = layers.LSTM(width, rngs=rngs)
    make = functools.partial(Attention, width, attention, rngs=rngs)
    self.glimpses = nnx.List(make() for _ in range(num_glimpses))
    self.pointer = make()
    self.first = nnx.Param(layers.glorot(rngs.params(), (1, width)))
    self.stop = (
      nnx.Param(layers.glorot(rngs.params(), (1, width))) if has_stop else None
    )

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    start: layers.State,
    targets: Int[Array, 'B T'],
    mask: Mask | None = None,
  ) -> Float[Array, 'B T M']:
    """Compute the logits of each output, given the true outputs before it.

    M is N, or N + 1 with a stop, whose index is N.
    """
    memories, mask = self._prepare(memories, mask)
    batch, count, width = memories.shape
    # A product instead of an index: its gradient needs no scatter.
    chosen = jax.nn.one_hot(targets[:, :-1], count) @ memories
    first = jnp.broadcast_to(self.first[...], (batch, 1, width))
    inputs = jnp.concatenate([first, chosen], 1)
    states, _ = self.lstm.scan(inputs, start)
    return self._point(self._keys(memories), memories, states, mask)

  def decode(
    self,
    memories: Float[Array, 'B N D'],
    start: layers.State,
    *,
    length: int,
    mask: Mask | None = None,
    avoid_repeats: bool = False,
    key: jax.Array | None = None,
    beam: int = 1,
  ) -> tuple[Int[Array, 'B T'], Float[Array, ' B']]:
    """Decode outputs, each of which is the next input, and their log p.

    Args:
      memories: the memories of the elements.
      start: the state before the first output.
      length: T.
      mask: False for padding.
      avoid_repeats: never point at an element twice; not in the paper.
      key: random key to sample the outputs; None decodes by beam search.
      beam: K, the number of prefixes kept at each step; 1 is greedy. Sampling
        requires 1.
    """
    if key is not None and beam > 1:
      raise ValueError(f'beam={beam}; sampling requires beam=1')
    memories, mask = self._prepare(memories, mask)
    batch, count, width = memories.shape
    keys = self._keys(memories)
    is_stop = jnp.arange(count) >= count - (self.stop is not None)
    pick = jax.vmap(lambda row, index: row[index])

    def step(carry, step_key):
      x, state, is_free, is_done, total = carry  # [B, K, ...]
      state = self.lstm.step_gates(self.lstm.gates(x), state)
      logits = self._point(keys, memories, state[0], mask)
      logits = jnp.where(is_free, logits, jnp.finfo(logits.dtype).min)
      # Only stops follow a stop, with probability 1.
      stops = jnp.where(is_stop, 0, -jnp.inf)
      log_p = jnp.where(is_done[..., None], stops, jax.nn.log_softmax(logits))
      output = log_p.argmax(-1)
      if key is not None:
        output = jax.random.categorical(step_key, log_p)
      parent = jnp.zeros_like(output)
      if beam > 1:  # keep the best extensions of all prefixes
        longer = (total[..., None] + log_p).reshape(batch, beam * count)
        total, index = jax.lax.top_k(longer, beam)
        parent, output = jnp.divmod(index, count)
        kept = state, is_free, is_done
        state, is_free, is_done = jax.tree.map(lambda x: pick(x, parent), kept)
      else:
        total += jax.vmap(pick)(log_p, output)
      chosen = jax.nn.one_hot(output, count)
      if avoid_repeats:
        is_free &= (chosen == 0) | is_stop[None, None]  # glimpses attend to it
      is_done |= jnp.where(is_stop, chosen, 0).any(-1)
      x = jnp.einsum('bkn,bnd->bkd', chosen, memories)
      return (x, state, is_free, is_done, total), (output, parent)

    def trace(prefix, step):
      output, parent = (pick(x, prefix) for x in step)
      return parent, output

    carry = (
      jnp.broadcast_to(self.first[...], (batch, beam, width)),
      jax.tree.map(lambda x: jnp.repeat(x[:, None], beam, 1), start),
      jnp.ones((batch, beam, count), bool),
      jnp.zeros((batch, beam), bool),
      # All prefixes are empty at the start; only the first one counts.
      jnp.zeros((batch, beam)).at[:, 1:].set(-jnp.inf),
    )
    step_keys = None if key is None else jax.random.split(key, length)
    (*_, total), steps = jax.lax.scan(step, carry, step_keys, length=length)
    _, outputs = jax.lax.scan(trace, total.argmax(1), steps, reverse=True)
    return outputs.T, total.max(1)

  def _prepare(self, memories, mask):
    """Zero the padding, and append the stop."""
    memories = zero_masked(memories, mask)
    if self.stop is None:
      return memories, mask
    batch, _, width = memories.shape
    stop = jnp.broadcast_to(self.stop[...], (batch, 1, width))
    if mask is not None:
      mask = jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True)
    return jnp.concatenate([memories, stop], 1), mask

  def _keys(self, memories):
    return [a.keys(memories) for a in (*self.glimpses, self.pointer)]

  def _point(self, keys, memories, states, mask) -> Float[Array, 'B T M']:
    *glimpse_keys, pointer_keys = keys
    for glimpse, its_keys in zip(self.glimpses, glimpse_keys, strict=True):
      states += attend(glimpse(its_keys, states), memories, mask)
    return mask_scores(self.pointer(pointer_keys, states), mask)


class SetToSequence(nnx.Module):
  """Read, Process and Write, or Write after another encoder.

  Args:
    num_features: F.
    width: D.
    encoder: one of `ENCODERS`. 'pointer_network' is an LSTM over the elements
      in the given order (section 4.2): its states are the memories, and its
      last state is the initial state of Write. 'deep_sets' and
      'set_transformer' replace Process.
    num_process_steps: P.
    num_glimpses: see `Write`.
    process_attention: attention of Process.
    pointer_attention: attention of Write.
    has_stop: see `Write`.
    rngs: random keys of the parameters.
  """

  def __init__(
    self,
    num_features: int,
    width: int,
    *,
    encoder: str = 'read_process_write',
    num_process_steps: int,
    num_glimpses: int,
    process_attention: str = 'dot',
    pointer_attention: str = 'additive',
    has_stop: bool = False,
    rngs: nnx.Rngs,
  ):
    check_choice('encoder', encoder, ENCODERS)
    self.read = layers.MLP([num_features, width, width], rngs=rngs)
    summary_width = width
    match encoder:
      case 'read_process_write':
        self.process = Process(width, attention=process_attention, rngs=rngs)
        summary_width = 2 * width
      case 'pointer_network':
        self.encoder = layers.LSTM(width, rngs=rngs)
      case 'deep_sets':
        self.encoder = set_encoders.DeepSets(width, rngs=rngs)
      case 'set_transformer':
        self.encoder = set_encoders.SetTransformer(width, rngs=rngs)
    if encoder != 'pointer_network':
      self.start = nnx.Linear(
        summary_width, 2 * width, kernel_init=layers.glorot, rngs=rngs
      )
    self.kind = encoder
    self.num_process_steps = num_process_steps
    self.write = Write(
      width,
      num_glimpses=num_glimpses,
      attention=pointer_attention,
      has_stop=has_stop,
      rngs=rngs,
    )

  def encode(
    self, elements: Float[Array, 'B N F'], mask: Mask | None = None
  ) -> tuple[Float[Array, 'B N D'], layers.State]:
    """Compute the memories and the initial state of Write."""
    memories = self.read(zero_masked(elements, mask))
    if self.kind == 'pointer_network':
      zeros = self.encoder.zeros(len(memories))
      return self.encoder.scan(memories, zeros, mask)
    if self.kind == 'read_process_write':
      summary = self.process(
        memories, num_steps=self.num_process_steps, mask=mask
      )
    else:
      memories, summary = self.encoder(memories, mask)
    hidden, cell = jnp.split(jnp.tanh(self.start(summary)), 2, -1)
    return memories, (hidden, cell)

  def __call__(
    self,
    elements: Float[Array, 'B N F'],
    targets: Int[Array, 'B T'],
    mask: Mask | None = None,
  ) -> Float[Array, 'B T M']:
    """Compute the logits of each output, given the true outputs before it."""
    memories, start = self.encode(elements, mask)
    return self.write(memories, start, targets, mask)

  def decode(
    self,
    elements: Float[Array, 'B N F'],
    *,
    mask: Mask | None = None,
    **options,
  ) -> tuple[Int[Array, 'B T'], Float[Array, ' B']]:
    """Decode outputs and their log p; `Write.decode` lists the options."""
    memories, start = self.encode(elements, mask)
    return self.write.decode(memories, start, mask=mask, **options)


def load_set2set(
  process: Process, weight_ih, weight_hh, bias_ih, bias_hh
) -> None:
  """Copy the LSTM of a PyTorch `Set2Set` layer into a Process.

  The input of the PyTorch cell is q* and its state is q, so its kernels add up:
  W = W_ih + [W_hh | 0]. Its gates are ordered input, forget, candidate, output.
  It does not add 1 to the forget gate.

  Args:
    process: a Process with dot attention.
    weight_ih: [4 D, 2 D].
    weight_hh: [4 D, D].
    bias_ih: [4 D].
    bias_hh: [4 D].

  Raises:
    ValueError: the Process has another attention.
  """
  if process.attention.kind != 'dot':
    raise ValueError(
      f"attention='{process.attention.kind}'; Set2Set requires 'dot'"
    )
  width = weight_hh.shape[1]
  kernel = jnp.asarray(weight_ih).at[:, :width].add(weight_hh)
  order = jnp.arange(4 * width).reshape(4, width)[jnp.array([0, 2, 1, 3])]
  bias = (jnp.asarray(bias_ih) + bias_hh)[order.ravel()]
  process.lstm.kernel[...] = kernel[order.ravel()].T
  process.lstm.bias[...] = bias.at[2 * width : 3 * width].add(-1.0)
