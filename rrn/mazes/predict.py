"""Find the paths of mazes in a text, for `--mode=predict`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool

from core import answers
from core.answers import Answer
from core.errors import UserError
from rrn.mazes import data
from rrn.mazes.model import make_graph, passage_mask

_STEPS_PER_CALL = 8  # between two checks of the answer
_STEPS_PER_CELL = 2  # largest number of steps, relative to the number of cells


def answer(model: Any, lines: Iterable[str]) -> Iterator[str | UserError]:
  """Mark the path of each maze with dots; `data` describes the format.

  Logs a warning for answers that are not a shortest path.

  Args:
    model: a `MazeNetwork`.
    lines: lines of text.

  Yields:
    For each line of a maze, the line with dots. For a bad maze, an error, and
    then '' for each further line. For any other line, ''.
  """
  texts = answers.answer_problems(
    data.read_mazes(lines),
    encode=lambda maze: {'passages': maze.passages, 'ends': maze.ends},
    solve=make_solver(model),
    finish=_finish,
  )
  for text in texts:
    yield from [text] if isinstance(text, UserError) else text.split('\n')


def _finish(maze: data.Maze, marked: np.ndarray) -> Answer:
  failure = data.find_failure(maze, marked)
  text = '\n'.join(data.mark(maze, marked))
  return Answer(text, failure, not failure, maze.line)


def make_solver(
  model: Any,
) -> Callable[[Mapping[str, np.ndarray]], jax.Array]:
  """Return a function from 'passages' and 'ends' to the marked cells.

  The network runs until the marked cells of every maze are a path, for at most
  2 H W steps, rounded up to a multiple of 8.
  """
  graphdef, params = nnx.split(model)

  @jax.jit
  def solve(params, passages, ends):
    model = nnx.merge(graphdef, params)
    most = _STEPS_PER_CELL * ends[0].size

    def is_unfinished(carry):
      _, marked, steps = carry
      return ~is_path(marked, passages, ends).all() & (steps < most)

    def advance(carry):
      states, _, steps = carry
      states, logits = model.advance(
        passages, ends, states, num_steps=_STEPS_PER_CALL
      )
      return states, logits[-1] > 0, steps + _STEPS_PER_CALL

    start = model.init_states(ends), jnp.zeros_like(ends), jnp.asarray(0)
    return jax.lax.while_loop(is_unfinished, advance, start)[1]

  return lambda columns: solve(params, columns['passages'], columns['ends'])


def is_path(
  marked: Bool[Array, 'B H W'],
  passages: Bool[Array, 'B H W 2'],
  ends: Bool[Array, 'B H W'],
) -> Bool[Array, ' B']:
  """Return whether the marked cells are a path between the ends.

  Both ends must be marked and have one marked neighbor, and every other marked
  cell must have two. In a maze with cycles, such cells may also form a cycle
  next to the path.
  """
  flat, is_end = (x.reshape(len(x), -1) for x in (marked, ends))
  senders = make_graph(*ends.shape[1:]).senders
  count = (flat[:, senders] & passage_mask(passages)).sum(-1)
  is_right = jnp.where(flat, count == jnp.where(is_end, 1, 2), ~is_end)
  return is_right.all(-1)
