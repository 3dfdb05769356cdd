"""Read, Process and Write (Vinyals, Bengio, Kudlur 2016, section 4).

Read embeds each element of a set independently. Process, an LSTM without
inputs, attends to these memories repeatedly, so its final state does not depend
on their order. Write, an LSTM with a pointer, starts from this state and points
at memories one by one. The baseline of the paper is the Pointer Network, which
replaces Process with an LSTM over the elements.

The paper leaves several details open. This module makes these choices:
- Read is an MLP with two layers, also in the Pointer Network.
- The initial state of Write is the tanh of a linear layer of q*.
- The pointer uses additive attention.
- The result of a glimpse is added to the state that the pointer uses.
- The stop symbol is a learned memory.

Axes: B batch, N elements, M memories (N, or N + 1 with a stop), P process
steps, K prefixes of a beam, T outputs, D width, F features.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import check_choice
from seq2set import beam_search, set_encoders
from seq2set.attention import (
  Attention,
  Mask,
  attend,
  mask_scores,
  zero_masked,
)

ENCODERS = (
  # From the paper:
  'read_process_write',
  'pointer_network',
  # From later work, see set_encoders.py:
  'deep_sets',
  'set_transformer',
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
    """Compute q*: the hidden state and attention result of the last step.

    Args:
      memories: the memories of the elements.
      num_steps: P; without steps, q* is 0.
      mask: False for padding.

    Returns:
      q*, with D2 = 2 D.
    """
    memories = zero_masked(memories, mask)
    # `lstm_scan` requires a step that does not close over arrays.
    graphdef, params = nnx.split(self.attention)

    def step(state, gates, inputs, constants):
      del inputs
      params, keys, memories, mask = constants
      hidden, cell = layers.LSTM.update(gates, state[1])
      scores = nnx.merge(graphdef, params)(keys, hidden[:, None])
      reading = attend(scores, memories, mask)[:, 0]
      return jnp.concatenate([hidden, reading], -1), cell

    batch, _, width = memories.shape
    bias = self.lstm.bias[...]
    gates = jnp.broadcast_to(bias, (num_steps, batch, *bias.shape))
    start = jnp.zeros((batch, 2 * width)), jnp.zeros((batch, width))
    constants = params, self.attention.keys(memories), memories, mask
    _, (summary, _) = layers.lstm_scan(
      step, self.lstm.kernel[...], gates, start, None, constants
    )
    return summary


class Write(nnx.Module):
  """An LSTM that points at memories one by one (section 4.3).

  A glimpse attends to the memories and adds the result to the state that the
  pointer uses. The result does not enter the recurrence; the paper does not say
  whether it should. In training, all attention is therefore one batched product
  after the scan.

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

    Args:
      memories: the memories of the elements.
      start: the state before the first output.
      targets: indices of the true outputs; N is the stop.
      mask: False for padding.
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
    """Decode outputs and compute their log p, in nats.

    Each output is the next input of the LSTM.

    Args:
      memories: the memories of the elements.
      start: the state before the first output.
      length: T.
      mask: False for padding. Without a stop, outputs beyond the size of a set
        are undefined, and log p includes them.
      avoid_repeats: never point at an element twice; not in the paper.
      key: random key to sample the outputs; None decodes by beam search.
      beam: K, the number of prefixes kept at each step; 1 decodes greedily.
        Sampling requires 1.

    Raises:
      ValueError: `key` is given and `beam` is larger than 1.
    """
    if key is not None and beam > 1:
      raise ValueError(f'beam={beam}; sampling requires beam=1')
    memories, mask = self._prepare(memories, mask)
    count = memories.shape[1]
    keys = self._keys(memories)
    is_stop = jnp.arange(count) >= count - (self.stop is not None)

    def step(prefixes, step_key):
      gates = self.lstm.gates(prefixes.inputs)
      state = self.lstm.step_gates(gates, prefixes.state)
      logits = self._point(keys, memories, state[0], mask)
      log_p = beam_search.mask_outputs(logits, prefixes, is_stop)
      prefixes, outputs, parents = beam_search.extend(
        prefixes._replace(state=state), log_p, step_key
      )
      chosen = jax.nn.one_hot(outputs, count)
      if avoid_repeats:
        # The pointer skips a used element; glimpses still attend to it.
        is_unused = (chosen == 0) | is_stop[None, None]
        prefixes = prefixes._replace(is_free=prefixes.is_free & is_unused)
      stops = jnp.where(is_stop, chosen, 0).any(-1)
      prefixes = prefixes._replace(
        inputs=jnp.einsum('bkn,bnd->bkd', chosen, memories),
        is_done=prefixes.is_done | stops,
      )
      return prefixes, (outputs, parents)

    prefixes = beam_search.empty_prefixes(self.first[...], start, beam, count)
    step_keys = None if key is None else jax.random.split(key, length)
    prefixes, steps = jax.lax.scan(step, prefixes, step_keys, length=length)
    return beam_search.trace_back(prefixes.log_p, *steps), prefixes.log_p.max(1)

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
    """Compute the keys of each glimpse, then those of the pointer."""
    return [a.keys(memories) for a in (*self.glimpses, self.pointer)]

  def _point(self, keys, memories, states, mask) -> Float[Array, 'B T M']:
    """Compute the logits of the pointer after all glimpses."""
    *glimpse_keys, pointer_keys = keys
    for glimpse, own_keys in zip(self.glimpses, glimpse_keys, strict=True):
      states += attend(glimpse(own_keys, states), memories, mask)
    return mask_scores(self.pointer(pointer_keys, states), mask)


class SetToSequence(nnx.Module):
  """Read, Process and Write, or another encoder followed by Write.

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
    """Compute the logits of each output, given the true outputs before it.

    Args:
      elements: the features of the elements.
      targets: indices of the true outputs; N is the stop.
      mask: False for padding.
    """
    memories, start = self.encode(elements, mask)
    return self.write(memories, start, targets, mask)

  def decode(
    self,
    elements: Float[Array, 'B N F'],
    *,
    mask: Mask | None = None,
    **options,
  ) -> tuple[Int[Array, 'B T'], Float[Array, ' B']]:
    """Decode outputs and compute their log p; see `Write.decode`."""
    memories, start = self.encode(elements, mask)
    return self.write.decode(memories, start, mask=mask, **options)


def load_set2set(
  process: Process, weight_ih, weight_hh, bias_ih, bias_hh
) -> None:
  """Copy the LSTM of a PyTorch `Set2Set` layer into a Process.

  The input of the PyTorch cell is q*, and its state is q, the first half of q*.
  Its two kernels therefore merge into one: W = W_ih + [W_hh | 0]. The order of
  its gates is input, forget, candidate, output. Unlike our LSTM, it does not
  add 1 to the forget gate.

  Args:
    process: a Process with dot attention.
    weight_ih: [4 D, 2 D].
    weight_hh: [4 D, D].
    bias_ih: [4 D].
    bias_hh: [4 D].

  Raises:
    ValueError: the Process does not use dot attention.
  """
  if process.attention.kind != 'dot':
    raise ValueError(
      f"attention='{process.attention.kind}'; Set2Set requires 'dot': build the"
      " Process with attention='dot'"
    )
  width = weight_hh.shape[1]
  kernel = jnp.asarray(weight_ih).at[:, :width].add(weight_hh)
  order = jnp.arange(4 * width).reshape(4, width)[jnp.array([0, 2, 1, 3])]
  bias = (jnp.asarray(bias_ih) + bias_hh)[order.ravel()]
  process.lstm.kernel[...] = kernel[order.ravel()].T
  process.lstm.bias[...] = bias.at[2 * width : 3 * width].add(-1.0)
