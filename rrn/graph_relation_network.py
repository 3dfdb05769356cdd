"""The graph-centric relation network (Santoro et al. 2017).

One step and one answer: the messages of all edges of a graph are summed, and
an MLP reads the sum. Palm et al. 2018 compare with it. Their node-centric
relation network is the recurrent one, `rrn.network`, with a single step.

As there, the first layer of the message function is applied to nodes, and the
last one, which is linear, to the sum over all edges.

Axes: B batch, N nodes, K neighbours, D width, E edge features, C outputs.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from core import layers
from rrn import network


class RelationNetwork(nnx.Module):
  """Reads an answer from the sum of the messages f(sender, receiver, edge).

  Args:
    width: D of inputs, messages and the hidden layers of the readout.
    num_outputs: C.
    message_layers: ReLU layers of the message function f before its last, >= 1.
    readout_layers: ReLU layers of the readout before its last.
    edge_width: E, 0 for none.
  """

  def __init__(
    self,
    width: int,
    num_outputs: int,
    *,
    message_layers: int = 3,
    readout_layers: int = 3,
    edge_width: int = 0,
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.message = layers.MLP(
      [2 * width + edge_width, *[width] * message_layers, width],
      dtype=dtype,
      rngs=rngs,
    )
    self.readout = layers.MLP(
      [width, *[width] * readout_layers, num_outputs], dtype=dtype, rngs=rngs
    )
    self.dtype = dtype

  def __call__(
    self,
    inputs: Float[Array, 'B N D'],
    graph: network.Graph,
    *,
    edges: Float[Array, '... #K E'] | None = None,
    mask: network.Mask | None = None,
  ) -> Float[Array, 'B C']:
    """Returns the answer of each example.

    Args:
      inputs: of the nodes.
      graph: who sends to whom.
      edges: features of the edges, broadcast to 'B N K E'; None: zeros.
      mask: the edges of the graph that each example has; None: all of them.
    """

    def dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
      return x.astype(self.dtype) @ kernel.astype(self.dtype)

    sum_hidden, degree = network.make_message_sum(
      self.message, inputs.shape[-1], graph, edges=edges, mask=mask, dot=dot
    )
    degrees = jnp.broadcast_to(degree, (*inputs.shape[:2], 1))
    last = self.message.layers[-1]
    total = dot(sum_hidden(inputs).sum(1), last.kernel[...])
    total += degrees.sum(1) * last.bias[...]
    return self.readout(total).astype(jnp.float32)
