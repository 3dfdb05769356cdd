"""The optimizer does what its config says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core import optim
from core.errors import UserError
from tests.core import toy_task

PARAMS = {
  'layer': {'kernel': jnp.array([[1.0, -2.0]]), 'bias': jnp.array([3.0])},
  'other': {'kernel': jnp.array([[4.0]])},
}
GRADS = jax.tree.map(lambda p: 0.1 * p**2 + 0.3, PARAMS)


@pytest.fixture(autouse=True)
def standard_promotion():
  """Optax mixes types."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def make(**changes):
  changes = {f'optim.{name}': value for name, value in changes.items()}
  config = toy_task.make_config(**changes)
  return optim.make_optimizer(config.optim, total_steps=12)


def update(grads, **changes):
  optimizer, _ = make(**changes)
  return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]


def assert_close(tree, other):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), tree, other
  )


def test_adam_is_optax_adam():
  expected = optax.adam(0.01, b1=0.8, b2=0.95, eps=1e-3)
  assert_close(
    update(GRADS, learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3),
    expected.update(GRADS, expected.init(PARAMS))[0],
  )


def test_muon_orthogonalizes_the_selected_matrices():
  kernel = jax.random.normal(jax.random.key(0), (16, 16))
  params = {'node': {'kernel': kernel, 'bias': kernel[0]}, 'output': kernel}
  optimizer, _ = make(name='muon', learning_rate=0.01, muon_paths='kernel')
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  adam = optax.adam(0.01, nesterov=True)
  expected, _ = adam.update(params, adam.init(params))
  for pick in (lambda tree: tree['node']['bias'], lambda tree: tree['output']):
    np.testing.assert_allclose(pick(updates), pick(expected), rtol=1e-5)
  # All singular values are similar, and the RMS of the update is 0.2 x rate.
  values = np.linalg.svd(updates['node']['kernel'], compute_uv=False)
  np.testing.assert_allclose(values, 0.2 * 0.01 * 4, rtol=0.35)


@pytest.mark.parametrize('beta', [0.0, 0.95])
def test_muon_remembers_gradients_by_its_beta(beta):
  optimizer, _ = make(name='muon', learning_rate=0.01, muon_beta=beta)
  matrix = jnp.array([[1.0, 2.0], [3.0, 5.0]])
  first, second = {'kernel': matrix}, {'kernel': matrix[::-1]}
  start = optimizer.init(first)
  _, state = optimizer.update(first, start, first)
  after, _ = optimizer.update(second, state, first)
  alone, _ = optimizer.update(second, start, first)
  differs = jnp.abs(after['kernel'] - alone['kernel']).max() > 1e-4
  assert differs == (beta > 0)


def test_muon_leaves_vectors_to_adamw():
  by_all, by_kernels = (
    update(GRADS, name='muon', muon_paths=paths) for paths in ('.*', '.*kernel')
  )
  assert_close(by_all, by_kernels)


def test_l2_is_the_gradient_of_a_penalty():
  def penalty(params):
    kernel = params['layer']['kernel']
    return 0.05 / 2 * (kernel**2).sum()

  with_penalty = jax.tree.map(jnp.add, GRADS, jax.grad(penalty)(PARAMS))
  for clip_norm in 0.0, 0.1:
    # With a small eps, Adam's first update is nearly the gradient's sign.
    options = {'eps': 1.0, 'clip_norm': clip_norm}
    assert_close(
      update(GRADS, l2=0.05, l2_paths='layer/kernel', **options),
      update(with_penalty, **options),
    )


def test_weight_decay_is_decoupled_and_excludes_vectors():
  plain = update(GRADS, name='adamw', learning_rate=0.1)
  decayed = update(GRADS, name='adamw', learning_rate=0.1, weight_decay=0.5)
  assert_close(
    jax.tree.map(jnp.subtract, plain, decayed),
    jax.tree.map(lambda p: 0.1 * 0.5 * p * (p.ndim > 1), PARAMS),
  )


def test_gradients_are_clipped_by_their_global_norm():
  norm = optax.tree.norm(GRADS)
  halved = jax.tree.map(lambda g: g / 2, GRADS)
  assert_close(
    update(GRADS, clip_norm=float(norm / 2), eps=1.0), update(halved, eps=1.0)
  )
  assert_close(
    update(GRADS, clip_norm=float(norm * 2), eps=1.0), update(GRADS, eps=1.0)
  )


def test_constant_schedule_with_warmup():
  _, schedule = make(learning_rate=1.0, warmup_steps=4)
  values = [float(schedule(step)) for step in (0, 1, 3, 4, 11)]
  assert values == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])


def test_cosine_schedule_ends_at_zero():
  _, schedule = make(learning_rate=1.0, schedule='cosine', warmup_steps=4)
  values = [float(schedule(step)) for step in (0, 4, 6, 8, 12)]
  cosine = [1.0, (1 + 0.5**0.5) / 2, 0.5, 0.0]
  assert values == pytest.approx([0.2, *cosine], abs=1e-6)


def test_staircase_schedule():
  _, schedule = make(
    learning_rate=1.0,
    schedule='staircase',
    decay_begin=4,
    decay_every=2,
    decay_rate=0.5,
  )
  values = [float(schedule(step)) for step in (0, 4, 5, 6, 7, 8)]
  np.testing.assert_allclose(values, [1, 1, 1, 0.5, 0.5, 0.25])


def test_sgd_is_the_gradient():
  updates = update(GRADS, name='sgd', learning_rate=0.5)
  for step, grad in zip(
    jax.tree.leaves(updates), jax.tree.leaves(GRADS), strict=True
  ):
    np.testing.assert_allclose(step, -0.5 * grad)


@pytest.mark.parametrize(
  'name, message',
  [('name', 'expected one of sgd'), ('schedule', 'expected one of constant')],
)
def test_unknown_names(name, message):
  with pytest.raises(UserError, match=f"optim.{name}='lion': {message}"):
    make(**{name: 'lion'})


def test_a_staircase_has_no_warmup():
  with pytest.raises(UserError, match='optim.warmup_steps=4'):
    make(schedule='staircase', warmup_steps=4)
