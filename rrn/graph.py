"""A constant graph: gathers along its edges, and sums at its nodes.

The gradients are written by hand, so that the backward pass has no scatter and
stores no array with an edge axis.

Axes: B batch, N nodes, K neighbors, D width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from core import layers

_MAX_UNROLLED_NODES = 32  # larger complete graphs use the general path
Mask = Bool[Array | np.ndarray, '... #N K']


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
  """A constant graph, stored as a table of each node's senders.

  Attributes:
    senders: int [N, K], the senders of each node's incoming edges.
    mask: bool [N, K], False where a node has fewer than K edges. None stands
      for True everywhere.
    self_edges: for a graph made by `complete`, whether nodes send messages to
      themselves. None for any other graph.
  """

  senders: np.ndarray
  mask: np.ndarray | None = None
  self_edges: bool | None = None

  @classmethod
  def complete(cls, num_nodes: int, *, self_edges: bool = False) -> 'Graph':
    """Make the graph of all ordered pairs of distinct nodes.

    Args:
      num_nodes: number of nodes.
      self_edges: whether each node also sends messages to itself.
    """
    senders = np.tile(np.arange(num_nodes), (num_nodes, 1))
    if not self_edges:
      is_other = ~np.eye(num_nodes, dtype=bool)
      senders = senders[is_other].reshape(num_nodes, num_nodes - 1)
    return cls(senders, self_edges=self_edges)

  @functools.cached_property
  def outgoing(self) -> tuple[np.ndarray, np.ndarray]:
    """The outgoing edges of each node.

    Returns:
      Positions in the flattened `senders`, int [N, M], and a mask, bool [N, M],
      where M is the largest number of outgoing edges.
    """
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
    """Return the values at each node's senders.

    The values of edges that `self.mask` excludes are arbitrary, and they
    receive no gradient.
    """
    if self.self_edges:  # every node receives from all nodes in order
      batch, count, width = nodes.shape
      return jnp.broadcast_to(nodes[:, None], (batch, count, count, width))

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
    self,
    sent: Float[Array, 'B N D'],
    received: Float[Array, 'B N D'],
    edge: Float[Array, '#B #N #K D'] | None = None,
    mask: Bool[Array | np.ndarray, '#B #N K'] | None = None,
  ) -> Float[Array, 'B N D']:
    """Sum relu(sent + received + edge) over the incoming edges of each node.

    The backward pass stores only the inputs.

    Args:
      sent: terms of the senders.
      received: terms of the receivers.
      edge: terms of the edges, broadcast to 'B N K D'. None means zeros.
      mask: edges to sum over, in place of `self.mask`. None means all K.
    """
    if self._depends_only_on_senders(edge, mask):
      if edge is not None:
        sent += edge[:, 0]
      if mask is not None:
        sent = jnp.where(mask[:, 0, :, None], sent, -jnp.inf)
      return _sum_relu_of_pairs(sent, received, self.self_edges)
    if mask is not None:  # relu and its derivative vanish at -inf
      edge = jnp.where(mask[..., None], 0.0 if edge is None else edge, -jnp.inf)
    return self._sum_relu_of_edges(sent, received, edge)

  def _sum_relu_of_edges(
    self,
    sent: Float[Array, 'B N D'],
    received: Float[Array, 'B N D'],
    edge: Float[Array, '#B #N #K #D'] | None,
  ) -> Float[Array, 'B N D']:
    """Sum relu(sent + received + edge) on any graph, see `sum_relu`."""
    _, num_nodes, width = sent.shape
    table, outgoing_mask = self.outgoing
    degree = self.senders.shape[1]
    receivers = table // degree

    def at_receivers(sent, received, edge):
      edges = sent[:, self.senders] + received[:, :, None]
      return edges if edge is None else edges + edge

    def at_senders(sent, received, edge):
      edges = sent[:, :, None] + received[:, receivers]
      if edge is None:
        return edges
      batch = len(edge)
      edge = jnp.broadcast_to(edge, (batch, num_nodes, degree, width))
      return edges + edge.reshape(batch, -1, width)[:, table]

    @jax.custom_vjp
    def sum_relu(*inputs):
      return sum_edges(jax.nn.relu(at_receivers(*inputs)), None)

    def backward(inputs, cotangent):
      sent, received, edge = inputs
      active = at_receivers(*inputs) > 0
      d_received = cotangent * sum_edges(active, None)
      d_edge = None
      if edge is not None:
        d_edges = jnp.where(active, cotangent[:, :, None], 0).astype(edge.dtype)
        (d_edge,) = jax.linear_transpose(
          lambda edge: jnp.broadcast_to(edge, d_edges.shape), edge
        )(d_edges)
      d_sent = jnp.where(at_senders(*inputs) > 0, cotangent[:, receivers], 0)
      d_sent = sum_edges(d_sent, outgoing_mask)
      return (
        d_sent.astype(sent.dtype),
        d_received.astype(received.dtype),
        d_edge,
      )

    sum_relu.defvjp(lambda *inputs: (sum_relu(*inputs), inputs), backward)
    return sum_relu(sent, received, edge)

  def _depends_only_on_senders(self, edge, mask) -> bool:
    """Return whether edge terms and mask are the same for all receivers.

    Return False for graphs that are not complete or not small.
    """
    if self.self_edges is None or len(self.senders) > _MAX_UNROLLED_NODES:
      return False
    if edge is not None and edge.shape[2] > 1 and not self.self_edges:
      return False  # without self-edges, column k is not sender k
    if mask is not None and not (self.self_edges and mask.shape[1] == 1):
      return False
    return edge is None or edge.shape[1] == 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sum_relu_of_pairs(
  sent: Float[Array, 'B N D'], received: Float[Array, 'B N D'], self_edges: bool
) -> Float[Array, 'B N D']:
  """Sum relu(sent[j] + received[i]) over the nodes j, for each node i.

  The loop over senders avoids arrays with an edge axis.
  """
  zeros = jnp.zeros(received.shape, jnp.float32)
  nodes = range(sent.shape[1])
  total = sum((jax.nn.relu(sent[:, [j]] + received) for j in nodes), zeros)
  if not self_edges:
    total -= jax.nn.relu(sent + received)
  return total


def _sum_relu_of_pairs_backward(self_edges, inputs, cotangent):
  sent, received = inputs
  zeros = jnp.zeros(received.shape, jnp.float32)
  nodes = range(sent.shape[1])
  active = sum(
    ((sent[:, [j]] + received > 0).astype(zeros.dtype) for j in nodes), zeros
  )
  d_received = cotangent * active
  d_sent = sum(
    (
      jnp.where(sent + received[:, [i]] > 0, cotangent[:, [i]], 0)
      for i in nodes
    ),
    zeros,
  )
  if not self_edges:
    own = jnp.where(sent + received > 0, cotangent, 0)
    d_received, d_sent = d_received - own, d_sent - own
  return d_sent.astype(sent.dtype), d_received.astype(received.dtype)


_sum_relu_of_pairs.defvjp(
  lambda sent, received, self_edges: (
    _sum_relu_of_pairs(sent, received, self_edges),
    (sent, received),
  ),
  _sum_relu_of_pairs_backward,
)


def sum_edges(
  edges: Shaped[Array, 'B N K D'], mask: Mask | None
) -> Float[Array, 'B N D']:
  """Sum over the edges of each node, or over those whose mask is True."""
  if mask is not None:
    mask = jnp.asarray(mask)[..., None]
    edges = jnp.where(layers.expand_left(mask, edges.ndim), edges, 0)
  return edges.sum(2, dtype=jnp.float32)
