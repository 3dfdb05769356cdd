"""Tests of the networks for Pretty-CLEVR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from rrn.pretty_clevr import render
from rrn.pretty_clevr.model import ModelConfig, make_model
from tests.rrn import perturbed

NETWORKS = {  # number of steps of each
  'recurrent_relational_network': 4,
  'relation_network': 1,
  'mlp': 1,
}
SMALL = {'width': 16, 'conv_widths': (4, 4, 4, 4, 4)}


def make(network='recurrent_relational_network', **options):
  options = {'num_steps': NETWORKS.get(network, 4)} | options
  config = ModelConfig(network=network, **options)
  return make_model(config, dtype=jnp.float32, rngs=nnx.Rngs(0))


def questions(num_questions=3):
  keys = jax.random.split(jax.random.key(0), 4)
  shape = (2, num_questions)
  return (
    jax.random.uniform(keys[0], (2, 8, 2)),
    jax.vmap(lambda key: jax.random.permutation(key, 8))(
      jax.random.split(keys[1], 2)
    ),
    jax.random.randint(keys[2], shape, 0, 16),
    jax.random.randint(keys[3], shape, 0, 8),
  )


@pytest.mark.parametrize(
  'network, count', [*zip(NETWORKS, (155_920, 155_920, 261_136), strict=True)]
)
def test_parameter_counts(network, count):
  params = nnx.eval_shape(lambda: nnx.state(make(network=network), nnx.Param))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
  'options',
  [
    *({'network': name} for name in NETWORKS),
    pytest.param({'pixels': True}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_every_parameter_has_a_gradient(options):
  graphdef, params = perturbed.split(make(**SMALL, **options))

  @jax.jit
  @jax.grad
  def gradient(params):
    model = nnx.merge(graphdef, params)
    return jnp.square(model(*questions(), num_steps=2)).mean()

  for path, leaf in jax.tree.leaves_with_path(gradient(params)):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'network': 'mlp'},
    pytest.param({'pixels': True}, marks=pytest.mark.slow),
  ],
)
def test_questions_about_a_scene_do_not_affect_each_other(options):
  model = make(**SMALL, **options)
  positions, colors, anchors, jumps = questions()
  run = jax.jit(lambda *args: model(*args, num_steps=2))
  together = run(positions, colors, anchors, jumps)
  assert together.shape == (2, 2, 3, 16)
  for index in range(3):
    one = slice(index, index + 1)
    alone = run(positions, colors, anchors[:, one], jumps[:, one])
    np.testing.assert_allclose(together[:, :, one], alone, atol=1e-5)


def test_turning_a_scene_changes_positions_not_distances():
  """Only the positions in the node inputs depend on the orientation."""
  graphdef, params = perturbed.split(make(**SMALL))
  positions, colors, anchors, jumps = questions()
  turned = jnp.stack([-positions[..., 1], positions[..., 0]], -1)

  @jax.jit
  def run(params, positions):
    model = nnx.merge(graphdef, params)
    return model(positions, colors, anchors, jumps, num_steps=2)

  assert np.abs(run(params, turned) - run(params, positions)).max() > 1e-4
  kernel = params['answer']['input_mlp']['layers'][0]['kernel']
  params['answer']['input_mlp']['layers'][0]['kernel'] = kernel.at[:2].set(0)
  np.testing.assert_allclose(
    run(params, turned), run(params, positions), atol=1e-4
  )


@pytest.mark.parametrize(
  'options, message',
  [
    ({'network': 'rn'}, r'network=rn: expected .* \(without pixels\) mlp'),
    ({'network': 'mlp', 'pixels': True}, r'=mlp: .* \(without pixels\) mlp'),
    ({'network': 'mlp', 'num_steps': 4}, 'pretty_clevr.py:network=mlp'),
    ({'network': 'relation_network', 'num_steps': 4}, 'has one step'),
    ({'object_loss': 1.0}, 'object_loss=1.0 needs pictures'),
    ({'conv_widths': (8, 8)}, r'conv_widths=\(8, 8\): expected 5 numbers'),
  ],
)
def test_errors_name_what_to_change(options, message):
  with pytest.raises(UserError, match=message):
    make(**options)


def test_object_loss_matches_its_definition():
  """Check a network whose predictions are equal for all cells."""
  model = make(**SMALL, pixels=True, object_loss=1.0)
  model.object_output.kernel[...] *= 0
  colors = jnp.array([[3, 1, 0, 2, 7, 5, 6, 4]])
  # Each object is in the middle of a cell; two share a cell.
  places = np.array([0, 0, 1, 5, 6, 10, 13, 15])
  positions = (np.stack([places % 4, places // 4], -1) + 0.5) / 4 * 1.2 - 0.1
  positions = jnp.asarray(positions[None], jnp.float32)

  @jax.jit
  def measure(model):
    cells = model.encode(positions, colors)
    return model.object_loss(cells, positions, colors)

  for shape, color, gap in (0, 0, 0.5), (2, 5, 0.25):
    bias = np.zeros((8, 11))
    bias[:, 0] = shape
    bias[:, 1] = color  # the first color for all shapes
    bias[:, -2:] = 0.5 + gap
    model.object_output.bias[...] = jnp.asarray(bias.ravel())
    loss, right = measure(model)
    of_shape = np.logaddexp(0, -shape) + 15 * np.logaddexp(0, shape)
    of_color = np.log(7 + np.exp(color)) - color / 8
    expected = of_shape + of_color + 2 * gap**2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(right, [1 / 8 if shape else 0])


def test_each_object_is_predicted_by_the_cell_that_shows_it():
  sizes = SMALL | {'conv_widths': (4, 4, 4, 4, 16)}
  model = make(**sizes, pixels=True, object_loss=1.0)
  positions = np.random.default_rng(0).uniform(size=(8, 2))
  colors = np.array([3, 1, 0, 2, 7, 5, 6, 4])
  kernel = np.zeros((16, 8, 11))  # the features of a cell are its number
  kernel[..., 0] = -20
  picture = render.render(jnp.asarray(positions)[None], jnp.array([colors]))
  ink = 1 - np.asarray(picture)[0].min(-1)
  for shape, (x, y) in enumerate((positions + 0.1) / 1.2 * 4):
    row, column = int(4 - y), int(x)
    where = kernel[4 * row + column, shape]
    where[[0, 1 + colors[shape]]] = 20
    where[-2:] = x - column, 4 - y - row
    patch = ink[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
    assert patch[int(where[-1] * 32), int(where[-2] * 32)] > 0.4
  model.object_output.kernel[...] = jnp.asarray(kernel.reshape(16, -1))
  loss, right = model.object_loss(
    jnp.eye(16)[None], jnp.asarray(positions)[None], jnp.array([colors])
  )
  assert loss < 1e-4 and right == 1
