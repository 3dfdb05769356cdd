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

Axes: B batch, T steps, N nodes, K neighbours, D width, E edge features,
C classes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from rrn.graph import Graph, Mask, sum_edges

Carry = tuple[Float[Array, 'B N D'], tuple]  # states, and those of the LSTM


def make_message_sum(
  message: layers.MLP,
  width: int,
  graph: Graph,
  *,
  edges: Float[Array, '... #K E'] | None = None,
  mask: Mask | None = None,
  dot: Callable,
) -> tuple[Callable[[jax.Array], jax.Array], int | np.ndarray | jax.Array]:
  """Prepares the sum of messages f(sender, receiver, edge) at their receivers.

  Args:
    message: f, at least two layers.
    width: D of the states.
    graph: who sends to whom.
    edges: features of the edges, broadcast to 'B N K E'; None: zeros.
    mask: the edges of the graph that each example has; None: all of them.
    dot: product of an array and a kernel.

  Returns:
    A function from states 'B N D' to the sum of f's last hidden layer 'B N D':
    the caller applies f's last layer, which is linear, to the sum. And the
    number of messages that a node gets, broadcast to 'B N 1'.
  """
  first, *middle, _ = message.layers
  send, receive, edge = jnp.split(first.kernel[...], [width, 2 * width])
  edge_term = None if edges is None else dot(edges, edge)
  if graph.mask is not None:
    mask = graph.mask if mask is None else graph.mask & mask
  degree = graph.senders.shape[1]
  if mask is not None:
    degree = mask.sum(-1)[..., None]

  def sum_hidden(states):
    sent, received = dot(states, send), dot(states, receive) + first.bias[...]
    if not middle:
      return graph.sum_relu(sent, received, edge_term, mask)
    hidden = graph.gather(sent) + received[:, :, None]
    hidden = jax.nn.relu(hidden if edge_term is None else hidden + edge_term)
    for layer in middle:
      hidden = jax.nn.relu(layer(hidden))
    return sum_edges(hidden, mask)

  return sum_hidden, degree


class RecurrentRelationalNetwork(nnx.Module):
  """Messages, their sum, and node updates (Palm et al. 2018, eqs. 1-3).

  Args:
    width: D of inputs, messages and states.
    message_layers: ReLU layers of the message function f before its last, >= 1.
    node_layers: ReLU layers of the node function g before its last, >= 1.
    edge_width: E, 0 for none.
    lstm: g is an MLP of (message, input) and an LSTM; False: it is an MLP of
      (message, input, state).
    remat: recompute a step in the backward pass in place of storing it.
  """

  def __init__(
    self,
    width: int,
    *,
    message_layers: int = 3,
    node_layers: int = 3,
    edge_width: int = 0,
    lstm: bool = True,
    remat: bool = False,
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = [width] * message_layers
    self.message = layers.MLP(
      [2 * width + edge_width, *hidden, width], dtype=dtype, rngs=rngs
    )
    hidden = [width] * node_layers
    inputs = 2 * width if lstm else 3 * width
    self.node = layers.MLP([inputs, *hidden, width], dtype=dtype, rngs=rngs)
    self.lstm = layers.LSTM(width, rngs=rngs) if lstm else None
    self.remat = remat
    self.dtype = dtype

  def __call__(
    self,
    inputs: Float[Array, 'B N D'],
    graph: Graph,
    *,
    num_steps: int,
    burn_in: int | Int[Array, ''] = 0,
    edges: Float[Array, '... #K E'] | None = None,
    mask: Mask | None = None,
  ) -> Float[Array, 'T B N D']:
    """Returns the node states after each of `num_steps` steps.

    Args:
      inputs: x, also the state that the first messages see.
      graph: who sends to whom.
      num_steps: T >= 1.
      burn_in: steps ahead of those, which are not returned and whose gradient
        is taken as 0 (ours).
      edges: features of the edges, broadcast to 'B N K E'; None: zeros.
      mask: the edges of the graph that each example has; None: all of them.
    """
    start = self.init_carry(inputs)
    if not isinstance(burn_in, int) or burn_in:
      step = self._make_step(
        *(jax.lax.stop_gradient(inputs), graph, edges, mask)
      )
      start = jax.lax.fori_loop(
        *(0, burn_in, lambda _, carry: step(carry, None)[0]),
        jax.lax.stop_gradient(start),
      )
      start = jax.lax.stop_gradient(start)
    return self.advance(
      inputs, start, graph, num_steps=num_steps, edges=edges, mask=mask
    )[1]

  def init_carry(self, inputs: Float[Array, 'B N D']) -> Carry:
    """Return what the first step starts from: the inputs, and an empty LSTM."""
    zeros = jnp.zeros(inputs.shape, jnp.float32)
    start = inputs.astype(jnp.float32)
    return start, ((zeros, zeros) if self.lstm else ())

  def advance(
    self,
    inputs: Float[Array, 'B N D'],
    carry: Carry,
    graph: Graph,
    *,
    num_steps: int,
    edges: Float[Array, '... #K E'] | None = None,
    mask: Mask | None = None,
  ) -> tuple[Carry, Float[Array, 'T B N D']]:
    """Return the carry after `num_steps` more steps, and their states.

    The other arguments are those of `__call__`.
    """
    step = self._make_step(inputs, graph, edges, mask)
    return jax.lax.scan(
      jax.checkpoint(step) if self.remat else step, carry, length=num_steps
    )

  def _make_step(self, inputs, graph: Graph, edges, mask) -> Callable:
    """Return (carry, _) -> (carry, states): a step."""
    dot = functools.partial(_dot, dtype=self.dtype)
    width = inputs.shape[-1]
    sum_hidden, degree = make_message_sum(
      self.message, width, graph, edges=edges, mask=mask, dot=dot
    )
    last = self.message.layers[-1]
    first_node, *middle_node, last_node = self.node.layers
    from_message, from_input, *from_state = jnp.split(
      first_node.kernel[...], 2 if self.lstm else 3
    )
    into_node = dot(last.kernel[...], from_message)
    node_term = dot(inputs, from_input) + first_node.bias[...][None, None]
    node_term += dot(degree * last.bias[...], from_message)
    if self.lstm:
      from_update, from_hidden = jnp.split(self.lstm.kernel[...], 2)
      into_gates = dot(last_node.kernel[...], from_update)
      gate_bias = self.lstm.bias[...] + dot(last_node.bias[...], from_update)
      gate_bias = gate_bias[None, None]

    def step(carry, _):
      state, memory = carry
      update = dot(sum_hidden(state), into_node) + node_term
      if not self.lstm:
        update += dot(state, *from_state)
      update = jax.nn.relu(update)
      for layer in middle_node:
        update = jax.nn.relu(layer(update))
      if self.lstm:
        hidden, cell = memory
        gates = dot(update, into_gates) + dot(hidden, from_hidden) + gate_bias
        memory = self.lstm.update(gates.astype(jnp.float32), cell)
        state = memory[0]
      else:
        state = last_node(update).astype(jnp.float32)
      return (state, memory), state

    return step


def _dot(x, kernel, dtype):
  return x.astype(dtype) @ kernel.astype(dtype)
