"""Solve Sudoku with loopy belief propagation: baselines that are not trained.

  uv run python -m rrn.sudoku.belief_propagation
  uv run python -m rrn.sudoku.belief_propagation --variant=random --givens=20

A cell is a variable with n values. A row, column, or box is a factor that is 1
if all its digits differ, and 0 otherwise. Factor messages are exact: a forward
and a backward pass over the cells sum over the 2^n sets of digits, not over the
(n - 1)! ways to fill the other cells. Each variant takes about a minute.

Variants:
  parallel: sum-product; each step updates all factors at once (Bauke 2008).
  random: each step updates one factor after another, in random order (Bauke
    2008).
  modified: up to 250 steps, with Sinkhorn balancing at every second step; then
    the most probable digit is filled in, and the steps are repeated until the
    board is solved, full, or contradictory (Khan et al. 2014).

The paper gives no further details, and we have not read the two articles that
it cites. We assume:
  * A step updates every message once. Each step has its own random order, which
    all boards share.
  * There is no damping. Messages start uniform, and are not reset when a digit
    is filled in.
  * The parallel and random variants run for 250 steps.
  * Messages are normalized, and their positive entries are at least 1e-30.
    Smaller entries would underflow to 0, which means that a digit is
    impossible, and far fewer boards would be solved.
  * Balancing applies ten Sinkhorn iterations to the n x n probabilities (cells
    x digits) that enter a factor.
  * The digit that is filled in is the most probable one of all open cells.
  * A board is finished as soon as its most probable digits obey the rules. The
    solution is not used.

Axes: B boards, N cells, U units (rows, columns, and boxes), C the n cells of a
unit, D the n digits, M = U * B.
"""

import functools
import math
import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import flags
from jaxtyping import Bool, Float, Int

from core.errors import UserError
from core.io import data_files
from core.report import markdown, measurements
from core.run import command_line
from rrn.sudoku import builder, data

PAPER = {'parallel': '53.2 %', 'random': '61.7 %', 'modified': '92.5 %'}
STEPS = 250
_RESULT = 'rrn', 'sudoku', 'belief_propagation.json'
_MIN_MESSAGE = 1e-30  # smallest nonzero entry; its eighth power fits in float64
_BALANCING_ROUNDS = 10
_COLUMNS = 256  # columns per call of `all_different`, which fit in the cache

Array = np.ndarray


@functools.cache
def _tables(size: int):
  """Return the index tables of the forward and backward pass over sets.

  A set is given by its index among all sets with as many digits.

  Returns:
    A pair of lists of pairs:
      For k = 1 to size, (digits, smaller), both [sets, k]: adding digits[s, i]
      to the set smaller[s, i] of k - 1 digits makes the set s of k digits.
      For c = 0 to size - 1, (before, after), both [D, sets]: for each digit d,
      the sets of c digits without d, and the remaining digits without d.
  """
  digits, all_digits = range(size), 2**size - 1  # a set is a bit mask here
  layers = [
    [s for s in range(2**size) if s.bit_count() == k] for k in range(size + 1)
  ]
  index = {s: i for layer in layers for i, s in enumerate(layer)}
  extensions, splits = [], []
  for layer in layers[1:]:
    added = [[d for d in digits if s >> d & 1] for s in layer]
    pairs = zip(layer, added, strict=True)
    smaller = [[index[s - 2**d] for d in row] for s, row in pairs]
    extensions.append((np.array(added), np.array(smaller)))
  for layer in layers[:-1]:
    without = [[s for s in layer if not s >> d & 1] for d in digits]
    before = [[index[s] for s in row] for row in without]
    after = [
      [index[all_digits - s - 2**d] for s in row]
      for d, row in enumerate(without)
    ]
    splits.append((np.array(before), np.array(after)))
  return extensions, splits


def all_different(weights: Float[Array, 'C D M']) -> Float[Array, 'C D M']:
  """Compute the messages of factors whose cells all differ.

  Args:
    weights: messages from each cell to the factor.

  Returns:
    For cell c and digit d, the sum of the products of weights over all
    assignments of the other digits to the other cells.
  """
  size, _, count = weights.shape
  extensions, splits = _tables(size)

  def sums(cells):
    # For each k, [sets, M]: the sum of the products of weights over all ways to
    # put the digits of a set into the first k of these cells.
    layers = [np.ones((1, count), weights.dtype)]
    for cell, (digits, smaller) in zip(cells, extensions, strict=False):
      last, pairs = layers[-1], zip(digits.T, smaller.T, strict=True)
      terms = [cell[digit] * last[s] for digit, s in pairs]
      layers.append(functools.reduce(np.add, terms))
    return layers

  forward = sums(weights[:-1])
  backward = sums(weights[:0:-1])  # from the last cell to the second
  return np.stack(
    [
      np.einsum(
        'dsm,dsm->dm', forward[c][before], backward[size - 1 - c][after]
      )
      for c, (before, after) in enumerate(splits)
    ]
  )


def balance(weights: Float[Array, 'C D M']) -> Float[Array, 'C D M']:
  """Make weights doubly stochastic by Sinkhorn iterations."""
  for _ in range(_BALANCING_ROUNDS):
    weights = _normalize(_normalize(weights, 0), 1)
  return weights


def _normalize(weights, axis: int):
  """Scale weights to sum to 1 over an axis; raise tiny ones, but not zeros."""
  total = weights.sum(axis, keepdims=True)
  weights = weights / np.where(total > 0, total, 1)
  return np.where(weights > 0, np.maximum(weights, _MIN_MESSAGE), 0)


class Beliefs:
  """The messages from all factors of a batch of boards.

  Attributes:
    prior: [N, D, B], 1 where a digit is possible.
    messages: [3, N, D, B], from the row, column, and box of each cell.
    units: int [3n, n], the cells of each row, column, and box.
  """

  def __init__(self, puzzles: Int[Array, 'B N'], box: data.Box):
    digits = np.arange(1, math.prod(box) + 1)[:, None]
    given = puzzles.T[:, None]
    self.prior = ((given == digits) | (given == 0)).astype(float)
    self.messages = np.ones((3, *self.prior.shape))
    self.units = data.units(*box)

  def probabilities(self) -> Float[Array, 'N D B']:
    """Return the probabilities; 0 for all digits if none is possible."""
    return _normalize(self.prior * self.messages.prod(0), 1)

  def update(self, units: Int[Array, ' U'], *, is_balanced: bool = False):
    """Update the messages from the given units.

    Args:
      units: indices of rows, columns, and boxes.
      is_balanced: whether the incoming messages are balanced first.
    """
    side = self.units.shape[1]
    kind = units[:, None] // side  # 0: row, 1: column, 2: box
    cells = self.units[units]
    incoming = self.prior[cells]  # [U, C, D, B]
    for offset in (1, 2):  # the two other units of each cell
      incoming = incoming * self.messages[(kind + offset) % 3, cells]
    incoming = np.moveaxis(_normalize(incoming, 2), 0, 2).reshape(
      side, side, -1
    )
    cuts = range(_COLUMNS, incoming.shape[2], _COLUMNS)
    outgoing = [
      all_different(balance(part) if is_balanced else part)
      for part in np.split(incoming, cuts, axis=2)
    ]
    outgoing = _normalize(np.concatenate(outgoing, axis=2), 1)
    outgoing = outgoing.reshape(side, side, len(units), -1)
    self.messages[kind, cells] = np.moveaxis(outgoing, 2, 0)

  def keep(self, boards: Bool[Array, ' B']):
    """Keep only the boards whose mask, bool [B], is True."""
    self.prior = self.prior[..., boards]
    self.messages = self.messages[..., boards]

  def fill(self) -> Bool[Array, ' B']:
    """Fill in the most probable digit of the open cells of each board.

    Returns:
      bool [B], whether there was an open cell and every cell still has a
      possible digit.
    """
    chances = self.probabilities()
    options = (chances > 0).sum(1)  # [N, B]
    chances = np.where(options[:, None] > 1, chances, 0)
    boards = np.arange(chances.shape[-1])
    best = chances.reshape(-1, len(boards)).argmax(0)
    cell, digit = np.divmod(best, chances.shape[1])
    self.prior[cell, :, boards] = 0
    self.prior[cell, digit, boards] = 1
    return (options > 1).any(0) & (options > 0).all(0)


def solve(
  puzzles: Int[Array, 'B N'],
  variant: str,
  *,
  box: data.Box = (3, 3),
  steps: int = STEPS,
  seed: int = 0,
) -> Int[Array, 'B N']:
  """Solve puzzles with one of the three variants.

  Args:
    puzzles: digits; 0 is an empty cell.
    variant: 'parallel', 'random', or 'modified'.
    box: height and width of the boxes.
    steps: largest number of steps. With 'modified', it applies anew after each
      digit that is filled in.
    seed: seed of the random order.

  Returns:
    Boards that obey the rules; zeros for a puzzle that was not solved.
  """
  rng = np.random.default_rng(seed)
  answers = np.zeros_like(puzzles)
  state, unsolved = Beliefs(puzzles, box), np.arange(len(puzzles))
  units = np.arange(len(state.units))
  while unsolved.size:
    for step in range(steps):
      if variant == 'random':
        for unit in rng.permutation(units):
          state.update(np.array([unit]))
      else:
        is_balanced = variant == 'modified' and step % 2 == 1
        state.update(units, is_balanced=is_balanced)
      digits = 1 + state.probabilities().argmax(1).T.astype(puzzles.dtype)
      solved = data.is_solution(digits, puzzles[unsolved], box=box)
      answers[unsolved[solved]] = digits[solved]
      unsolved = unsolved[~solved]
      state.keep(~solved)
      if not unsolved.size:
        break
    if variant != 'modified' or not unsolved.size:
      break
    can_continue = state.fill()
    unsolved = unsolved[can_continue]
    state.keep(can_continue)
  return answers


def run(variants: Sequence[str], givens: int, count: int, results: str | None):
  """Print a table of results on the test boards.

  Args:
    variants: names of variants.
    givens: number of givens of each board.
    count: largest number of boards.
    results: folder of a result file to write, or None.

  Raises:
    UserError: the boards cannot be read, or the file cannot be written.
  """
  puzzles, solutions = _test_boards(givens, count)
  paths = [pathlib.Path(results, *_RESULT)] if results else []
  measurements.make_folders(paths)
  header = 'loopy belief propagation', 'givens', 'paper', 'ours', 'CPU seconds'
  rows = {}
  lines = _measure_rows(rows, variants, puzzles, solutions, givens)
  for line in markdown.lines(header, lines):
    print(line, flush=True)
  command = ['python', '-m', 'rrn.sudoku.belief_propagation']
  command += [f'--givens={givens}', f'--num_boards={count}']
  if len(variants) == 1:
    command.append(f'--variant={variants[0]}')
  for path in paths:
    table = {**measurements.provenance(command), 'rows': rows}
    measurements.write(path, table)


def _measure_rows(rows, variants, puzzles, solutions, givens):
  """Add a row of each variant to `rows`, and yield its cells."""
  for variant in variants:
    start = time.process_time()
    solved = (solve(puzzles, variant) == solutions).all(1)
    seconds = time.process_time() - start
    share = measurements.share(int(solved.sum()), len(solved))
    rows[variant] = {
      'metrics': {'solved': share, 'cpu_seconds': {'value': round(seconds)}}
    }
    interval = f'{100 * share["low"]:.1f} to {100 * share["high"]:.1f}'
    ours = f'{share["value"]:.1%} ({interval}, n = {len(solved)})'
    paper = PAPER[variant] if givens == 17 else '–'
    yield [variant, str(givens), paper, ours, f'{seconds:.0f}']


def main():
  """Run the variants that the flags select."""
  values = flags.FLAGS
  variants = list(PAPER) if values.variant == 'all' else [values.variant]
  run(variants, values.givens, values.num_boards, values.results)


def _test_boards(givens: int, count: int):
  """Return the first `count` test boards with this number of givens."""
  try:
    columns = builder.load('hard_test', 'test')
  except UserError:
    if data_files.locate(builder.TEST_FILES):
      raise  # the file is damaged
    # The message of `builder` names flags that this program does not have.
    raise UserError(
      f'{" or ".join(builder.TEST_FILES)} not found in'
      f' {data_files.data_folder().absolute()} or its sub-folders; get it from'
      f' {builder.TEST_URL} and set LEARNED_ALGORITHMS_DATA to its folder'
    ) from None
  rows = np.flatnonzero((columns['puzzle'] > 0).sum(1) == givens)[:count]
  if not rows.size:
    raise UserError(
      f'no boards for --givens={givens} --num_boards={count}: the test file has'
      ' 1,000 boards with each number of givens from 17 to 34'
    )
  return columns['puzzle'][rows], columns['solution'][rows]


if __name__ == '__main__':
  flags.DEFINE_integer('num_boards', 1000, 'Number of boards to solve.')
  flags.DEFINE_integer('givens', 17, 'Givens per board, from 17 to 34.')
  flags.DEFINE_enum('variant', 'all', ['all', *PAPER], 'Variant to run.')
  flags.DEFINE_string('results', None, 'Folder of result files to write to.')
  command_line.run_program(main)
