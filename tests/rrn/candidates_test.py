"""The network on candidates: its equations as written, and its symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rrn import candidates
from rrn.sudoku import data, model
from tests.rrn import perturbed

MESSAGE_WIDTH = 4


def make(num_kinds):
  network = candidates.CandidateNetwork(
    num_kinds,
    width=8,
    message_width=MESSAGE_WIDTH,
    hidden_width=12,
    rngs=nnx.Rngs(0),
  )
  return perturbed.split(network)


def groups_of(box, **options):
  return model.make_groups(data.units(*box), **options)


def inputs(num_positions, num_symbols):
  """Draw random states and given candidates of three puzzles."""
  shape = 3, num_positions, num_symbols
  states = jax.random.normal(jax.random.key(0), (*shape, 8))
  return states, jax.random.bernoulli(jax.random.key(1), 0.3, shape)


def step_by_pairs(params, states, given, groups):
  """Compute the equations of `CandidateNetwork` with a message per pair."""
  batch, num_positions, num_symbols, width = states.shape
  nodes = [(n, k) for n in range(num_positions) for k in range(num_symbols)]
  lists = [[[(n, k) for k in range(num_symbols)] for n in range(num_positions)]]
  for members in groups.kinds:
    lists.append(
      [
        [(n, k) for n in np.flatnonzero(positions)]
        for positions in members
        for k in range(num_symbols)
      ]
    )

  def affine(layer, x):
    bias = layer.get('bias', jnp.zeros(1))
    return x @ layer['kernel'] + bias[None, None]

  states = states.reshape(batch, -1, width)
  given = given.reshape(batch, -1).astype(int)
  received = [states]
  for kind, its_groups in enumerate(lists):
    is_member = np.array([[n in g for n in nodes] for g in its_groups])
    # Whether a node gets the message of another, [groups, receiver, sender].
    pairs = (
      is_member[:, :, None]
      & is_member[:, None]
      & ~np.eye(len(nodes), dtype=bool)
    )
    sizes = is_member.sum(1)[:, None, None]
    part = slice(kind * MESSAGE_WIDTH, (kind + 1) * MESSAGE_WIDTH)
    sent = jax.nn.relu(affine(params['send'], states))[..., part]
    received.append(
      jnp.einsum('grs,bsd->brd', pairs / np.sqrt(sizes - 1), sent)
    )
  hidden = affine(params['hidden'], jnp.concatenate(received, -1))
  hidden += params['inputs'][given]
  x = states + affine(params['update'], jax.nn.relu(hidden))
  x /= jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
  return x.reshape(batch, num_positions, num_symbols, width)


@pytest.mark.parametrize(
  'sharing',
  [
    pytest.param(name, marks=[] if name == 'lines' else pytest.mark.slow)
    for name in model.SHARING
  ],
)
def test_step_equals_one_with_a_message_per_pair(sharing):
  """Compare values and gradients on 4x4 boards."""
  groups = groups_of((2, 2), sharing=sharing)
  graphdef, params = make(len(groups.kinds))
  states, given = inputs(16, 4)
  weights = jax.random.normal(jax.random.key(2), states.shape)

  def fast(params, states):
    return nnx.merge(graphdef, params)(states, given, groups)

  def pairs(params, states):
    return step_by_pairs(params, states, given, groups)

  def gradients(step):
    return jax.jit(
      jax.grad(lambda *args: (step(*args) * weights).sum(), argnums=(0, 1))
    )(params, states)

  np.testing.assert_allclose(
    jax.jit(fast)(params, states), jax.jit(pairs)(params, states), atol=1e-5
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    gradients(fast),
    gradients(pairs),
  )


def test_kinds_may_be_any_groups_of_positions():
  """Groups may have several sizes, and a position may be in no group."""
  groups = candidates.Groups([np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)])
  graphdef, params = make(1)
  states, given = inputs(4, 2)
  fast = jax.jit(lambda x: nnx.merge(graphdef, params)(x, given, groups))
  pairs = jax.jit(lambda x: step_by_pairs(params, x, given, groups))
  out = fast(states)
  np.testing.assert_allclose(out, pairs(states), atol=1e-5)
  changed = fast(states.at[:, 1].add(1.0))
  moved = np.abs(changed - out).max((0, 2, 3)) > 1e-6
  np.testing.assert_array_equal(moved, [True, True, False, False])


def test_group_of_one_position():
  kinds = [np.ones((2, 3), bool), np.array([[1, 1, 0], [0, 1, 0]], bool)]
  with pytest.raises(ValueError, match=r'kinds\[1\]\[1\] has size 1, expected'):
    candidates.Groups(kinds)


@pytest.mark.parametrize('sharing', model.SHARING)
@pytest.mark.parametrize('symmetry', ['digits', 'rows', 'bands', 'transpose'])
def test_symmetries_of_sudoku_permute_the_outputs(symmetry, sharing):
  """Transposition is a symmetry only if rows and columns share weights."""
  if symmetry == 'transpose' and sharing == 'separate':
    pytest.skip('rows and columns do not share weights')
  config = model.ModelConfig(
    network='candidates',
    width=8,
    message_width=MESSAGE_WIDTH,
    hidden_width=12,
    groups=sharing,
  )
  network = model.SudokuCandidates(config, dtype=jnp.float32, rngs=nnx.Rngs(0))
  graphdef, params = perturbed.split(network)
  solve = jax.jit(lambda x: nnx.merge(graphdef, params)(x, num_steps=4)[-1])
  rng = np.random.default_rng(0)
  puzzles = data.generate(rng, 2, 3, 3)[0].astype(np.int32)
  grid, digits = np.arange(81).reshape(9, 9), np.arange(10)
  match symmetry:
    case 'digits':
      digits = np.array([0, 3, 1, 2, 9, 8, 7, 4, 5, 6])
    case 'rows':
      grid = grid[[1, 2, 0, 3, 5, 4, 6, 7, 8]]
    case 'bands':
      grid = grid[:, [6, 7, 8, 0, 1, 2, 3, 4, 5]]
    case 'transpose':
      grid = grid.T
  cells = grid.ravel()
  plain, permuted = solve(puzzles), solve(digits[puzzles][:, cells])
  np.testing.assert_allclose(permuted[..., digits], plain[:, cells], atol=1e-5)
  assert np.abs(permuted - plain).max() > 0.01  # it is another board
