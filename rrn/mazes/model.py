"""A recurrent relational network that finds paths in mazes (ours).

The nodes are the cells of a maze, and the edges are its passages, so no message
crosses a wall. The network knows neither directions nor the size of the grid.
Therefore, rotating or reflecting a maze does the same to the answer, exchanging
start and goal does not change it, and the same weights apply to all grids.

Axes: B batch, T steps, H rows, W columns, N = H W cells, D width.
"""

import dataclasses
import functools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from core import layers
from core.errors import UserError
from rrn import network
from rrn.mazes import data


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Settings of the network and of its training.

  Attributes:
    width: width of messages and states.
    num_steps: number of message passing steps in an update.
    mean_steps: mean number of steps until a maze is replaced, at least
      `num_steps`. Until then, its states are carried from update to update.
    message_layers: number of ReLU layers in the message function.
    node_layers: number of ReLU layers in the node function.
  """

  width: int = 96
  num_steps: int = 16
  mean_steps: int = 64
  message_layers: int = 3
  node_layers: int = 3

  def __post_init__(self):
    if self.mean_steps < self.num_steps:
      raise UserError(
        f'config.model.mean_steps={self.mean_steps}: expected at least'
        f' config.model.num_steps={self.num_steps}'
      )


class MazeNetwork(nnx.Module):
  """Passes messages along passages, and scores each cell."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    # Row 1 is the input of the two ends; row 0 is that of all other cells.
    self.embedding = nnx.Param(layers.glorot(rngs.params(), (2, config.width)))
    self.network = network.RecurrentRelationalNetwork(
      config.width,
      message_layers=config.message_layers,
      node_layers=config.node_layers,
      dtype=dtype,
      rngs=rngs,
    )
    self.output = nnx.Linear(
      config.width, 1, kernel_init=layers.glorot, dtype=dtype, rngs=rngs
    )

  def __call__(
    self,
    passages: Bool[Array, 'B H W 2'],
    ends: Bool[Array, 'B H W'],
    *,
    num_steps: int,
  ) -> Float[Array, 'T B H W']:
    """Return the logit of each cell after each step: is it on the path?

    Args:
      passages: passages as in `rrn.mazes.data`.
      ends: the start and the goal.
      num_steps: number of steps T.
    """
    states = self.init_states(ends)
    return self.advance(passages, ends, states, num_steps=num_steps)[1]

  def init_states(self, ends: Bool[Array, 'B H W']) -> network.Carry:
    """Return the states before the first step."""
    return self.network.init_carry(self._embed(ends))

  def advance(
    self,
    passages: Bool[Array, 'B H W 2'],
    ends: Bool[Array, 'B H W'],
    states: network.Carry,
    *,
    num_steps: int,
  ) -> tuple[network.Carry, Float[Array, 'T B H W']]:
    """Run `num_steps` more steps; return the states and the logits."""
    states, outputs = self.network.advance(
      self._embed(ends),
      states,
      make_graph(*ends.shape[1:]),
      num_steps=num_steps,
      mask=passage_mask(passages),
    )
    logits = self.output(outputs).astype(jnp.float32)
    return states, logits.reshape(num_steps, *ends.shape)

  def _embed(self, ends):
    is_end = ends.reshape(len(ends), -1, 1)
    if_other, if_end = self.embedding[...][:, None, None]
    return jnp.where(is_end, if_end, if_other)


@functools.cache
def make_graph(height: int, width: int) -> network.Graph:
  """Return the graph of a grid without walls."""
  return network.Graph(*data.neighbors(height, width))


def passage_mask(passages: Bool[Array, 'B H W 2']) -> Bool[Array, 'B N 4']:
  """Return whether there is a passage to each of `data.neighbors`."""
  right, below = passages[..., 0], passages[..., 1]
  left = jnp.pad(right[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
  above = jnp.pad(below[:, :-1], ((0, 0), (1, 0), (0, 0)))
  mask = jnp.stack([above, left, right, below], -1)
  return mask.reshape(len(mask), -1, 4)
