"""Read, Process and Write (Vinyals, Bengio, Kudlur 2016, section 4).

Read embeds each element of a set by itself. Process, an LSTM without inputs,
attends to these memories again and again: what it ends with does not depend on
their order. Write, an LSTM pointer network, starts there and points at one
memory after the other. The Pointer Network, the paper's baseline, has an LSTM
over the elements in place of Process.

The paper names few sizes and no details. Ours are: that Read is an MLP of two
layers; that Write starts in tanh of a linear layer of q*; additive attention in
the pointer; the glimpse's way into it; the learned memory that stops; and that
the Pointer Network's LSTM sees what Read made of the elements.

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
from seq2set import attend, set_encoders

Mask = attend.Mask
ENCODERS = (
  *('read_process_write', 'pointer_network'),  # the paper's
  *('deep_sets', 'set_transformer'),  # of later work, see set_encoders.py
)
# What the gates of Process see: q, the state, and r, what was read. A and C are
# the same function, its kernel's rows in another order; B repeats q.
PROCESS_FORMS = {'A': 'qr', 'B': 'qrq', 'C': 'rq'}


class Process(nnx.Module):
  """A permutation invariant summary of a set (eqs. 3-7); known as Set2Set.

  Args:
    width: D of the memories.
    attention: one of `attend.ATTENTIONS`.
    form: what the gates see, one of `PROCESS_FORMS`; 'A' is the paper's.
  """

  def __init__(
    self,
    width: int,
    *,
    attention: str = 'dot',
    form: str = 'A',
    rngs: nnx.Rngs,
  ):
    check_choice('form', form, PROCESS_FORMS)
    self.sees = PROCESS_FORMS[form]
    # An LSTM whose input is all that the gates see beside its own state.
    rows = (len(self.sees) - 1) * width
    self.lstm = layers.LSTM(width, rows, rngs=rngs)
    self.attention = attend.Attention(width, attention, rngs=rngs)

  def __call__(
    self,
    memories: Float[Array, 'B N D'],
    *,
    num_steps: int,
    mask: Mask | None = None,
  ) -> Float[Array, 'B D2']:
    """Returns q* after `num_steps`: the state and what it read, D2 = 2 D.

    After 0 steps it is 0, whatever the set.
    """
    memories = attend.present(memories, mask)
    graphdef, params = nnx.split(self.attention)

    def step(state, gates, inputs, given):
      del inputs
      params, keys, memories, mask = given
      state, cell = layers.LSTM.update(gates, state[1])
      scores = nnx.merge(graphdef, params)(keys, state[:, None])
      reading = attend.read(scores, memories, mask)[:, 0]
      return jnp.concatenate([state, reading], -1), cell

    batch, _, width = memories.shape
    bias = self.lstm.bias[...]
    gates = jnp.broadcast_to(bias, (num_steps, batch, *bias.shape))
    start = jnp.zeros((batch, 2 * width)), jnp.zeros((batch, width))
    given = params, self.attention.keys(memories), memories, mask
    _, (summary, _) = layers.recur(
      step, self._kernel(), gates, start, None, given
    )
    return summary

  def _kernel(self) -> Float[Array, 'D2 D4']:
    """The rows of the LSTM's kernel by what they see, q and then r."""
    rows = jnp.split(self.lstm.kernel[...], len(self.sees))
    named = list(zip(self.sees, rows, strict=True))
    return jnp.concatenate(
      [sum(rows for name, rows in named if name == seen) for seen in 'qr']
    )


class Write(nnx.Module):
  """An LSTM that points at one memory after the other (section 4.3).

  Before it points it may glimpse: it reads the memories, and adds what it read
  to its state (ours). A glimpse does not enter the recurrence: so with the true
  outputs given, all attention is one batched product after one scan.

  Args:
    width: D.
    num_glimpses: reads before each output.
    attention: one of `attend.ATTENTIONS`, for glimpses and pointer.
    has_stop: one more memory, learned and behind all others, that ends the
      output.
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
    make = functools.partial(attend.Attention, width, attention, rngs=rngs)
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
    """Returns the logits of each output, given the true ones before it.

    The memories they are of are M = N, or N + 1 with a stop, which is N.
    """
    memories, mask = self._prepare(memories, mask)
    batch, count, width = memories.shape
    # A product, not a look-up: its transpose is no scatter.
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
    """Returns outputs, each fed into the next step, and their log p.

    Args:
      memories: of the elements.
      start: the state before the first output.
      length: T.
      mask: False where there is no element.
      avoid_repeats: never point at an element twice; not in the paper.
      key: to draw the outputs; None: the likeliest at each step.
      beam: K, prefixes that are kept at each step; the likeliest of the last
        step is returned. 1, the only one for draws: greedy.
    """
    if key is not None and beam > 1:
      raise ValueError(f'beam={beam}: draws keep one prefix')
    memories, mask = self._prepare(memories, mask)
    batch, count, width = memories.shape
    keys = self._keys(memories)
    is_stop = jnp.arange(count) >= count - (self.stop is not None)
    pick = jax.vmap(lambda row, place: row[place])

    def step(carry, step_key):
      x, state, is_free, is_done, total = carry  # [B, K, ...]
      state = self.lstm.step_gates(self.lstm.gates(x), state)
      logits = self._point(keys, memories, state[0], mask)
      logits = jnp.where(is_free, logits, jnp.finfo(logits.dtype).min)
      # After a stop only stops follow, for sure.
      stops = jnp.where(is_stop, 0, -jnp.inf)
      log_p = jnp.where(is_done[..., None], stops, jax.nn.log_softmax(logits))
      output = log_p.argmax(-1)
      if key is not None:
        output = jax.random.categorical(step_key, log_p)
      parent = jnp.zeros_like(output)
      if beam > 1:  # the best of all prefixes, each with each output
        longer = (total[..., None] + log_p).reshape(batch, beam * count)
        total, index = jax.lax.top_k(longer, beam)
        parent, output = jnp.divmod(index, count)
        kept = state, is_free, is_done
        state, is_free, is_done = jax.tree.map(lambda x: pick(x, parent), kept)
      else:
        total += jax.vmap(pick)(log_p, output)
      chosen = jax.nn.one_hot(output, count)
      if avoid_repeats:
        is_free &= (chosen == 0) | is_stop[None, None]  # glimpses see it
      is_done |= jnp.where(is_stop, chosen, 0).any(-1)
      x = jnp.einsum('bkn,bnd->bkd', chosen, memories)
      return (x, state, is_free, is_done, total), (output, parent)

    def trace(place, step):
      output, parent = (pick(x, place) for x in step)
      return parent, output

    carry = (
      jnp.broadcast_to(self.first[...], (batch, beam, width)),
      jax.tree.map(lambda x: jnp.repeat(x[:, None], beam, 1), start),
      jnp.ones((batch, beam, count), bool),
      jnp.zeros((batch, beam), bool),
      # All prefixes are the same, empty one: it counts once.
      jnp.zeros((batch, beam)).at[:, 1:].set(-jnp.inf),
    )
    keys_of_steps = None if key is None else jax.random.split(key, length)
    (*_, total), steps = jax.lax.scan(step, carry, keys_of_steps, length=length)
    _, outputs = jax.lax.scan(trace, total.argmax(1), steps, reverse=True)
    return outputs.T, total.max(1)

  def _prepare(self, memories, mask):
    """Zeros for what is not there, and the stop behind the rest."""
    memories = attend.present(memories, mask)
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
    *of_glimpses, of_pointer = keys
    for glimpse, of_glimpse in zip(self.glimpses, of_glimpses, strict=True):
      states += attend.read(glimpse(of_glimpse, states), memories, mask)
    return attend.masked(self.pointer(of_pointer, states), mask)


class SetToSequence(nnx.Module):
  """Read, Process and Write; or the Pointer Network, or a later encoder.

  Args:
    num_features: F of an element.
    width: D of everything.
    encoder: 'read_process_write'; 'pointer_network': an LSTM over the
      elements in the order given, whose states are the memories and whose last
      one starts Write (section 4.2); 'deep_sets' or 'set_transformer': that in
      place of Process.
    num_process_steps: P.
    num_glimpses, pointer_attention, has_stop: of Write.
    process_attention, process_form: of Process.
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
    process_form: str = 'A',
    pointer_attention: str = 'additive',
    has_stop: bool = False,
    rngs: nnx.Rngs,
  ):
    check_choice('encoder', encoder, ENCODERS)
    self.read = layers.MLP([num_features, width, width], rngs=rngs)
    summary_width = width
    match encoder:
      case 'read_process_write':
        self.process = Process(
          width, attention=process_attention, form=process_form, rngs=rngs
        )
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
    """Returns the memories and the state in which Write starts."""
    memories = self.read(attend.present(elements, mask))
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
    """Returns the logits of each output, given the true ones before it."""
    memories, start = self.encode(elements, mask)
    return self.write(memories, start, targets, mask)

  def decode(
    self,
    elements: Float[Array, 'B N F'],
    *,
    mask: Mask | None = None,
    **options,
  ) -> tuple[Int[Array, 'B T'], Float[Array, ' B']]:
    """Returns outputs and their log p; for the options see `Write.decode`."""
    memories, start = self.encode(elements, mask)
    return self.write.decode(memories, start, mask=mask, **options)


def load_set2set(
  process: Process, weight_ih, weight_hh, bias_ih, bias_hh
) -> None:
  """Fills a Process of form A with the LSTM of a Set2Set layer of PyTorch.

  Its cell sees q* as input and q as state: W = W_ih + [W_hh | 0]. Its gates are
  in the order input, forget, candidate, output, and none has a bias of its own.

  Args:
    process: of form 'A' with dot attention.
    weight_ih: [4 D, 2 D].
    weight_hh: [4 D, D].
    bias_ih, bias_hh: [4 D].

  Raises:
    ValueError: the Process is of another form or attention.
  """
  if (process.sees, process.attention.kind) != ('qr', 'dot'):
    raise ValueError("a Process of form 'A' with dot attention expected")
  width = weight_hh.shape[1]
  kernel = jnp.asarray(weight_ih).at[:, :width].add(weight_hh)
  order = jnp.arange(4 * width).reshape(4, width)[jnp.array([0, 2, 1, 3])]
  bias = (jnp.asarray(bias_ih) + bias_hh)[order.ravel()]
  process.lstm.kernel[...] = kernel[order.ravel()].T
  process.lstm.bias[...] = bias.at[2 * width : 3 * width].add(-1.0)
