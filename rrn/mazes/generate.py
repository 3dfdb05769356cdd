"""Draw mazes on the device, as pure functions of a key.

`rrn.mazes.data` defines mazes.

Axes: H rows, W columns, N cells.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from rrn.mazes import data
from rrn.mazes.model import passage_mask


def draw(key: jax.Array, *, size: int) -> dict[str, jax.Array]:
  """Draw 'passages', 'ends', and 'path' of a maze with `size` x `size` cells.

  The passages are a tree, so there is one path. The ends are two different
  cells, drawn uniformly.
  """
  tree_key, start_key, shift_key = jax.random.split(key, 3)
  passages = to_passages(draw_tree(tree_key, size), size)
  num_cells = size * size
  start = jax.random.randint(start_key, (), 0, num_cells)
  shift = jax.random.randint(shift_key, (), 1, num_cells)
  goal = (start + shift) % num_cells
  from_start = distances(passages, start)
  from_goal = distances(passages, goal)
  return {
    'passages': passages,
    'ends': (from_start == 0) | (from_goal == 0),
    'path': from_start + from_goal == from_start.ravel()[goal],
  }


def draw_tree(key: jax.Array, size: int) -> Int[Array, ' N']:
  """Draw a tree of cells by randomized depth-first search.

  The search starts at a random cell. It moves to a random new neighbor of the
  current cell, or back if there is none. It thus enters and leaves each other
  cell once.

  Returns:
    The parent of each cell; -1 for the first cell.
  """
  around, is_inside = map(jnp.asarray, data.neighbors(size, size))
  num_cells = size * size
  root_key, order_key = jax.random.split(key)
  root = jax.random.randint(root_key, (), 0, num_cells)
  order = jax.random.uniform(order_key, (2 * (num_cells - 1), 4))
  cells = jnp.arange(num_cells)

  def move(state, order):
    cell, parents = state
    is_new = is_inside[cell] & (parents[around[cell]] < 0)
    is_new &= around[cell] != root
    to = around[cell][jnp.where(is_new, order, -1).argmax()]
    parents = jnp.where(is_new.any() & (cells == to), cell, parents)
    return (jnp.where(is_new.any(), to, parents[cell]), parents), None

  start = root, jnp.full(num_cells, -1)
  (_, parents), _ = jax.lax.scan(move, start, order)
  return parents


def to_passages(parents: Int[Array, ' N'], size: int) -> Bool[Array, 'H W 2']:
  """Return the passages of a tree; see `draw_tree`."""
  cells = jnp.arange(size * size)

  def is_open_to(shift):
    """Return whether each cell and cell + shift are parent and child."""
    others = jnp.pad(parents[shift:], (0, shift), constant_values=-1)
    return (parents == cells + shift) | (others == cells)

  passages = jnp.stack([is_open_to(1), is_open_to(size)], -1)
  return passages.reshape(size, size, 2)


def distances(
  passages: Bool[Array, 'H W 2'], source: Int[Array, '']
) -> Int[Array, 'H W']:
  """Return the number of moves from one cell to each cell.

  All cells have to be connected.
  """
  height, width, _ = passages.shape
  far = height * width  # more than any distance
  around, _ = map(jnp.asarray, data.neighbors(height, width))
  is_open = passage_mask(passages[None])[0]

  def relax(lengths):
    through = jnp.where(is_open, 1 + lengths[around], far)
    return jnp.minimum(lengths, through.min(-1))

  first = jnp.where(jnp.arange(far) == source, 0, far)
  found = jax.lax.while_loop(lambda x: (x == far).any(), relax, first)
  return found.reshape(height, width)
