"""Plot the boards solved by step, and the digits of one board."""

from collections.abc import Sequence

import numpy as np
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from core.report import plots
from rrn.sudoku import puzzle_text

_FRAMES_PER_SECOND = 5
_GIVEN, _DIGIT, _WRONG = plots.INK, plots.PALETTE[0], plots.PALETTE[1]


@plots.style()
def solved_by_step(
  curve: Sequence[Sequence[float | None]],
  givens: Sequence[int],
  trained_steps: int,
) -> Figure:
  """Plot the share of boards solved by step, as in the paper's Figure 4.

  Args:
    curve: share of the boards solved after each step, [T, G]; None if no board
      has that number of givens.
    givens: number of givens of each column; every second column is drawn.
    trained_steps: largest number of steps in training; a dashed line.
  """
  shares = np.asarray(curve, float)
  steps = np.arange(1, len(shares) + 1)
  figure = Figure(figsize=(6.4, 4.0))
  axes = figure.subplots()
  axes.set_title('Boards solved, by givens (dashed: steps in training)')
  axes.set_xlabel('message passing steps')
  axes.set_ylabel('boards solved (%)')
  plots.show_percent(axes)
  axes.axvline(trained_steps, color=plots.MUTED, lw=1, dashes=(4, 3), zorder=1)
  columns = list(zip(givens, shares.T, strict=True))[::2]
  curves = {
    str(count): (steps, share)
    for count, share in columns
    if np.isfinite(share).all()
  }
  plots.draw_lines_with_legend(axes, curves, plots.colors(list(curves)))
  axes.set_xlim(0, len(shares) + 1)
  return figure


@plots.style()
def digits_by_step(
  puzzle: np.ndarray,
  probabilities: np.ndarray,
  steps: Sequence[int],
  box_height: int,
  box_width: int,
  *,
  solution: np.ndarray | None = None,
) -> Figure:
  """Plot the probabilities of the digits of one board after several steps.

  The size and opacity of a digit grow with its probability. Givens are black.
  Cells with a wrong last answer are marked.

  Args:
    puzzle: [N]; 0 is an empty cell.
    probabilities: [T, N, K]; class 0 is never drawn.
    steps: steps from 1 to T, one panel each.
    box_height: number of rows in a box.
    box_width: number of columns in a box.
    solution: [N]. None marks no cells.
  """
  columns = min(3, len(steps))
  rows = -(-len(steps) // columns)
  figure = Figure(figsize=(3.6 * columns, 3.85 * rows))
  grid = figure.subplots(rows, columns, squeeze=False)
  for axes in grid.flat:
    axes.set_axis_off()
  for axes, step in zip(grid.flat, steps, strict=False):
    axes.set_title(f'{step} step{"s" if step > 1 else ""}')
    _draw_grid(axes, box_height, box_width)
    _draw_digits(axes, puzzle, probabilities[step - 1], box_height)
  if solution is not None:
    answers = probabilities[steps[-1] - 1].argmax(-1)
    for cell in np.flatnonzero((answers != solution) & (puzzle == 0)):
      y, x = divmod(int(cell), box_height * box_width)
      axes.add_patch(Rectangle((x, y), 1, 1, color=_WRONG, alpha=0.25, lw=0))
  return figure


@plots.style()
def animate_digits(
  path: str,
  puzzle: np.ndarray,
  probabilities: np.ndarray,
  box_height: int,
  box_width: int,
):
  """Write a GIF of the digits of one board after each step.

  Args:
    path: path of the file.
    puzzle: [N]; 0 is an empty cell.
    probabilities: [T, N, K]; class 0 is never drawn.
    box_height: number of rows in a box.
    box_width: number of columns in a box.

  Raises:
    OSError: the file cannot be written.
  """
  figure = Figure(figsize=(4.0, 4.3))
  axes = figure.subplots()

  def draw(step: int):
    axes.clear()
    axes.set_axis_off()
    axes.set_title(f'{step} step{"s" if step > 1 else ""}')
    _draw_grid(axes, box_height, box_width)
    _draw_digits(axes, puzzle, probabilities[step - 1], box_height)

  last = len(probabilities)
  frames = [*range(1, last + 1), *[last] * (2 * _FRAMES_PER_SECOND)]
  film = animation.FuncAnimation(figure, draw, frames, init_func=lambda: None)
  writer = animation.PillowWriter(fps=_FRAMES_PER_SECOND)
  film.save(path, writer=writer, dpi=80)


def _draw_grid(axes: Axes, box_height: int, box_width: int):
  side = box_height * box_width
  # The margin has room for the thick frame.
  axes.set(xlim=(-0.05, side + 0.05), ylim=(side + 0.05, -0.05), aspect='equal')
  for line in range(side + 1):
    for draw, size in ((axes.hlines, box_height), (axes.vlines, box_width)):
      is_thick = line % size == 0
      draw(
        line,
        0,
        side,
        color=plots.MUTED if is_thick else '#D8D8D8',
        lw=1.4 if is_thick else 0.7,
        zorder=1 + is_thick,
        capstyle='projecting',
      )


def _draw_digits(axes: Axes, puzzle, probabilities, box_height: int):
  side = probabilities.shape[-1] - 1
  digits = np.arange(side)
  # Probable digits move from their pencil marks to the middle of the cell.
  box_width = side // box_height
  marks = np.stack(np.divmod(digits, box_width)[::-1], axis=-1)  # x, y
  marks = (marks + 0.5) / (box_width, box_height)
  full_size = 130 / side  # points; half the height of a cell
  for cell, shares in enumerate(probabilities[:, 1:]):
    corner = np.array(divmod(cell, side)[::-1])
    if puzzle[cell]:
      looks = {'size': full_size, 'color': _GIVEN, 'weight': 'bold'}
      _write(axes, int(puzzle[cell]), corner + 0.5, **looks)
      continue
    for digit in digits[shares > 0.02]:  # others would be invisible
      share = shares[digit]
      _write(
        axes,
        int(digit) + 1,
        corner + marks[digit] + share**2 * (0.5 - marks[digit]),
        size=full_size * (0.35 + 0.65 * share),
        alpha=0.25 + 0.75 * share,
        color=_DIGIT,
      )


def _write(axes: Axes, digit: int, center: np.ndarray, **looks):
  x, y = center
  text = puzzle_text.ALPHABETS['1-G'][digit - 1]
  # Centered text leaves room for descenders, so move it down a little.
  axes.text(x, y + 0.03, text, ha='center', va='center', **looks)
