"""A constant graph: gathering states along its edges, and sums at receivers.

Derivatives are written by hand, so that no scatter is needed and nothing of the
size of the edges is stored.

Axes: B batch, N nodes, K neighbors, D width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from core import layers

_MOST_UNROLLED_NODES = 32  # of a complete graph whose loop is written out
Mask = Bool[Array | np.ndarray, '... #N K']


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
  """A constant graph as a table of each receiver's senders.

  Attributes:
    senders: int [N, K], the senders of each node's incoming edges.
    mask: bool [N, K], False where a row has fewer than K edges; None: all True.
    self_edges: of a complete graph, whether nodes send to themselves; None: it
      is another graph, or its senders are in another order.
  """

  senders: np.ndarray
  mask: np.ndarray | None = None
  self_edges: bool | None = None

  @classmethod
  def complete(cls, num_nodes: int, *, self_edges: bool = False) -> 'Graph':
    """All ordered pairs of nodes, with or without each node's with itself."""
    senders = np.tile(np.arange(num_nodes), (num_nodes, 1))
    if not self_edges:
      is_other = ~np.eye(num_nodes, dtype=bool)
      senders = senders[is_other].reshape(num_nodes, num_nodes - 1)
    return cls(senders, self_edges=self_edges)

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
    if self.self_edges:  # all nodes, and so no gather
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
    edge: Float[Array, '... #K D'] | None = None,
    mask: Mask | None = None,
  ) -> Float[Array, 'B N D']:
    """Sums relu(sender's + receiver's + edge's) over the senders of each node.

    Beyond its inputs, stores nothing for the backward pass. `edge` is broadcast
    to 'B N K D'; edges whose mask is False are left out.
    """
    if self._depends_on_senders(edge, mask):
      if edge is not None:
        sent += edge if edge.ndim < 3 else edge[..., 0, :, :]
      if mask is not None:
        sent = jnp.where(mask[..., 0, :, None], sent, -jnp.inf)
      return _sum_relu_of_pairs(sent, received, self.self_edges)
    if mask is not None:  # relu and its derivative are 0 there
      edge = jnp.where(mask[..., None], 0.0 if edge is None else edge, -jnp.inf)
    batch, num_nodes, width = sent.shape
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
      lead = edge.shape[:-3]
      edge = jnp.broadcast_to(edge, (*lead, num_nodes, degree, width))
      return edges + edge.reshape(*lead, -1, width)[..., table, :]

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

  def _depends_on_senders(self, edge, mask) -> bool:
    """Whether all receivers of a small complete graph see the same senders."""
    if self.self_edges is None or len(self.senders) > _MOST_UNROLLED_NODES:
      return False
    if edge is not None and edge.shape[-2] > 1 and not self.self_edges:
      return False  # its senders are shifted
    is_same = edge is None or edge.ndim < 3 or edge.shape[-3] == 1
    if mask is not None:
      is_same &= self.self_edges and mask.shape[-2] == 1
    return is_same


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sum_relu_of_pairs(
  sent: Float[Array, 'B N D'], received: Float[Array, 'B N D'], self_edges: bool
) -> Float[Array, 'B N D']:
  """Sums relu(sent[j] + received[i]) over all nodes j, of each i.

  Sender by sender, so that no array has the size of the edges.
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
  active = sum((sent[:, [j]] + received > 0 for j in nodes), zeros)
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
  """Sums over each node's edges, less those whose mask is False."""
  if mask is not None:
    edges = edges * layers.expand_left(mask[..., None], edges.ndim)
  return edges.sum(2, dtype=jnp.float32)
