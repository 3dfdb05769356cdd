"""The recurrent relational network as the paper writes it: the reference.

Same parameters and values as `rrn.network`, without its rearrangements: a
message for each edge, from the concatenated states of sender and receiver.
Tests compare with it, and the benchmark measures what the rearrangements save.

Axes: B batch, T steps, N nodes, K neighbours, D width, E edge features.
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
  """Returns what `network` returns, by Palm et al. 2018, eqs. 1-3 as written.

  Args:
    network: the parameters.
    inputs: x, also the state that the first messages see.
    graph: who sends to whom.
    num_steps: T >= 1.
    edges: features of the edges, as many as the network has.
    mask: the edges of the graph that each example has; None: all of them.
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
      gates + network.lstm.bias[...], 4, -1
    )
    cell = jax.nn.sigmoid(forget + 1) * cell
    cell += jax.nn.sigmoid(write) * jnp.tanh(candidate)
    hidden = jax.nn.sigmoid(read) * jnp.tanh(cell)
    return (hidden, hidden, cell), hidden

  zeros = jnp.zeros_like(inputs)
  return jax.lax.scan(step, (inputs, zeros, zeros), length=num_steps)[1]
