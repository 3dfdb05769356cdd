"""The recurrent relational network (Palm et al. 2018, section 2).

Messages pass along the directed edges of a constant graph, are summed at their
receiver and update the recurrent state of each node; the same weights serve all
steps, so any number of steps can run at test time.

The mathematics is the paper's. Rearranged, it is cheaper, and no value changes
beyond rounding:
  * the first layer of the message function is linear in (sender, receiver,
    edge): it is applied to N nodes before the gather, not to N * K edges;
  * its last layer is linear: it moves past the sum over the neighbours;
  * two linear layers in a row are one: the last of the message function and the
    first of the node function, the last of the node function and the LSTM's;
  * what depends on the node inputs alone is computed once, not at each step;
  * the gather's transpose is a gather over each sender's outgoing edges; with a
    single ReLU layer in the message function nothing edge-sized is stored.

Axes: B batch, T steps, N nodes, K neighbours, D width, E edge features.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

glorot = nnx.initializers.glorot_uniform()


class MLP(nnx.Module):
  """Linear layers with ReLU between them; the last one is linear."""

  def __init__(self, widths, *, dtype=jnp.float32, rngs: nnx.Rngs):
    self.layers = nnx.List(
      nnx.Linear(a, b, kernel_init=glorot, dtype=dtype, rngs=rngs)
      for a, b in zip(widths[:-1], widths[1:], strict=True)
    )

  def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D2']:
    """Applies the layers."""
    *hidden, last = self.layers
    for layer in hidden:
      x = jax.nn.relu(layer(x))
    return last(x)


class LSTM(nnx.Module):
  """The recurrent cell: one kernel for input and state, forget bias + 1."""

  def __init__(self, width: int, *, rngs: nnx.Rngs):
    self.kernel = nnx.Param(glorot(rngs.params(), (2 * width, 4 * width)))
    self.bias = nnx.Param(jnp.zeros(4 * width))

  @staticmethod
  def update(gates, cell):
    """The new (hidden, cell) '*B D' from the gates before their sigmoids."""
    write, candidate, forget, read = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(forget + 1) * cell
    cell += jax.nn.sigmoid(write) * jnp.tanh(candidate)
    return jax.nn.sigmoid(read) * jnp.tanh(cell), cell


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
  """A constant graph as a table of each receiver's senders.

  Attributes:
    senders: int [N, K], the senders of each node's incoming edges.
    mask: bool [N, K], False where a row has fewer than K edges; None: all True.
  """

  senders: np.ndarray
  mask: np.ndarray | None = None

  @functools.cached_property
  def outgoing(self) -> tuple[np.ndarray, np.ndarray]:
    """Each node's outgoing edges: positions in `senders` [N, M], and mask."""
    positions = np.arange(self.senders.size)
    if self.mask is not None:
      positions = positions[self.mask.ravel()]
    sender = self.senders.ravel()[positions]
    lists = [positions[sender == i] for i in range(len(self.senders))]
    longest = max(map(len, lists))
    table = np.zeros((len(lists), longest), int)
    mask = np.zeros((len(lists), longest), bool)
    for row, edges in enumerate(lists):
      table[row, : len(edges)], mask[row, : len(edges)] = edges, True
    return table, mask

  def gather(self, nodes: Float[Array, 'B N D']) -> Float[Array, 'B N K D']:
    """What each node's senders hold; differentiates into a gather as well."""

    @jax.custom_vjp
    def gather(nodes):
      return nodes[:, self.senders]

    def backward(_, cotangent):
      table, mask = self.outgoing
      edges = cotangent.reshape(len(cotangent), -1, cotangent.shape[-1])
      total = sum_edges(edges[:, table], mask)
      return (total.astype(cotangent.dtype),)

    gather.defvjp(lambda nodes: (gather(nodes), None), backward)
    return gather(nodes)

  def sum_relu(
    self, sent: Float[Array, 'B N D'], received: Float[Array, 'B N D']
  ) -> Float[Array, 'B N D']:
    """Sums relu(sender's + receiver's) over the senders of each node.

    Stores nothing of the size of the edges for the backward pass.
    """
    table, outgoing_mask = self.outgoing
    receivers = table // self.senders.shape[1]

    @jax.custom_vjp
    def sum_relu(sent, received):
      edges = jax.nn.relu(sent[:, self.senders] + received[:, :, None])
      return sum_edges(edges, self.mask)

    def backward(residuals, cotangent):
      sent, received = residuals
      active = sent[:, self.senders] + received[:, :, None] > 0
      d_received = cotangent * sum_edges(active, self.mask)
      active = sent[:, :, None] + received[:, receivers] > 0
      d_sent = jnp.where(active, cotangent[:, receivers], 0)
      d_sent = sum_edges(d_sent, outgoing_mask)
      return d_sent.astype(sent.dtype), d_received.astype(received.dtype)

    sum_relu.defvjp(lambda *inputs: (sum_relu(*inputs), inputs), backward)
    return sum_relu(sent, received)


def sum_edges(
  edges: Shaped[Array, 'B N K D'], mask: np.ndarray | None
) -> Float[Array, 'B N D']:
  """Sums over each node's edges, less those whose mask [N, K] is False."""
  if mask is not None and not mask.all():
    edges = edges * mask[..., None]
  return edges.sum(2, dtype=jnp.float32)


class RecurrentRelationalNetwork(nnx.Module):
  """Messages, their sum, and an LSTM at each node (Palm et al. 2018, eqs. 1-3).

  Args:
    width: D of inputs, messages and states.
    message_layers: ReLU layers of the message function f before its last, >= 1.
    node_layers: ReLU layers of the node function g before its last, >= 1.
    edge_width: E, 0 for none.
    remat: recompute a step in the backward pass in place of storing it.
  """

  def __init__(
    self,
    width: int,
    *,
    message_layers: int = 3,
    node_layers: int = 3,
    edge_width: int = 0,
    remat: bool = False,
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = [width] * message_layers
    self.message = MLP(
      [2 * width + edge_width, *hidden, width], dtype=dtype, rngs=rngs
    )
    hidden = [width] * node_layers
    self.node = MLP([2 * width, *hidden, width], dtype=dtype, rngs=rngs)
    self.lstm = LSTM(width, rngs=rngs)
    self.remat = remat
    self.dtype = dtype

  def __call__(
    self,
    inputs: Float[Array, 'B N D'],
    graph: Graph,
    *,
    num_steps: int,
    edges: Float[Array, '... N K E'] | None = None,
  ) -> Float[Array, 'T B N D']:
    """Returns the node states after each of `num_steps` steps.

    Args:
      inputs: x, also the state that the first messages see.
      graph: who sends to whom.
      num_steps: T >= 1.
      edges: features of the edges, with or without a batch axis; None: zeros.
    """
    dot = functools.partial(_dot, dtype=self.dtype)
    width = inputs.shape[-1]
    first, *middle, last = self.message.layers
    send, receive, edge = jnp.split(first.kernel[...], [width, 2 * width])
    edge_term = 0.0 if edges is None else dot(edges, edge)
    first_node, *middle_node, last_node = self.node.layers
    from_message, from_input = jnp.split(first_node.kernel[...], 2)
    from_update, from_hidden = jnp.split(self.lstm.kernel[...], 2)
    into_node = dot(last.kernel[...], from_message)
    into_gates = dot(last_node.kernel[...], from_update)
    mask = graph.mask
    degree = graph.senders.shape[1] if mask is None else mask.sum(1)[:, None]
    node_term = dot(inputs, from_input) + first_node.bias[...]
    node_term += dot(degree * last.bias[...], from_message)
    gate_bias = self.lstm.bias[...] + dot(last_node.bias[...], from_update)

    def step(carry, _):
      visible, hidden, cell = carry
      received = dot(visible, receive) + first.bias[...]
      if not middle and edges is None:
        summed = graph.sum_relu(dot(visible, send), received)
      else:
        message = graph.gather(dot(visible, send))
        message = jax.nn.relu(message + received[:, :, None] + edge_term)
        for layer in middle:
          message = jax.nn.relu(layer(message))
        summed = sum_edges(message, mask)
      update = jax.nn.relu(dot(summed, into_node) + node_term)
      for layer in middle_node:
        update = jax.nn.relu(layer(update))
      gates = dot(update, into_gates) + dot(hidden, from_hidden) + gate_bias
      hidden, cell = self.lstm.update(gates.astype(jnp.float32), cell)
      return (hidden, hidden, cell), hidden

    if self.remat:
      step = jax.checkpoint(step)
    zeros = jnp.zeros(inputs.shape, jnp.float32)
    start = (inputs.astype(jnp.float32), zeros, zeros)
    return jax.lax.scan(step, start, length=num_steps)[1]


def _dot(x, kernel, dtype):
  return x.astype(dtype) @ kernel.astype(dtype)
