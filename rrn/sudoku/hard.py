"""Generate hard 9 x 9 Sudoku puzzles by hill climbing from random puzzles.

Random minimal puzzles are easy: half of them need no guess. This module has two
measures of difficulty. The number of *guesses* of an exact solver depends on
the order in which it tries candidates. The number of *unrefuted* candidates
does not: a wrong candidate is unrefuted if assuming it, and then filling in
singles, leads to no contradiction. Six famous hard puzzles have 146 to 194
unrefuted candidates, but puzzles that need hundreds of guesses may have none.

A chain keeps one solution and moves from puzzle to puzzle with this solution.
Each step exchanges a few givens, and accepts the new puzzle if it is at least
as difficult, or slightly easier. Hundreds of chains move at once, and all
puzzles that they visit are returned.

If a puzzle has two solutions, the cells in which they differ contain no given.
For one of the solutions, these cells are an *unavoidable set* (McGuire et al.
2014, "There is no 16-clue Sudoku"): a puzzle has only this solution if it has a
given in each unavoidable set of the solution. A chain remembers the sets that
it has found, so its next proposals are more likely to have a unique solution.

Axes: B boards, N = 81 cells, S solutions, M remembered sets.
"""

import numpy as np
import tqdm

from rrn.sudoku import data

Puzzles = dict[str, np.ndarray]

_BOX = (3, 3)
_CELLS = 81
_MEMORY = 256  # unavoidable sets that a chain remembers
_ASSUMPTIONS_PER_CALL = 8192


def count_guesses(
  puzzles: np.ndarray,
  *,
  box: data.Box | None = None,
  units: np.ndarray | None = None,
) -> np.ndarray:
  """Count the guesses that a search by singles needs for each puzzle [B, N].

  The search fills in naked and hidden singles until nothing changes. Then it
  guesses: it tries each candidate of the cell with the fewest candidates, the
  first such cell in reading order. It ends when it has found the solution and
  refuted everything else, so the number of guesses is the number of inner nodes
  of the search tree. The count does not depend on the names of the digits or on
  the other puzzles of the batch.

  Args:
    puzzles: digits; 0 is an empty cell.
    box: see `data`.
    units: see `data`.

  Returns:
    int64 [B]: 0 if singles suffice, -1 if the puzzle does not have exactly one
    solution.
  """
  if units is None:
    units = data.units(*data.box_shape(puzzles.shape[1], box))
  _, owners, guesses = data.search(data.candidates(puzzles), 2, units)
  counts = np.bincount(owners, minlength=len(puzzles))
  return np.where(counts == 1, guesses, -1)


def count_unrefuted(puzzles: np.ndarray) -> np.ndarray:
  """Count the wrong candidates that cannot be refuted by singles alone.

  After naked and hidden singles, each remaining candidate is assumed in turn.
  It is refuted if singles then lead to a contradiction.

  Args:
    puzzles: [B, 81], each with exactly one solution.

  Returns:
    int [B]: 0 if singles solve the puzzle.
  """
  units = data.units(*_BOX)
  masks, _ = data.propagate(data.candidates(puzzles), units)
  is_open = masks & (masks - 1) > 0
  bits = (1 << np.arange(9)).astype(masks.dtype)
  is_candidate = is_open & (masks & bits[:, None, None] > 0)
  digit, cell, board = np.nonzero(is_candidate)
  is_refuted = []
  for start in range(0, len(board), _ASSUMPTIONS_PER_CALL):
    part = slice(start, start + _ASSUMPTIONS_PER_CALL)
    assumed = masks[:, board[part]]
    assumed[cell[part], np.arange(assumed.shape[1])] = bits[digit[part]]
    is_refuted.append(~data.propagate(assumed, units)[1])
  refuted = np.concatenate(is_refuted or [np.zeros(0, bool)])
  left = np.bincount(board[~refuted], minlength=len(puzzles))
  return left - is_open.sum(0)  # each open cell has one correct candidate


# Measure -> its function, and the temperature of the chains: they accept a
# decrease of log(difficulty + 1) up to a random threshold with this mean.
MEASURES = {
  'guesses': (count_guesses, 0.1),
  'unrefuted': (count_unrefuted, 0.05),
}


def generate(
  rng: np.random.Generator,
  count: int,
  *,
  measure: str = 'unrefuted',
  num_chains: int | None = None,
  num_steps: int = 1000,
) -> Puzzles:
  """Make minimal puzzles over a wide range of difficulty.

  Args:
    rng: random generator.
    count: number of puzzles.
    measure: measure of difficulty that the chains increase, a key of
      `MEASURES`.
    num_chains: number of chains, each with its own solution. None selects one
      for every 25 puzzles, at most 512.
    num_steps: number of proposals of each chain. More steps give harder
      puzzles.

  Returns:
    'puzzle' and 'solution', int8 [count, 81]; 'guesses' and 'unrefuted', int32
    [count]; see `count_guesses` and `count_unrefuted`. Puzzles of the same
    chain are distinct and consecutive.
  """
  num_chains = num_chains or min(512, count // 25 + 1)
  rounds, total = [], 0
  while total < count:
    rounds.append(climb(rng, num_chains, num_steps, measure=measure))
    total += len(rounds[-1]['puzzle'])
  return {
    name: np.concatenate([columns[name] for columns in rounds])[:count]
    for name in rounds[0]
  }


def climb(
  rng: np.random.Generator,
  num_chains: int,
  num_steps: int,
  *,
  measure: str = 'unrefuted',
) -> Puzzles:
  """Return all puzzles that the chains visit; see `generate`."""
  puzzles, solutions = data.generate(rng, num_chains, *_BOX)
  count, temperature = MEASURES[measure]
  difficulty = count(puzzles)
  sets = _UnavoidableSets(solutions)
  visited, chains = [puzzles.copy()], [np.arange(num_chains)]
  units = data.units(*_BOX)
  # disable=None shows no progress bar if standard error is not a terminal.
  for _ in tqdm.trange(num_steps, desc='hard puzzles', disable=None):
    proposed = np.where(_exchange(rng, puzzles > 0, sets), solutions, 0)
    found, owners, _ = data.search(data.candidates(proposed), 2, units)
    sets.learn(found, owners)
    is_unique = np.bincount(owners, minlength=num_chains) == 1
    changed = np.flatnonzero(is_unique & (proposed != puzzles).any(1))
    new = count(proposed[changed])
    decrease = np.log1p(difficulty[changed]) - np.log1p(new)
    is_accepted = decrease <= temperature * rng.exponential(size=changed.size)
    moved = changed[is_accepted]
    puzzles[moved], difficulty[moved] = proposed[moved], new[is_accepted]
    visited.append(proposed[moved])
    chains.append(moved)
  chain = np.concatenate(chains)
  order = chain.argsort(kind='stable')
  puzzles, solutions = np.concatenate(visited)[order], solutions[chain[order]]
  return _finish(rng, puzzles, solutions)


def _finish(
  rng: np.random.Generator, puzzles: np.ndarray, solutions: np.ndarray
) -> Puzzles:
  """Minimize puzzles, drop duplicates, and measure their difficulty."""
  puzzles = data.minimize(rng, puzzles)
  renamed = np.where(puzzles > 0, data.relabel(solutions), 0)
  first = np.sort(np.unique(renamed, axis=0, return_index=True)[1])
  return {
    'puzzle': puzzles[first],
    'solution': solutions[first],
    'guesses': count_guesses(puzzles[first]).astype(np.int32),
    'unrefuted': count_unrefuted(puzzles[first]).astype(np.int32),
  }


def _exchange(
  rng: np.random.Generator, givens: np.ndarray, sets: '_UnavoidableSets'
) -> np.ndarray:
  """Propose the givens of similar puzzles: bool [B, 81].

  Remove a random given, and add givens until each known unavoidable set has
  one. Then remove givens that no known set needs, until a puzzle has at most
  one given more than before.
  """
  target = givens.sum(1) + 1
  givens = givens.copy()
  boards = np.arange(len(givens))
  removed = _choose(rng, givens)
  givens[boards, removed] = False
  while (free := sets.free(givens)).any():
    rows = np.flatnonzero(free.any(1))
    options = sets.cells(rows, _choose(rng, free[rows]))
    options[np.arange(rows.size), removed[rows]] = False
    givens[rows, _choose(rng, options)] = True
  while True:
    spare = givens & ~sets.needed(givens)
    rows = np.flatnonzero(spare.any(1) & (givens.sum(1) > target))
    if not rows.size:
      return givens
    givens[rows, _choose(rng, spare[rows])] = False


class _UnavoidableSets:
  """The smallest unavoidable sets found so far, for each of B solutions.

  A set has one bit per cell. Unused entries hold the set of all cells.
  """

  def __init__(self, solutions: np.ndarray):
    self.solutions = solutions
    shape = len(solutions), _MEMORY, _CELLS
    self.bits = _pack(np.broadcast_to(True, shape))  # [B, M, 2]

  def cells(self, boards: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return one set of each given board: bool [boards, 81]."""
    return _unpack(self.bits[boards, index])

  def free(self, givens: np.ndarray) -> np.ndarray:
    """Return which sets contain none of the givens [B, 81]: bool [B, M]."""
    return ~np.any(self.bits & _pack(givens)[:, None], axis=-1)

  def needed(self, givens: np.ndarray) -> np.ndarray:
    """Return which givens [B, 81] are the only one in a set: bool [B, 81]."""
    hits = self.bits & _pack(givens)[:, None]
    is_single = np.bitwise_count(hits).sum(-1, keepdims=True) == 1
    return _unpack(np.bitwise_or.reduce(hits * is_single, 1))

  def learn(self, found: np.ndarray, owners: np.ndarray):
    """Add the sets that solutions [S, 81] of the boards `owners` [S] reveal.

    Take one other solution per board, and search the cells in which it differs
    for smaller sets.
    """
    other = np.flatnonzero((found != self.solutions[owners]).any(1))
    boards, index = np.unique(owners[other], return_index=True)
    solutions = self.solutions[boards]
    puzzles = np.where(found[other[index]] == solutions, solutions, 0)
    masks = data.candidates(puzzles)
    found, owners, _ = data.search(masks, 8, data.units(*_BOX))
    sets = found != solutions[owners]
    sizes = sets.sum(1)
    order = sizes.argsort(kind='stable')
    order = order[sizes[order] > 0]
    while order.size:
      owner, index = np.unique(owners[order], return_index=True)
      self._add(boards[owner], _pack(sets[order[index]]))
      order = np.delete(order, index)

  def _add(self, boards: np.ndarray, new: np.ndarray):
    """Replace the largest set of each board with a set [boards, 2], if new."""
    bits = self.bits[boards]
    largest = np.bitwise_count(bits).sum(-1).argmax(1)
    is_new = ~(bits == new[:, None]).all(-1).any(1)
    self.bits[boards[is_new], largest[is_new]] = new[is_new]


def _choose(rng: np.random.Generator, options: np.ndarray) -> np.ndarray:
  """Draw one True column of each row: int [B]."""
  noise = rng.random(options.shape, np.float32)
  return np.where(options, noise, -1).argmax(1)


def _pack(cells: np.ndarray) -> np.ndarray:
  """Convert bool [..., 81] to bits: uint64 [..., 2]."""
  wide = np.zeros((*cells.shape[:-1], 128), bool)
  wide[..., :_CELLS] = cells
  return np.packbits(wide, axis=-1, bitorder='little').view(np.uint64)


def _unpack(bits: np.ndarray) -> np.ndarray:
  """Convert bits, uint64 [..., 2], to bool [..., 81]."""
  cells = np.unpackbits(bits.view(np.uint8), axis=-1, bitorder='little')
  return cells[..., :_CELLS].astype(bool)
