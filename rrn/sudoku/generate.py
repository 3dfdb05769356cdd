"""Draw training boards of Sudoku on the device.

Axes: N cells.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rrn.sudoku import data


def draw(
  key: jax.Array,
  arrays: Mapping[str, jax.Array],
  *,
  size: int,
  step: jax.Array,
  box: data.Box,
  config,
) -> dict[str, jax.Array]:
  """Draw base puzzles, symmetries, and additional givens.

  Args:
    key: random key.
    arrays: 'puzzle' and 'solution' [puzzles, N]. If `config.hard_share` > 0,
      also 'hard_puzzle' and 'hard_solution', which get no additional givens.
      The share of hard puzzles grows to `hard_share` during the curriculum.
    size: number of boards.
    step: number of completed updates.
    box: height and width of the boxes.
    config: the section `data` of `configs/rrn/sudoku.py`.

  Returns:
    'puzzle' and 'solution', int32 [size, N].
  """
  low, high = givens_range(config, step)

  def base(key, prefix=''):
    puzzles, solutions = (
      arrays[prefix + name] for name in ('puzzle', 'solution')
    )
    row = jax.random.randint(key, (), 0, len(puzzles))
    return jnp.stack([puzzles[row], solutions[row]]).astype(jnp.int32)

  def example(key):
    base_key, symmetry_key, count_key, cells_key = jax.random.split(key, 4)
    boards = base(base_key)
    givens = jax.random.randint(count_key, (), low, high + 1)
    if config.hard_share:
      # Folded in, not split off above, so that `hard_share` does not change
      # the other draws.
      hard_key, is_hard_key = jax.random.split(jax.random.fold_in(base_key, 0))
      share = config.hard_share * _progress(config, step)
      is_hard = jax.random.bernoulli(is_hard_key, share)
      boards = jnp.where(is_hard, base(hard_key, 'hard_'), boards)
      givens = jnp.where(is_hard, 0, givens)
    if config.symmetries != 'none':
      is_digits = config.symmetries == 'digits'
      boards = transform(symmetry_key, boards, box, digits_only=is_digits)
    puzzle, solution = boards
    puzzle = add_givens(cells_key, puzzle, solution, givens)
    return {'puzzle': puzzle, 'solution': solution}

  return jax.vmap(example)(jax.random.split(key, size))


def givens_range(config, step) -> tuple[jax.Array, jax.Array]:
  """Return the fewest and most givens at a step of the curriculum (ours).

  They move linearly from `start_givens` to `givens` in `curriculum_steps`
  updates. `curriculum_steps = 0` disables the curriculum, as in the paper.
  """
  start = jnp.array(config.start_givens, jnp.float32)
  end = jnp.array(config.givens, jnp.float32)
  givens = start + (end - start) * _progress(config, step)
  low, high = jnp.round(givens).astype(jnp.int32)
  return low, high


def _progress(config, step) -> jax.Array | float:
  """Return the completed fraction of the curriculum, from 0 to 1."""
  if not config.curriculum_steps:
    return 1.0
  return jnp.clip(step / config.curriculum_steps, 0, 1)


def transform(key, boards, box: data.Box, *, digits_only: bool):
  """Apply one random symmetry of Sudoku to all boards [..., N].

  The digits are renamed. Unless `digits_only`, bands, stacks, and the rows and
  columns inside them are also permuted, and boards with square boxes are
  transposed with probability 1/2.
  """
  side = math.prod(box)
  digit_key, row_key, column_key, transpose_key = jax.random.split(key, 4)
  digits = 1 + jax.random.permutation(digit_key, side)
  boards = jnp.concatenate([jnp.zeros(1, digits.dtype), digits])[boards]
  if digits_only:
    return boards
  grids = boards.reshape(*boards.shape[:-1], side, side)
  rows = _permute_lines(row_key, side // box[0], box[0])
  columns = _permute_lines(column_key, side // box[1], box[1])
  grids = grids[..., rows, :][..., columns]
  if box[0] == box[1]:
    flip = jax.random.bernoulli(transpose_key)
    grids = jnp.where(flip, grids.swapaxes(-1, -2), grids)
  return grids.reshape(boards.shape)


def _permute_lines(key, groups: int, size: int):
  """Return a permutation of the groups, and of the lines in each group."""
  group_key, line_key = jax.random.split(key)
  order = jax.random.permutation(group_key, groups)
  lines = jax.vmap(lambda key: jax.random.permutation(key, size))(
    jax.random.split(line_key, groups)
  )
  return (order[:, None] * size + lines).ravel()


def add_givens(key, puzzle, solution, givens):
  """Fill random empty cells of `puzzle` [N] until it has `givens` givens."""
  order = jax.random.uniform(key, puzzle.shape)
  order = jnp.where(puzzle > 0, -1.0, order)  # present givens come first
  rank = jnp.argsort(jnp.argsort(order))
  keep = jnp.maximum(givens, (puzzle > 0).sum())
  return jnp.where(rank < keep, solution, 0)


def reveal_cell(
  key: jax.Array,
  puzzles: Int[Array, 'B N'],
  solutions: Int[Array, 'B N'],
  answers: Int[Array, 'B N'],
) -> Int[Array, 'B N']:
  """Reveal the digit of an empty cell with a wrong answer on each board."""
  is_wrong = (answers != solutions) & (puzzles == 0)
  score = jax.random.uniform(key, is_wrong.shape)
  cell = jnp.where(is_wrong, score, -1.0).argmax(1)
  is_cell = jax.nn.one_hot(cell, puzzles.shape[1], dtype=bool)
  return jnp.where(is_cell, solutions, puzzles)
