"""An update has the same result on any mesh and with micro-batches."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs.hinting import sorting as list_sorting
from configs.rrn import sudoku
from configs.seq2set import sorting as set_sorting
from core import checkpoints, inference, sharding, step
from core.errors import UserError
from rrn.sudoku import data
from rrn.sudoku import task as sudoku_task
from tests.core import toy_task

ALONE = (1, 1, 1)


def make_mesh(data=1, fsdp=1, tensor=1):
  return sharding.make_mesh(
    {'data': data, 'fsdp': fsdp, 'tensor': tensor},
    jax.devices()[: data * fsdp * tensor],
  )


def make_sudoku():
  config = sudoku.get_config('smoke,network=cells')
  config.model.num_steps = 2
  return sudoku_task.make_task(config), config


def make_toy():
  return toy_task.ToyTask(), toy_task.make_config()


@functools.cache
def boards():
  puzzles, solutions = data.generate(np.random.default_rng(0), 16, 2, 2)
  return {'puzzle': puzzles, 'solution': solutions}


def train(task, config, mesh, num_calls=4):
  """Return the losses of all updates, metrics of the last call, and state."""
  program = step.make_program(task, config, mesh)
  is_sudoku = isinstance(task, sudoku_task.SudokuTask)
  columns = boards() if is_sudoku else task.arrays('train')
  arrays = {
    name: sharding.put(column, sharding.replicated(mesh))
    for name, column in columns.items()
  }
  state, losses = program.init(), []
  for _ in range(num_calls):
    state, metrics, call_losses = program.update(state, arrays)
    losses.append(np.asarray(call_losses))
  values = {name: float(metric.result()) for name, metric in metrics.items()}
  return np.concatenate(losses), values, state


@functools.cache
def sudoku_on(mesh, steps_per_call=1, microbatch_size=0):
  """Make four updates of Sudoku on a mesh."""
  task, config = make_sudoku()
  config.steps_per_call = steps_per_call
  config.microbatch_size = microbatch_size
  return train(task, config, make_mesh(*mesh), 4 // steps_per_call)


@functools.cache
def toy_on(mesh, steps_per_call=1, microbatch_size=0):
  """Make four updates of the toy task on a mesh."""
  task, config = make_toy()
  config.steps_per_call = steps_per_call
  config.microbatch_size = microbatch_size
  return train(task, config, make_mesh(*mesh), 4 // steps_per_call)


def is_same(tree, other):
  equal = jax.tree.map(
    lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), tree, other
  )
  return jax.tree.all(equal)


@pytest.mark.parametrize(
  'mesh',
  [
    pytest.param((8, 1, 1), marks=pytest.mark.slow),
    pytest.param((2, 4, 1), marks=pytest.mark.slow),
    (2, 2, 2),
  ],
)
def test_losses_do_not_depend_on_the_mesh(mesh):
  expected, expected_values, expected_state = sudoku_on(ALONE)
  losses, values, state = sudoku_on(mesh)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert values == pytest.approx(expected_values, rel=1e-4)
  assert int(state.step) == 4
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    state.ema_params,
    expected_state.ema_params,
  )


@pytest.mark.slow
@pytest.mark.parametrize('mesh', [(2, 2, 2), (1, 8, 1), (1, 1, 8)])
@pytest.mark.parametrize('configs', [set_sorting, list_sorting])
def test_losses_of_all_systems_do_not_depend_on_the_mesh(
  configs, mesh, tmp_path
):
  """Also restore the saved state on other meshes."""
  config = configs.get_config('smoke')
  # Where a gradient is near 0, Adam turns small differences into large ones.
  config.optim.name, config.optim.warmup_steps = 'sgd', 0
  config.optim.learning_rate = 0.1
  config.steps_per_call = 1
  config.microbatch_size = 16  # the examples of a device on the largest mesh
  task = inference.make_task(config)
  expected, _, expected_state = train(task, config, make_mesh())
  losses, _, state = train(task, config, make_mesh(*mesh))
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    state.params,
    expected_state.params,
  )
  with checkpoints.Checkpointer(tmp_path, keep_last=1, keep_every=0) as saver:
    saver.save(4, state)
  for shape in (1, 1, 1), (2, 4, 1):
    program = step.make_program(task, config, make_mesh(*shape))
    restored = checkpoints.restore(tmp_path, program.abstract_state)
    assert is_same(restored, state)
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(restored)} == {
      math.prod(shape)
    }
  used = {
    axis
    for leaf in jax.tree.leaves(state.params)
    for axis in leaf.sharding.spec
  }
  sizes = zip(('fsdp', 'tensor'), mesh[1:], strict=True)
  assert used >= {axis for axis, size in sizes if size > 1}


@pytest.mark.parametrize(
  'mesh, lstm, first, second',
  [
    pytest.param((8, 1, 1), P(), P(), P(), marks=pytest.mark.slow),
    pytest.param((2, 4, 1), P(None, 'fsdp'), P(), P(), marks=pytest.mark.slow),
    ((2, 2, 2), P(None, 'fsdp'), P(None, 'tensor'), P('tensor')),
  ],
)
def test_parameters_are_split_as_the_rules_say(mesh, lstm, first, second):
  state = sudoku_on(mesh)[-1]
  muon = state.opt_state[-1].inner_states['muon'].inner_state[0].mu
  # Adam, not Muon, updates the embeddings, so Muon has no state for them.
  muon = muon | {'digit_embedding': state.params['digit_embedding']}
  for tree in (state.params, state.ema_params, muon):
    layers = tree['input_mlp']['layers']
    for leaf, spec in [
      (tree['network']['lstm']['kernel'], lstm),
      (layers[0]['kernel'], first),
      (layers[1]['kernel'], second),
      (tree['digit_embedding'], P()),
    ]:
      wanted = jax.NamedSharding(make_mesh(*mesh), spec)
      assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
      part = wanted.shard_shape(leaf.shape)
      assert {s.data.shape for s in leaf.addressable_shards} == {part}


@pytest.mark.parametrize(
  'train_on, mesh, microbatch_size',
  [
    pytest.param(toy_on, ALONE, 4, marks=pytest.mark.slow),
    (toy_on, (2, 1, 1), 2),
    pytest.param(sudoku_on, (2, 2, 2), 2, marks=pytest.mark.slow),
  ],
)
def test_microbatches_change_nothing(train_on, mesh, microbatch_size):
  losses, values, state = train_on(mesh)
  micro_losses, micro_values, micro_state = train_on(
    mesh, microbatch_size=microbatch_size
  )
  np.testing.assert_allclose(micro_losses, losses, rtol=1e-5)
  assert micro_values == pytest.approx(values, rel=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    micro_state.params,
    state.params,
  )


def test_draws_of_micro_batches_do_not_depend_on_the_mesh():
  class NoisyTask(toy_task.ToyTask):
    def loss(self, model, batch, key):
      noise = jax.random.normal(key, batch['x'].shape)
      return super().loss(model, batch | {'x': batch['x'] + noise}, key)

  losses = {}
  for name, shape, microbatch_size in (
    ('alone', ALONE, 2),
    ('two', (2, 1, 1), 2),
    ('eight', (2, 2, 2), 2),
    ('larger', ALONE, 4),
  ):
    config = toy_task.make_config(microbatch_size=microbatch_size)
    losses[name], *_ = train(NoisyTask(), config, make_mesh(*shape), 1)
  np.testing.assert_allclose(losses['two'], losses['alone'], rtol=1e-5)
  np.testing.assert_allclose(losses['eight'], losses['alone'], rtol=1e-5)
  assert not np.allclose(losses['larger'], losses['alone'], rtol=1e-2)


@pytest.mark.parametrize(
  'train_on', [toy_on, pytest.param(sudoku_on, marks=pytest.mark.slow)]
)
def test_one_call_of_many_is_many_calls_of_one(train_on):
  losses, _, state = train_on(ALONE)
  more_losses, _, more_state = train_on(ALONE, steps_per_call=4)
  np.testing.assert_array_equal(more_losses, losses)
  if train_on is toy_on:
    assert is_same(more_state, state)
  # The compiler does not promise equal bits for the two large Sudoku programs.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    more_state,
    state,
  )


def test_metrics_are_means_over_the_updates_of_a_call():
  losses, values, _ = toy_on(ALONE, steps_per_call=4)
  assert losses.shape == (4,)
  assert values['loss'] == pytest.approx(losses.mean())
  assert values['learning_rate'] == pytest.approx(0.1)
  assert values['gradient_norm'] > 0


def test_seeds_differ():
  task, config = make_toy()
  config.seed = 1
  losses, _, _ = train(task, config, make_mesh())
  assert (losses != toy_on(ALONE)[0]).all()


def test_each_update_has_its_own_batch():
  task, config = make_toy()
  config.optim.learning_rate = 0.0
  losses, _, _ = train(task, config, make_mesh())
  assert len(set(losses.tolist())) == len(losses)


def test_average_of_the_parameters():
  task, config = make_toy()
  config.optim.ema_decay = 0.25  # reached at the third update
  program = step.make_program(task, config, make_mesh())
  state = program.init()
  average = jax.device_get(state.params)
  for done in range(4):
    state, _, _ = program.update(state, {'slope': jnp.ones(4)})
    decay = min(0.25, (1 + done) / (10 + done))
    average = jax.tree.map(
      lambda a, new, decay=decay: decay * a + (1 - decay) * new,
      average,
      jax.device_get(state.params),
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    state.ema_params,
    average,
  )
  assert state.eval_params is state.ema_params


def test_no_average():
  task, config = make_toy()
  config.optim.ema_decay = 0.0
  state = train(task, config, make_mesh(), num_calls=1)[-1]
  assert state.ema_params is None and state.eval_params is state.params


def test_state_is_donated():
  task, config = make_toy()
  mesh = make_mesh()
  program = step.make_program(task, config, mesh)
  state = program.init()
  program.update(state, {'slope': jnp.ones(4)})
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'batch_size': 12}, 'batch_size=12 is not divisible by 8, the number of'),
    (
      {'microbatch_size': 3, 'batch_size': 32},
      'microbatch_size=3 .* the 4 examples',
    ),
  ],
)
def test_indivisible_batches_are_errors(changes, message):
  config = toy_task.make_config(**changes)
  with pytest.raises(UserError, match=message):
    step.make_program(toy_task.ToyTask(), config, make_mesh(data=2, fsdp=4))
