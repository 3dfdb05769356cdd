"""Hard 9 x 9 Sudoku puzzles, by hill climbing from random ones.

Random minimal puzzles are easy: half of them need no guess, and hardly any more
than 20. A chain keeps one solution and moves through its puzzles: it exchanges
a few givens and accepts a puzzle that needs as many guesses, or slightly fewer.
Hundreds of chains move at once, and all the puzzles they visit are data.

Two solutions of a puzzle differ in a set of cells that holds no given. Such an
*unavoidable set* (McGuire et al. 2014, "There is no 16-clue Sudoku") depends on
the solution alone: a puzzle with a given in each of them is unique. A chain
remembers those it met, so that its next proposals are likely to be unique.
"""

import numpy as np

from rrn.sudoku import data

Puzzles = dict[str, np.ndarray]

_BOX = (3, 3)
_CELLS = 81
_MEMORY = 256  # unavoidable sets that a chain remembers
_TEMPERATURE = 0.1  # accepted fall of log(guesses + 1), on average


def count_guesses(
  puzzles: np.ndarray,
  *,
  box: data.Box | None = None,
  units: np.ndarray | None = None,
) -> np.ndarray:
  """Count the guesses that a search by singles needs for each puzzle [B, N].

  The search applies naked and hidden singles to all cells at once until
  nothing changes, then guesses: it tries every candidate of the first cell, in
  reading order, among those with the fewest. It stops when it has found the
  solution and refuted everything else, so the number of guesses is the number
  of inner nodes of the whole search tree. The count does not depend on the
  names of the digits or on the other puzzles of the batch.

  Returns:
    int64 [B]: 0 if singles suffice, -1 unless there is exactly one solution.
  """
  if units is None:
    units = data.units(*data.box_shape(puzzles.shape[1], box))
  _, owners, guesses = data.search(data.candidates(puzzles), 2, units)
  counts = np.bincount(owners, minlength=len(puzzles))
  return np.where(counts == 1, guesses, -1)


def generate(
  rng: np.random.Generator,
  count: int,
  *,
  num_chains: int | None = None,
  num_steps: int = 1000,
) -> Puzzles:
  """Make minimal puzzles over a wide range of difficulty.

  Args:
    rng: the source of randomness.
    count: number of puzzles.
    num_chains: number of chains that climb at once, each with one solution.
      None makes one for every 25 puzzles, at most 512.
    num_steps: proposals of each chain. More steps give harder puzzles.

  Returns:
    'puzzle' and 'solution', int8 [count, 81], and 'guesses', int32 [count]; see
    `count_guesses`. The puzzles of a chain are distinct and follow each other.
  """
  num_chains = num_chains or min(512, count // 25 + 1)
  rounds, total = [], 0
  while total < count:
    rounds.append(climb(rng, num_chains, num_steps))
    total += len(rounds[-1]['puzzle'])
  return {
    name: np.concatenate([columns[name] for columns in rounds])[:count]
    for name in rounds[0]
  }


def climb(rng: np.random.Generator, num_chains: int, num_steps: int) -> Puzzles:
  """Return all puzzles that the chains visit, as `generate` does."""
  puzzles, solutions = data.generate(rng, num_chains, *_BOX)
  guesses = count_guesses(puzzles)
  sets = _UnavoidableSets(solutions)
  visited, chains = [puzzles.copy()], [np.arange(num_chains)]
  units = data.units(*_BOX)
  for _ in range(num_steps):
    proposed = np.where(_exchange(rng, puzzles > 0, sets), solutions, 0)
    masks = data.candidates(proposed)
    found, owners, proposed_guesses = data.search(masks, 2, units)
    sets.learn(found, owners)
    fall = np.log1p(guesses) - np.log1p(proposed_guesses)
    accepted = np.bincount(owners, minlength=num_chains) == 1
    accepted &= fall <= _TEMPERATURE * rng.exponential(size=num_chains)
    accepted &= (proposed != puzzles).any(1)
    puzzles[accepted] = proposed[accepted]
    guesses[accepted] = proposed_guesses[accepted]
    visited.append(proposed[accepted])
    chains.append(np.flatnonzero(accepted))
  chain = np.concatenate(chains)
  order = chain.argsort(kind='stable')
  puzzles, solutions = np.concatenate(visited)[order], solutions[chain[order]]
  return _finish(rng, puzzles, solutions)


def _finish(
  rng: np.random.Generator, puzzles: np.ndarray, solutions: np.ndarray
) -> Puzzles:
  """Minimize puzzles, drop repeated ones, and count guesses."""
  puzzles = data.minimize(rng, puzzles, solutions)
  renamed = np.where(puzzles > 0, data.relabel(solutions), 0)
  first = np.sort(np.unique(renamed, axis=0, return_index=True)[1])
  return {
    'puzzle': puzzles[first],
    'solution': solutions[first],
    'guesses': count_guesses(puzzles[first]).astype(np.int32),
  }


def _exchange(
  rng: np.random.Generator, givens: np.ndarray, sets: '_UnavoidableSets'
) -> np.ndarray:
  """Propose givens near those of puzzles: bool [B, 81].

  Takes a random given away, adds others until each known unavoidable set has
  one, and takes those away that no known set needs, until at most one more
  remains than before.
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
  """For each of B solutions, the smallest unavoidable sets found so far.

  A set has one bit per cell. Unused places hold the set of all cells.
  """

  def __init__(self, solutions: np.ndarray):
    self.solutions = solutions
    shape = len(solutions), _MEMORY, _CELLS
    self.bits = _pack(np.broadcast_to(True, shape))  # [B, M, 2]

  def cells(self, boards: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return one set for each of the boards: bool [boards, 81]."""
    return _unpack(self.bits[boards, index])

  def free(self, givens: np.ndarray) -> np.ndarray:
    """Return which sets have none of the givens [B, 81]: bool [B, M]."""
    return ~np.any(self.bits & _pack(givens)[:, None], axis=-1)

  def needed(self, givens: np.ndarray) -> np.ndarray:
    """Return the givens [B, 81] that are alone in a set: bool [B, 81]."""
    hits = self.bits & _pack(givens)[:, None]
    is_single = np.bitwise_count(hits).sum(-1, keepdims=True) == 1
    return _unpack(np.bitwise_or.reduce(hits * is_single, 1))

  def learn(self, found: np.ndarray, owners: np.ndarray):
    """Add sets from solutions [S, 81] of puzzles of the boards `owners` [S].

    Takes one other solution per board, and looks for smaller sets inside the
    cells in which it differs.
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
    """Put one set per board [b, 2] in the place of its largest, if new."""
    bits = self.bits[boards]
    largest = np.bitwise_count(bits).sum(-1).argmax(1)
    is_new = ~(bits == new[:, None]).all(-1).any(1)
    self.bits[boards[is_new], largest[is_new]] = new[is_new]


def _choose(rng: np.random.Generator, options: np.ndarray) -> np.ndarray:
  """Draw one of the true columns of each row: int [B]."""
  noise = rng.random(options.shape, np.float32)
  return np.where(options, noise, -1).argmax(1)


def _pack(cells: np.ndarray) -> np.ndarray:
  """Turn bool [..., 81] into bits: uint64 [..., 2]."""
  wide = np.zeros((*cells.shape[:-1], 128), bool)
  wide[..., :_CELLS] = cells
  return np.packbits(wide, axis=-1, bitorder='little').view(np.uint64)


def _unpack(bits: np.ndarray) -> np.ndarray:
  """Turn uint64 [..., 2] into bool [..., 81]."""
  cells = np.unpackbits(bits.view(np.uint8), axis=-1, bitorder='little')
  return cells[..., :_CELLS].astype(bool)
