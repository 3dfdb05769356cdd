"""The recurrent relational network, computed as the paper writes it.

It returns the results of `rrn.network` for the same parameters, but computes
one message per edge from the concatenated states of sender and receiver. Tests
compare the two, and benchmarks measure the speedup.

Axes: B batch, T steps, N nodes, K neighbors, D width, E edge features.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rrn.graph import Graph, Mask
from rrn.network import RecurrentRelationalNetwork


def pass_messages(
  network: RecurrentRelationalNetwork,
  inputs: Float[Array, 'B N D'],
  graph: Graph,
  *,
  num_steps: int,
  edges: Float[Array, '... #K E'] | None = None,
  mask: Mask | None = None,
) -> Float[Array, 'T B N D']:
  """Compute the node states by equations 1-3 of Palm et al. 2018.

  Args:
    network: the parameters.
    inputs: node inputs x. They are also the first states.
    graph: the edges.
    num_steps: number of steps T, at least 1.
    edges: edge features; required if the network has any.
    mask: which edges of the graph each example has. None means all.

  Returns:
    The states after each step.
  """

  def step(carry, _):
    state, hidden, cell = carry
    sender = state[:, graph.senders]
    receiver = jnp.broadcast_to(state[:, :, None], sender.shape)
    features = [sender, receiver]
    if edges is not None:
      shape = (*sender.shape[:3], edges.shape[-1])
      features.append(jnp.broadcast_to(edges, shape))
    messages = network.message(jnp.concatenate(features, -1))
    for exists in (graph.mask, mask):
      if exists is not None:
        messages = jnp.where(exists[..., None], messages, 0)
    features = [messages.sum(2), inputs]
    if network.lstm is None:
      features.append(state)
    update = network.node(jnp.concatenate(features, -1))
    if network.lstm is None:
      return (update, hidden, cell), update
    gates = jnp.concatenate([update, hidden], -1) @ network.lstm.kernel[...]
    write, candidate, forget, read = jnp.split(
      gates + network.lstm.bias[...][None, None], 4, -1
    )
    cell = jax.nn.sigmoid(forget + 1) * cell
    cell += jax.nn.sigmoid(write) * jnp.tanh(candidate)
    hidden = jax.nn.sigmoid(read) * jnp.tanh(cell)
    return (hidden, hidden, cell), hidden

  zeros = jnp.zeros_like(inputs)
  return jax.lax.scan(step, (inputs, zeros, zeros), length=num_steps)[1]
