import numpy as np
import pytest

from rrn.sudoku import data, hard

# 'Platinum Blonde', from the public lists of the hardest puzzles.
HARD = (
  '000000012000000003002300400001800005060070800000009000008500000900040500'
  '470006000'
)
UNITS = [
  *[[9 * r + c for c in range(9)] for r in range(9)],
  *[[9 * r + c for r in range(9)] for c in range(9)],
  *[
    [9 * (3 * b + r) + 3 * s + c for r in range(3) for c in range(3)]
    for b in range(3)
    for s in range(3)
  ],
]


def propagate(cells):
  """Apply singles until nothing changes; return None if they contradict."""
  changed = True
  while changed:
    changed = False
    for unit in UNITS:
      for digit in range(1, 10):
        places = [c for c in unit if digit in cells[c]]
        if not places:
          return None
        if len(places) == 1 and len(cells[places[0]]) > 1:
          cells[places[0]], changed = {digit}, True
      for cell in unit:
        if len(cells[cell]) == 1:
          for other in unit:
            if other != cell and cells[cell] <= cells[other]:
              cells[other], changed = cells[other] - cells[cell], True
              if not cells[other]:
                return None
  return cells


def search(cells):
  """Return the numbers of solutions and of guesses, by plain recursion."""
  cells = propagate(list(cells))
  if cells is None:
    return 0, 0
  fewest = min((len(c) for c in cells if len(c) > 1), default=0)
  if not fewest:
    return 1, 0
  place = next(i for i, c in enumerate(cells) if len(c) == fewest)
  results = [
    search([*cells[:place], {digit}, *cells[place + 1 :]])
    for digit in cells[place]
  ]
  solutions, guesses = map(sum, zip(*results, strict=True))
  return solutions, guesses + 1


def reference(puzzle):
  return search([{int(d)} if d else set(range(1, 10)) for d in puzzle])


@pytest.fixture(scope='module')
def puzzles():
  return hard.climb(np.random.default_rng(0), 12, 60, measure='guesses')


def test_easy_puzzles_need_no_guess_and_hard_ones_many():
  rng = np.random.default_rng(0)
  easy = data.generate(rng, 4, 3, 3, givens=50)[0]
  boards = np.stack([*easy, np.array([*HARD], np.int8)])
  guesses = hard.count_guesses(boards)
  np.testing.assert_array_equal(guesses[:4], 0)
  assert guesses[4] > 200
  assert (1, guesses[4]) == reference(boards[4])


def test_guesses_do_not_depend_on_the_batch_or_on_digit_names(puzzles):
  boards, guesses = puzzles['puzzle'], puzzles['guesses']
  order = np.random.default_rng(0).permutation(len(boards))
  np.testing.assert_array_equal(
    hard.count_guesses(boards[order]), guesses[order]
  )
  for row in order[:5]:
    assert hard.count_guesses(boards[row : row + 1]) == guesses[row]
  names = np.array([0, 5, 3, 1, 2, 4, 6, 9, 8, 7], np.int8)
  np.testing.assert_array_equal(hard.count_guesses(names[boards]), guesses)


def unrefuted(puzzle, solution):
  """Count wrong candidates whose assumption leads to no contradiction."""
  cells = propagate([{int(d)} if d else set(range(1, 10)) for d in puzzle])
  return sum(
    propagate([*cells[:place], {digit}, *cells[place + 1 :]]) is not None
    for place in range(81)
    for digit in cells[place] - {int(solution[place])}
  )


def test_unrefuted_candidates_match_the_definition(puzzles):
  boards, solutions = puzzles['puzzle'], puzzles['solution']
  for row in np.random.default_rng(0).permutation(len(boards))[:4]:
    count = unrefuted(boards[row], solutions[row])
    assert puzzles['unrefuted'][row] == count
  hardest = np.array([[*HARD]], np.int8)
  assert hard.count_unrefuted(hardest) == unrefuted(
    hardest[0], data.solve(hardest)[0][0]
  )
  assert hard.count_unrefuted(hardest) == 192
  transposed = boards.reshape(-1, 9, 9).swapaxes(1, 2).reshape(-1, 81)
  np.testing.assert_array_equal(
    hard.count_unrefuted(transposed), puzzles['unrefuted']
  )


@pytest.mark.slow
def test_chains_climb_the_measure_that_is_asked_for():
  found = hard.climb(np.random.default_rng(0), 8, 80, measure='unrefuted')
  chain = np.unique(found['solution'], axis=0, return_inverse=True)[1]
  starts = np.flatnonzero(np.diff(chain, prepend=-1))
  ends = np.append(starts[1:], len(chain)) - 1
  counts = found['unrefuted']
  assert counts[ends].mean() > counts[starts].mean() + 10


def test_guesses_need_exactly_one_solution(puzzles):
  boards = puzzles['puzzle'][:2].copy()
  boards[0, np.flatnonzero(boards[0])[0]] = 0
  row = boards[1, :9]
  row[row == 0] = 1
  np.testing.assert_array_equal(hard.count_guesses(boards), -1)


def test_puzzles_are_minimal_and_have_one_solution(puzzles):
  boards, solutions = puzzles['puzzle'], puzzles['solution']
  assert boards.dtype == solutions.dtype == np.int8
  assert puzzles['guesses'].dtype == np.int32
  assert data.is_solution(solutions, boards).all()
  rows, cells = np.nonzero(boards)
  fewer = boards[rows]
  fewer[np.arange(rows.size), cells] = 0
  assert (data.solve(fewer)[1] == 2).all()
  for row in np.random.default_rng(0).permutation(len(boards))[:8]:
    assert reference(boards[row]) == (1, puzzles['guesses'][row])


def test_chains_visit_distinct_and_ever_harder_puzzles(puzzles):
  solutions, chain = np.unique(puzzles['solution'], axis=0, return_inverse=True)
  assert len(solutions) == 12
  assert (np.diff(chain) != 0).sum() == 11  # one chain after another
  renamed = np.where(
    puzzles['puzzle'] > 0, data.relabel(puzzles['solution']), 0
  )
  assert len(np.unique(renamed, axis=0)) == len(renamed) > 36
  starts = np.flatnonzero(np.diff(chain, prepend=-1))
  ends = np.append(starts[1:], len(chain)) - 1
  guesses = puzzles['guesses']
  assert guesses[ends].mean() > 2 * guesses[starts].mean() + 1


@pytest.mark.slow
def test_generate_is_a_function_of_the_seed():
  first, again, other = (
    hard.generate(np.random.default_rng(seed), 5, num_chains=3, num_steps=8)
    for seed in (0, 0, 1)
  )
  for name in ('puzzle', 'solution', 'guesses', 'unrefuted'):
    assert len(first[name]) == 5
    np.testing.assert_array_equal(first[name], again[name])
  assert (first['puzzle'] != other['puzzle']).any()


def test_learned_sets_are_unavoidable():
  puzzles, solutions = data.generate(np.random.default_rng(0), 6, 3, 3)
  puzzles[np.arange(6), (puzzles > 0).argmax(1)] = 0
  sets = hard._UnavoidableSets(solutions)
  masks = data.candidates(puzzles)
  found, owners, _ = data.search(masks, 2, data.units(3, 3))
  assert not sets.free(puzzles > 0).any()
  sets.learn(found, owners)
  learned = sets.free(puzzles > 0)
  assert learned.any(1).all()
  for board, index in np.argwhere(learned):
    cells = sets.cells(np.array([board]), np.array([index]))[0]
    holes = np.where(cells, 0, solutions[board])
    assert 0 < cells.sum() < 81
    assert data.solve(holes[None])[1] == 2
  # A given is needed if it is the only one in a set.
  full = np.ones((6, 81), bool)
  assert not sets.free(full).any()
  assert not sets.needed(full).any()
  board, index = np.argwhere(learned)[0]
  cells = sets.cells(np.array([board]), np.array([index]))[0]
  alone = np.flatnonzero(cells)[0]
  full[board] = ~cells
  full[board, alone] = True
  assert sets.needed(full)[board, alone]
