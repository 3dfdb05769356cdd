"""Several seeds at once: each equals a separate run, on any mesh."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs.hinting import sorting as list_sorting
from configs.rrn import pretty_clevr
from configs.seq2set import sorting as set_sorting
from core import evaluation, inference, loop, sharding, step
from core.errors import UserError
from core.io import weights
from core.metrics import Metric
from core.report import report
from core.run import signals
from core.task import Evaluator
from tests.core import loop_test, toy_task

# With these settings, updates depend on the shapes and norms within one seed.
MUON = {
  'optim.name': 'muon',
  'optim.weight_decay': 0.1,
  'optim.clip_norm': 0.1,
}
# Mesh and number of seeds: the devices split the seeds, or else the batch.
SPLIT, WHOLE = ((8, 1, 1), 8), ((8, 1, 1), 3)


def make_mesh(data, fsdp, tensor):
  return sharding.make_mesh(
    {'data': data, 'fsdp': fsdp, 'tensor': tensor},
    jax.devices()[: data * fsdp * tensor],
  )


def train(mesh=(1, 1, 1), *, task=None, **changes):
  """Return initial parameters, and losses, metrics, and state of 4 updates."""
  mesh, task = make_mesh(*mesh), task or toy_task.ToyTask()
  config = toy_task.make_config(steps_per_call=4, **changes)
  program = step.make_program(task, config, mesh)
  state = program.init()
  first = jax.device_get(state.params)
  arrays = sharding.put(task.arrays('train'), sharding.replicated(mesh))
  state, metrics, losses = program.update(state, arrays)
  return first, np.asarray(losses), metrics, state


def assert_close(tree, other):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    tree,
    other,
  )


@functools.cache
def train_alone(seed, is_muon):
  return train(seed=seed, **MUON if is_muon else {})


@pytest.mark.parametrize(
  'mesh, num_seeds, is_muon',
  [
    pytest.param(*SPLIT, False, marks=pytest.mark.slow),
    pytest.param(*WHOLE, True, marks=pytest.mark.slow),
    ((2, 2, 2), 8, True),
    pytest.param((2, 4, 1), 2, False, marks=pytest.mark.slow),
    pytest.param((1, 1, 1), 3, True, marks=pytest.mark.slow),
  ],
)
def test_each_seed_matches_a_separate_run(mesh, num_seeds, is_muon):
  changes = MUON if is_muon else {}
  first, losses, metrics, state = train(
    mesh, seed=5, num_seeds=num_seeds, **changes
  )
  assert losses.shape == (4, num_seeds)
  assert state.step.shape == () and state.step == 4
  for index in range(num_seeds)[:3]:
    expected = train_alone(5 + index, is_muon)
    seed = jax.tree.map(lambda x, index=index: x[index], first)
    jax.tree.map(np.testing.assert_array_equal, seed, expected[0])
    np.testing.assert_allclose(losses[:, index], expected[1], rtol=1e-5)
    for name in ('params', 'ema_params', 'opt_state'):
      assert_close(
        jax.tree.map(lambda x, index=index: x[index], getattr(state, name)),
        getattr(expected[3], name),
      )
  assert metrics['loss'].result() == pytest.approx(losses.mean())


@pytest.mark.campaign
@pytest.mark.parametrize('configs', [pretty_clevr, set_sorting, list_sorting])
def test_each_seed_of_each_system_matches_a_separate_run(configs):
  """Compare the losses and the evaluation after two updates."""
  losses, measured = [], []
  for seed, num_seeds in (5, 2), (5, 1), (6, 1):
    config = configs.get_config('smoke')
    # Where a gradient is near 0, Adam turns small differences into large ones.
    config.optim.name, config.optim.warmup_steps = 'sgd', 0
    config.steps_per_call, config.seed, config.num_seeds = 2, seed, num_seeds
    mesh, task = make_mesh(2, 1, 1), inference.make_task(config)
    program = step.make_program(task, config, mesh)
    state, _, its_losses = program.update(program.init(), {})
    losses.append(np.asarray(its_losses))
    evaluator = next(e for e in task.evaluators().values() if e.every)
    evaluate = evaluation.make_evaluation(
      evaluator, program.merge, mesh, num_seeds
    )
    totals = {k: m.total for k, m in evaluate(state.eval_params).items()}
    measured.append(jax.device_get(totals))
  both, *alone = losses
  np.testing.assert_allclose(both, np.stack(alone, axis=1), rtol=1e-4)
  for index, expected in enumerate(measured[1:]):
    assert_close({k: v[index] for k, v in measured[0].items()}, expected)


@pytest.mark.slow
@pytest.mark.parametrize('mesh, num_seeds', [SPLIT, WHOLE])
def test_microbatches_change_nothing(mesh, num_seeds):
  _, losses, _, state = train(mesh, num_seeds=num_seeds)
  _, micro_losses, _, micro_state = train(
    mesh, num_seeds=num_seeds, microbatch_size=1
  )
  np.testing.assert_allclose(micro_losses, losses, rtol=1e-5)
  assert_close(micro_state.params, state.params)


@pytest.mark.slow
def test_any_batch_size_fits_if_the_seeds_are_split():
  assert train(SPLIT[0], num_seeds=8, batch_size=3)[1].shape == (4, 8)
  with pytest.raises(UserError, match='batch_size=3 is not divisible'):
    train(WHOLE[0], num_seeds=3, batch_size=3)


def test_updates_of_split_seeds_need_no_other_device():
  """Only the logged metrics are gathered, once per call."""
  config = toy_task.make_config(num_seeds=8, steps_per_call=4)
  program = step.make_program(toy_task.ToyTask(), config, make_mesh(8, 1, 1))
  arrays = {'slope': jnp.ones(4)}
  compiled = program.update.lower(program.abstract_state, arrays).compile()
  exchanges = re.findall(r'(all-\w+|collective-\w+)\(', compiled.as_text())
  assert len(exchanges) <= 2


@pytest.mark.parametrize(
  'mesh, num_seeds, kernel, bias',
  [
    ((2, 2, 2), 4, P(('data', 'fsdp'), None, 'tensor'), P(('data', 'fsdp'))),
    ((2, 2, 2), 3, P(None, 'fsdp', 'tensor'), P()),
  ],
)
def test_shardings_of_several_seeds(mesh, num_seeds, kernel, bias):
  mesh = make_mesh(*mesh)
  state = {
    'layers/0/kernel': jnp.zeros((num_seeds, 64, 128)),
    'layers/0/bias': jnp.zeros((num_seeds, 128)),
    'step': jnp.zeros(()),
  }
  specs = sharding.state_shardings(state, mesh, num_seeds)
  wanted = {'layers/0/kernel': kernel, 'layers/0/bias': bias, 'step': P()}
  for name, spec in wanted.items():
    other = jax.NamedSharding(mesh, spec)
    assert specs[name].is_equivalent_to(other, state[name].ndim), name


def test_no_seeds_is_an_error():
  with pytest.raises(UserError, match='num_seeds=0: expected at least 1'):
    train(num_seeds=0)


@pytest.mark.parametrize('mesh, num_seeds', [SPLIT, WHOLE])
def test_evaluation_measures_each_seed(mesh, num_seeds):
  columns = {'value': np.arange(13.0)}
  evaluator = Evaluator(
    arrays=lambda: columns,
    measure=lambda scale, batch: {
      'mean': Metric.mean(scale * batch['value'], batch['weight'])
    },
    batch_size=4,
    every=0,
  )
  run = evaluation.make_evaluation(
    evaluator, lambda params: params, make_mesh(*mesh), num_seeds
  )
  means = run(np.arange(num_seeds, dtype=np.float32))['mean'].result()
  np.testing.assert_allclose(means, 6.0 * np.arange(num_seeds), rtol=1e-6)


def test_values_are_medians_and_the_spread_of_seeds():
  measured = {
    'solved': Metric(jnp.array([1.0, 4.0, 2.0]), jnp.full(3, 4.0)),
    'curve': Metric(
      jnp.array([[1.0, 2.0], [3.0, 0.0], [2.0, 7.0]]), jnp.ones((3, 2))
    ),
    'nothing': Metric(jnp.zeros(3), jnp.zeros(3)),
  }
  values = evaluation.values(measured, 'test/', 3)
  assert np.isnan(values['test/nothing'])
  assert {k: v for k, v in values.items() if 'nothing' not in k} == {
    'test/solved': 0.5,
    'test/solved_min': 0.25,
    'test/solved_max': 1.0,
    'test/solved_by_seed': [0.25, 1.0, 0.5],
    'test/curve': [2.0, 2.0],
  }


@pytest.fixture
def run(monkeypatch):
  """Return `loop.run` with the toy task and three seeds."""
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())

  def run(folder, **changes):
    config = toy_task.make_config(**{'num_seeds': 3, 'mesh.data': 8, **changes})
    return loop.run(config, str(folder))

  return run


@pytest.mark.slow
def test_run_records_all_seeds(tmp_path, run):
  assert run(tmp_path / 'all')
  errors = []
  for seed in range(3):
    assert run(tmp_path / str(seed), seed=seed, num_seeds=1)
    last = loop_test.read_lines(tmp_path / str(seed))[-1]
    errors.append(last['eval/test/error'])
  last = loop_test.read_lines(tmp_path / 'all')[-1]
  expected = {
    'step': 6,
    'eval/test/error': np.median(errors),
    'eval/test/error_min': min(errors),
    'eval/test/error_max': max(errors),
    'eval/test/error_by_seed': errors,
  }
  assert last.keys() == expected.keys()
  for name, value in expected.items():
    assert last[name] == pytest.approx(value, rel=1e-4), name
  text = report.report(tmp_path / 'all')
  low, middle, high = sorted(errors)
  assert f'| {middle:.4g} ({low:.4g} to {high:.4g}, 3 seeds) |' in text
  assert 'error_min' not in text
  assert '96 examples seen by each seed' in text and 'seeds 0 to 2;' in text


@pytest.mark.parametrize(
  'num_seeds', [3, pytest.param(8, marks=pytest.mark.slow)]
)
def test_stopped_run_resumes_exactly(tmp_path, run, monkeypatch, num_seeds):
  changes = {'num_seeds': num_seeds, **MUON}
  assert run(tmp_path / 'whole', **changes)
  with monkeypatch.context() as patch:
    patch.setattr(signals.StopSignal, '__call__', lambda self: True)
    assert not run(tmp_path / 'stopped', **changes)
  assert run(tmp_path / 'stopped', **changes)
  assert loop_test.read_lines(tmp_path / 'whole') == loop_test.read_lines(
    tmp_path / 'stopped'
  )
  name = 'weights.safetensors'
  whole, stopped = tmp_path / 'whole' / name, tmp_path / 'stopped' / name
  assert whole.read_bytes() == stopped.read_bytes()


@pytest.mark.slow
def test_number_of_seeds_of_a_run_cannot_change(tmp_path, run):
  assert run(tmp_path)
  with pytest.raises(UserError, match=r'num_seeds \(3 there, 2 now\)'):
    run(tmp_path, num_seeds=2)


@pytest.mark.slow
def test_run_from_before_num_seeds_existed_resumes(tmp_path, run):
  assert run(tmp_path, num_seeds=1)
  config = json.loads((tmp_path / 'config.json').read_text())
  del config['num_seeds']
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert inference.load(str(tmp_path), {}).config.num_seeds == 1
  assert 'seed 0;' in report.report(tmp_path)
  assert run(tmp_path, num_seeds=1)


@pytest.mark.slow
def test_seed_whose_loss_is_not_finite_is_named(tmp_path, monkeypatch, run):
  class Task(toy_task.ToyTask):
    def loss(self, model, batch, key):
      loss, metrics = super().loss(model, batch, key)
      # Only the loss of the second seed.
      is_second = (model.kernel[...] == second).all()
      return jnp.where(is_second, jnp.nan, loss), metrics

  second = train(seed=1)[0]['kernel']
  monkeypatch.setattr(inference, 'make_task', lambda _: Task())
  changes = {'seed': 0, 'optim.learning_rate': 0.0}
  with pytest.raises(FloatingPointError, match='update 1 of seed 1 has a'):
    run(tmp_path, **changes)


@pytest.mark.slow
def test_all_seeds_start_from_weights(tmp_path, run):
  still = {'optim.learning_rate': 0.0, 'init_weights': str(tmp_path / 'one')}
  assert run(tmp_path / 'one', seed=7, num_seeds=1)
  assert run(tmp_path / 'all', **still)
  one = inference.load(str(tmp_path / 'one'), {}).params
  many = inference.load(str(tmp_path / 'all'), {}).params
  assert_close(many, jax.tree.map(lambda x: np.stack([x] * 3), one))
  still['init_weights'] = str(tmp_path / 'all')
  with pytest.raises(UserError, match=r'float32\[3, 1\] in the file'):
    run(tmp_path / 'again', **still)


@pytest.mark.slow
def test_starts_from_weights_that_lack_new_parameters(tmp_path, run):
  old = {'kernel': np.arange(4, dtype=np.float32)[:, None]}
  weights.save_weights(tmp_path, old, step=1)
  still = {'optim.learning_rate': 0.0, 'init_weights': str(tmp_path)}
  with pytest.raises(UserError, match='bias is missing in the file'):
    run(tmp_path / 'new', **still, init_missing_regex='kernel')
  assert run(tmp_path / 'new', **still, init_missing_regex='bi.*')
  params = inference.load(str(tmp_path / 'new'), {}).params
  assert_close(
    params, {'kernel': np.stack([old['kernel']] * 3), 'bias': np.zeros((3, 1))}
  )


def test_eval_measures_all_seeds(tmp_path, run):
  assert run(tmp_path)
  trained = inference.load(str(tmp_path), {})
  values = inference.evaluate(trained, str(tmp_path))
  results = json.loads((tmp_path / 'results.json').read_text())['metrics']
  by_seed = results['test/error_by_seed']['value']
  assert len(set(by_seed)) == 3
  assert values == {
    'step': 6,
    'test/error': np.median(by_seed),
    'test/error_min': min(by_seed),
    'test/error_max': max(by_seed),
  }
  assert results['test/error'] == {'value': values['test/error']}
  first = jax.tree.map(lambda x: x[0], trained.params)
  np.testing.assert_array_equal(trained.model.kernel[...], first['kernel'])


def test_one_seed_becomes_weights_of_its_own(tmp_path, run):
  many, one = tmp_path / 'many', tmp_path / 'one'
  assert run(many, seed=4)
  picked = inference.load(str(many), {'num_seeds': 1, 'seed': 6})
  inference.evaluate(picked, str(one))
  values = json.loads((one / 'results.json').read_text())['metrics']
  last = loop_test.read_lines(many)[-1]['eval/test/error_by_seed']
  assert values['test/error']['value'] == pytest.approx(last[2])
  assert set(values) == {'test/error'}
  loaded = inference.load(str(one), {})
  assert loaded.config.seed == 6 and loaded.config.num_seeds == 1
  stacked = inference.load(str(many), {}).params
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b[2]), loaded.params, stacked
  )
  for taken in (many, one):
    with pytest.raises(UserError, match='in use.*new folder.*with --workdir'):
      inference.evaluate(picked, str(taken))


@pytest.mark.parametrize(
  'overrides',
  [
    pytest.param({'seed': 1}, marks=pytest.mark.slow),
    pytest.param({'num_seeds': 2}, marks=pytest.mark.slow),
    {'num_seeds': 1, 'seed': 3},
    pytest.param({'num_seeds': 0}, marks=pytest.mark.slow),
  ],
)
def test_unknown_seeds_are_errors(tmp_path, run, overrides):
  assert run(tmp_path)
  with pytest.raises(UserError, match='holds seeds 0 to 2; keep'):
    inference.load(str(tmp_path), overrides)


@pytest.mark.slow
def test_seed_of_an_unfinished_run(tmp_path, run, monkeypatch):
  monkeypatch.setattr(signals.StopSignal, '__call__', lambda self: True)
  assert not run(tmp_path / 'many')
  picked = inference.load(str(tmp_path / 'many'), {'num_seeds': 1, 'seed': 2})
  with pytest.raises(UserError, match='1 of 6 updates are done'):
    inference.evaluate(picked, str(tmp_path / 'one'))
