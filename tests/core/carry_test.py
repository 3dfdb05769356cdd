"""The carry of a task does not depend on the mesh or on interruptions."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from core import checkpoints, loop, sharding, step
from core.metrics import Metric
from tests.core import toy_task


@dataclasses.dataclass(frozen=True)
class CarryingToyTask(toy_task.ToyTask):
  """A task whose inputs are decaying sums of the inputs of all updates."""

  def init_carry(self, key, size):
    return {'x': jax.random.normal(key, (size, self.width))}

  def loss(self, model, batch, key, carry):
    x = 0.5 * carry['x'] + batch['x']
    errors = (model(x) - batch['y']) ** 2
    return errors.mean(), {'small': Metric.mean(errors < 0.1)}, {'x': x}


def make_mesh(*shape):
  return sharding.make_mesh(
    dict(zip(sharding.AXES, shape, strict=True)),
    jax.devices()[: int(np.prod(shape))],
  )


@functools.cache
def train(mesh=(1, 1, 1), **changes):
  """Return the initial state, and the state after four updates."""
  mesh, task = make_mesh(*mesh), CarryingToyTask()
  config = toy_task.make_config(steps_per_call=4, **changes)
  program = step.make_program(task, config, mesh)
  first = program.init()
  kept = jax.tree.map(np.asarray, first)
  arrays = sharding.put(task.arrays('train'), sharding.replicated(mesh))
  return kept, program.update(first, arrays)[0]


def assert_close(tree, other):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    tree,
    other,
  )


def test_carry_goes_from_update_to_update():
  first, state = train()
  task = CarryingToyTask()
  x, key = first.carry['x'], jax.random.key(0)
  for update in range(4):
    batch_key, _ = jax.random.split(jax.random.fold_in(key, update))
    batch = task.batch(batch_key, task.arrays('train'), size=16, step=update)
    x = 0.5 * x + batch['x']
  np.testing.assert_allclose(state.carry['x'], x, rtol=1e-5)


@pytest.mark.parametrize(
  'microbatch_size', [pytest.param(0, marks=pytest.mark.slow), 1]
)
@pytest.mark.parametrize(
  'mesh', [pytest.param((8, 1, 1), marks=pytest.mark.slow), (2, 2, 2)]
)
def test_carry_does_not_depend_on_mesh_and_microbatches(mesh, microbatch_size):
  _, expected = train()
  _, state = train(mesh, microbatch_size=microbatch_size)
  assert_close((state.carry, state.params), (expected.carry, expected.params))
  assert state.carry['x'].sharding.spec == P(('data', 'fsdp'))


@pytest.mark.parametrize(
  'mesh, num_seeds',
  [pytest.param((8, 1, 1), 8, marks=pytest.mark.slow), ((2, 1, 1), 3)],
)
def test_each_seed_has_the_carry_of_a_separate_run(mesh, num_seeds):
  _, state = train(mesh, num_seeds=num_seeds)
  for seed in range(num_seeds)[:3]:
    _, alone = train(seed=seed)
    mine = jax.tree.map(lambda x, seed=seed: x[seed], state.carry)
    assert_close(mine, alone.carry)


@pytest.mark.parametrize(
  'num_seeds, meshes',
  [
    (1, ((2, 1, 1), (2, 1, 1))),
    pytest.param(2, ((1, 1, 1), (4, 2, 1)), marks=pytest.mark.slow),
    pytest.param(2, ((2, 1, 1), (2, 1, 1)), marks=pytest.mark.slow),
    pytest.param(1, ((1, 1, 1), (4, 2, 1)), marks=pytest.mark.slow),
  ],
)
def test_resumed_run_carries_on_exactly(tmp_path, meshes, num_seeds):
  """The state is equal bit for bit on the same mesh, else up to rounding."""

  def run(folder, mesh, total_steps):
    folder.mkdir(exist_ok=True)
    task, mesh = CarryingToyTask(), make_mesh(*mesh)
    # The constant schedule makes a shorter run the start of a longer one.
    config = toy_task.make_config(total_steps=total_steps, num_seeds=num_seeds)
    config.seed = 3
    program = step.make_program(task, config, mesh)
    assert loop.train(task, program, config, str(folder), mesh)
    return jax.device_get(checkpoints.restore(folder, program.abstract_state))

  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  expected = run(whole, meshes[0], 6)
  first = run(parts, meshes[0], 2)
  state = run(parts, meshes[1], 6)
  assert (first.carry['x'] != state.carry['x']).any()
  if meshes[0] == meshes[1]:
    jax.tree.map(np.testing.assert_array_equal, state, expected)
  else:
    assert_close(state.carry, expected.carry)
