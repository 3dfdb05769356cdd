"""The recurrent relational network (Palm et al. 2018, section 2).

Nodes send messages along the directed edges of a constant graph. Each node sums
its incoming messages and updates its recurrent state. All steps share their
weights, so the network can run more steps than it was trained with.

The result is the paper's up to rounding, but the computation is rearranged;
docs/rrn.md lists the changes. `rrn.reference` is the network as written in the
paper.

Axes: B batch, T steps, N nodes, K neighbors, D width, E edge features.
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

Carry = tuple[Float[Array, 'B N D'], tuple]  # node states, LSTM states


def make_message_sum(
  message: layers.MLP,
  width: int,
  graph: Graph,
  *,
  edges: Float[Array, '... #K E'] | None = None,
  mask: Mask | None = None,
  dot: Callable,
) -> tuple[Callable[[jax.Array], jax.Array], float | np.ndarray | jax.Array]:
  """Prepare the sum of the messages f(sender, receiver, edge) at each node.

  Args:
    message: the message function f, with at least two layers.
    width: width D of the states.
    graph: the edges.
    edges: edge features, broadcast to 'B N K E'. None means zeros.
    mask: which edges of the graph each example has. None means all.
    dot: multiplies an array by a kernel.

  Returns:
    A function from states 'B N D' to the sum of f's last hidden layer 'B N D',
    and the number of messages that each node receives, broadcastable to
    'B N 1'. The caller applies f's last layer, which is linear, to the sum.
  """
  first, *middle, _ = message.layers
  send, receive, edge = jnp.split(first.kernel[...], [width, 2 * width])
  edge_term = None
  if edges is not None:
    edge_term = dot(layers.expand_left(edges, 4), edge)
  if mask is not None:
    mask = layers.expand_left(mask, 3)
  if graph.mask is not None:
    mask = graph.mask[None] if mask is None else graph.mask[None] & mask
  degree = float(graph.senders.shape[1])
  if mask is not None:
    degree = mask.sum(-1, keepdims=True).astype(jnp.float32)

  def sum_hidden(states):
    sent = dot(states, send)
    received = dot(states, receive) + first.bias[...][None, None]
    if not middle:
      return graph.sum_relu(sent, received, edge_term, mask)
    hidden = graph.gather(sent) + received[:, :, None]
    hidden = jax.nn.relu(hidden if edge_term is None else hidden + edge_term)
    for layer in middle:
      hidden = jax.nn.relu(layer(hidden))
    return sum_edges(hidden, mask)

  return sum_hidden, degree


class RecurrentRelationalNetwork(nnx.Module):
  """Passes messages and updates nodes (Palm et al. 2018, equations 1-3).

  Args:
    width: width D of inputs, messages, and states.
    message_layers: number of ReLU layers in the message function f, at least 1.
    node_layers: number of ReLU layers in the node function g, at least 1.
    edge_width: number E of edge features, 0 for none.
    lstm: if True, g is an MLP of (message, input) followed by an LSTM. If
      False, g is an MLP of (message, input, state).
    remat: whether the backward pass recomputes steps instead of storing them.
    dtype: type of the products; parameters and states are float32.
    rngs: random keys of the parameters.
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
    """Return the node states after each of `num_steps` steps.

    Args:
      inputs: node inputs x. They are also the first states.
      graph: the edges.
      num_steps: number of steps T, at least 1.
      burn_in: number of additional steps before the T steps. They are not
        returned and have no gradient (ours).
      edges: edge features, broadcast to 'B N K E'. None means zeros.
      mask: which edges of the graph each example has. None means all.
    """
    start = self.init_carry(inputs)
    # A traced number is not an int, and may be 0; the loop then runs no step.
    if not isinstance(burn_in, int) or burn_in:
      step = self._make_step(inputs, graph, edges, mask)
      start = jax.lax.fori_loop(
        0, burn_in, lambda _, carry: step(carry, None)[0], start
      )
      start = jax.lax.stop_gradient(start)
    return self.advance(
      inputs, start, graph, num_steps=num_steps, edges=edges, mask=mask
    )[1]

  def init_carry(self, inputs: Float[Array, 'B N D']) -> Carry:
    """Return the first carry: the inputs and zero LSTM states."""
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
    """Run `num_steps` more steps; return the carry and the states of each step.

    `__call__` describes the other arguments.
    """
    step = self._make_step(inputs, graph, edges, mask)
    return jax.lax.scan(
      jax.checkpoint(step) if self.remat else step, carry, length=num_steps
    )

  def _make_step(self, inputs, graph: Graph, edges, mask) -> Callable:
    """Return the step function (carry, _) -> (carry, states)."""
    dot = functools.partial(_dot, dtype=self.dtype)
    width = inputs.shape[-1]
    sum_hidden, degree = make_message_sum(
      self.message, width, graph, edges=edges, mask=mask, dot=dot
    )
    last = self.message.layers[-1]
    first_node, *middle_node, last_node = self.node.layers
    kernels = jnp.split(first_node.kernel[...], 2 if self.lstm else 3)
    from_message, from_input = kernels[:2]
    into_node = dot(last.kernel[...], from_message)
    node_term = dot(inputs, from_input) + first_node.bias[...][None, None]
    node_term += dot(degree * last.bias[...][None, None], from_message)
    if self.lstm:
      from_update, from_hidden = jnp.split(self.lstm.kernel[...], 2)
      into_gates = dot(last_node.kernel[...], from_update)
      gate_bias = self.lstm.bias[...] + dot(last_node.bias[...], from_update)
      gate_bias = gate_bias[None, None]
    else:
      from_state = kernels[2]

    def step(carry, _):
      state, memory = carry
      update = dot(sum_hidden(state), into_node) + node_term
      if not self.lstm:
        update += dot(state, from_state)
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
