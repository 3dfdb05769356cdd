"""The graph-centric relation network (Santoro et al. 2017).

It runs one step and gives one answer: an MLP reads the sum of the messages of
all edges. Palm et al. 2018 use it as a baseline. Their node-centric relation
network is `rrn.network` with a single step.

As in `rrn.network`, the first layer of the message function is applied to
nodes, and the last one, which is linear, to the sum over all edges.

Axes: B batch, N nodes, K neighbors, D width, E edge features, C outputs.
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
    width: width D of inputs, messages, and hidden layers of the readout.
    num_outputs: number C of outputs.
    message_layers: number of ReLU layers in the message function f, at least 1.
    readout_layers: number of ReLU layers in the readout.
    edge_width: number E of edge features, 0 for none.
    dtype: type of the products; parameters and answers are float32.
    rngs: random keys of the parameters.
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
    """Return the answer to each example.

    Args:
      inputs: node inputs.
      graph: the edges.
      edges: edge features, broadcast to 'B N K E'. None means zeros.
      mask: which edges of the graph each example has. None means all.
    """

    def dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
      return x.astype(self.dtype) @ kernel.astype(self.dtype)

    sum_hidden, degree = network.make_message_sum(
      self.message, inputs.shape[-1], graph, edges=edges, mask=mask, dot=dot
    )
    degrees = jnp.broadcast_to(degree, (*inputs.shape[:2], 1))
    last = self.message.layers[-1]
    total = dot(sum_hidden(inputs).sum(1), last.kernel[...])
    total += degrees.sum(1) * last.bias[...][None]
    return self.readout(total).astype(jnp.float32)
