"""Sets and their orders, metrics, and predict."""

import jax
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import sorting
from core.errors import UserError
from seq2set.sorting import task
from tests import learning


def make(arg='smoke', **changes):
  config = sorting.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


def test_table_1_has_a_run_for_each_of_its_numbers():
  names = ('pointer_network', *(f'process_{n}' for n in (0, 1, 5, 10)))
  points = sorting.sweep('cpu')
  assert list(points) == [
    f'size_{size}_{name}_glimpses_{glimpses}'
    for size in (5, 10, 15)
    for name in names
    for glimpses in (0, 1)
  ]
  baseline = points['size_10_pointer_network_glimpses_1']
  assert baseline.model.encoder == 'pointer_network'
  ours = points['size_10_process_1_glimpses_1']
  assert ours.model.encoder == 'read_process_write'
  assert ours.model.num_process_steps == 1
  assert ours.data.set_size == 10 and ours.model.num_glimpses == 1
  for point, share in (baseline, '28 %'), (ours, '44 %'):
    assert point.report['validation/accuracy'] == share


class Oracle(nnx.Module):
  """Sorts sets, but only points at element 0 if `fails(numbers)`."""

  def __init__(self, fails=lambda numbers: np.False_):
    self.write = OracleWrite(fails)

  def encode(self, elements):
    return elements, None

  def decode(self, elements, **options):
    return self.write.decode(elements, None, **options)


class OracleWrite(nnx.Module):
  def __init__(self, fails):
    self.fails = fails

  def decode(self, elements, start, *, mask=None, length, avoid_repeats=False):
    numbers = elements[..., 0]
    if mask is not None:
      numbers = jax.numpy.where(mask, numbers, 2)
    order = jax.numpy.argsort(numbers, 1)[:, :length]
    fails = jax.numpy.logical_and(not avoid_repeats, self.fails(numbers))
    return jax.numpy.where(fails[..., None], 0, order), None

  def __call__(self, elements, start, targets):
    return 100.0 * jax.nn.one_hot(targets, elements.shape[1])


def test_batches_are_sorted_by_their_order():
  batch = make().batch(jax.random.key(0), {}, size=64, step=0)
  numbers = np.take_along_axis(
    np.asarray(batch['elements'][..., 0]), np.asarray(batch['targets']), 1
  )
  assert numbers.shape == (64, 5)
  assert (np.diff(numbers, axis=1) >= 0).all()
  assert 0 <= numbers.min() < 0.05 and 0.95 < numbers.max() < 1


@pytest.mark.parametrize('outputs', ['pairs', 'random_pairs'])
def test_pairs_are_the_indices_and_their_ranks(outputs):
  made = make(f'smoke,outputs={outputs}')
  batch = made.batch(jax.random.key(0), {}, size=64, step=0)
  numbers = np.asarray(batch['elements'][..., 0])
  index, rank = np.divmod(np.asarray(batch['targets']), 5)
  np.testing.assert_array_equal(
    rank, np.take_along_axis(numbers.argsort(1).argsort(1), index, 1)
  )
  np.testing.assert_array_equal(np.sort(index), np.tile(np.arange(5), (64, 1)))
  is_by_rank = (rank == np.arange(5)).all(1)
  assert is_by_rank.all() if outputs == 'pairs' else is_by_rank.mean() < 0.1
  np.testing.assert_array_equal(
    made._order(batch['targets']), numbers.argsort(1)
  )


class PairOracle(Oracle):
  """Writes the true pairs from the highest rank to the lowest."""

  def __init__(self, errs=False):
    self.errs, self.write = errs, self

  def decode(self, elements, start=None, **_):
    count = elements.shape[1]
    order = jax.numpy.argsort(elements[..., 0], 1)
    pairs = (order * count + jax.numpy.arange(count)[None])[:, ::-1]
    return jax.numpy.where(self.errs, pairs.at[:, 0].add(1), pairs), None

  def __call__(self, elements, start, targets):
    return 100.0 * jax.nn.one_hot(targets, elements.shape[1] ** 2)


@pytest.mark.parametrize('errs', [False, True])
def test_pairs_count_in_any_order(errs):
  made = make('smoke,outputs=random_pairs', **{'evals.num_sets': 200})
  values = measure(made, 'validation', PairOracle(errs))
  assert values['accuracy'] == (not errs)
  assert values['positions'] == pytest.approx(0.8 if errs else 1)
  assert values['nats'] < 1e-3
  assert list(made.predict(PairOracle(), ['3 1 2', '4 1'])) == ['1 2 3', '1 4']
  (error,) = made.predict(PairOracle(), ['1 2 3 4 5 6'])
  assert 'at most 5, the largest rank' in str(error)


class RepeatedPairs(PairOracle):
  """Gives the first element every rank."""

  def decode(self, elements, start=None, **_):
    return jax.numpy.arange(elements.shape[1])[None], None


def test_pairs_that_leave_out_an_element_are_named(caplog):
  made = make('smoke,outputs=pairs')
  assert list(made.predict(RepeatedPairs(), ['3 1 2'])) == ['3 3 3']
  assert caplog.messages[0] == (
    'line 1: the answer leaves out a number of the set'
  )


def test_logits_of_pairs_move_with_the_elements():
  made = make('smoke,outputs=pairs')
  model = made.make_model(nnx.Rngs(0))
  elements = jax.random.uniform(jax.random.key(1), (2, 5, 1))
  targets = made._targets(jax.numpy.argsort(elements[..., 0]))
  run = jax.jit(lambda *args: model(*args))
  logits = run(elements, targets)
  assert logits.shape == (2, 5, 25)
  order = jax.numpy.array([3, 0, 4, 1, 2])
  targets = made._targets(jax.numpy.argsort(elements[:, order, 0]))
  moved = run(elements[:, order], targets).reshape(2, 5, 5, 5)
  expected = logits.reshape(2, 5, 5, 5)[:, :, order]
  np.testing.assert_allclose(moved, expected, atol=1e-4)


def measure(made, name, model):
  evaluator = made.evaluators()[name]
  columns = evaluator.arrays()
  batch = columns | {'weight': np.ones(len(columns['index']))}
  metrics = jax.jit(lambda x: evaluator.measure(model, x))(batch)
  return {name: np.asarray(m.result()) for name, m in metrics.items()}


def test_measures_of_an_oracle():
  made = make(**{'evals.num_sets': 400})
  values = measure(made, 'validation', Oracle())
  for name in 'accuracy', 'positions', 'permutations':
    assert values[name] == 1
  assert values['nats'] < 1e-3
  close = Oracle(
    lambda x: jax.numpy.diff(jax.numpy.sort(x, 1)).min(1) < task.GAPS[-2]
  )
  values = measure(made, 'validation', close)
  assert 0 < values['accuracy'] < 1
  assert values['accuracy_without_repeats'] == 1
  assert values['permutations'] == values['accuracy']
  known = values['accuracy_by_gap'][~np.isnan(values['accuracy_by_gap'])]
  np.testing.assert_array_equal(known, known > 0.5)
  np.testing.assert_array_equal(values['accuracy_by_gap'][-2:], 1)


def test_measures_of_other_sizes():
  made = make(**{'evals.num_sets': 50, 'evals.set_sizes': (2, 9)})
  odd = Oracle(lambda x: jax.numpy.full(len(x), x.shape[1] == 9))
  values = measure(made, 'test_sizes', odd)
  assert values['accuracy_2_elements'] == 1
  assert values['accuracy_9_elements'] == 0
  assert values['accuracy_without_repeats_9_elements'] == 1


def test_evaluation_sets_are_fixed_and_differ():
  index = np.arange(8)
  sets = {
    name: np.asarray(task._fixed_sets(seed, index, 5)['elements'])
    for name, seed in task._SEEDS.items()
  }
  again = task._fixed_sets(task._SEEDS['test'], index, 5)['elements']
  np.testing.assert_array_equal(again, sets['test'])
  assert len({x.tobytes() for x in sets.values()}) == 3
  assert len(np.unique(sets['test'])) == 40


def test_predict_keeps_the_numbers_as_written():
  made = make()
  lines = ['3 1 2', 'x', '', '# 3 1', '7', '1e2, 05 05 -3 0.25']
  answers = list(made.predict(Oracle(), lines))
  assert isinstance(answers.pop(1), UserError)
  assert answers == ['1 2 3', '', '', '7', '-3 0.25 05 05 1e2']


class Identity(Oracle):
  """Leaves the numbers where they are."""

  def decode(self, elements, *, length, **_):
    return jax.numpy.arange(length)[None], None


def test_predict_names_and_scores_wrong_answers(caplog):
  lines = ['1 2 output 1 2', '', '3 1 2 output 1 2 3', '2 1']
  assert list(make().predict(Identity(), lines)) == ['1 2', '', '3 1 2', '2 1']
  first, second, count, accuracy = (r.message for r in caplog.records)
  assert first == 'line 3: the answer is not in ascending order'
  assert second.startswith('line 4:') and count.startswith('2 of 3 answers')
  assert accuracy.startswith('accuracy 50.0%')


def test_unknown_choices_are_errors():
  with pytest.raises(UserError, match='config.model.outputs'):
    make('smoke,outputs=triples')
  with pytest.raises(UserError, match='ranks up to'):
    make('smoke,outputs=pairs', **{'evals.set_sizes': (2, 3)})
  with pytest.raises(UserError, match="decoder='write'"):
    make('smoke,outputs=pairs,decoder=assignment')
  with pytest.raises(UserError, match='pointer_attention'):
    make(**{'model.pointer_attention': 'dots'})
  with pytest.raises(UserError, match='pointer_network'):
    make('smoke,encoder=pointer_networks')
  with pytest.raises(UserError, match='at least 2'):
    make('smoke,set_size=1')


def test_a_table_compares_the_orders_of_pairs():
  points = sorting.sweep('cpu,table=pairs')
  assert list(points) == [
    f'size_{size}_{outputs}'
    for size in (5, 10)
    for outputs in ('pairs', 'random_pairs')
  ]


def test_paper_values():
  points = sorting.sweep('cpu')
  assert len(points) == 30
  cells = {name: c.report['validation/accuracy'] for name, c in points.items()}
  assert cells['size_10_process_5_glimpses_1'] == '57 %'
  assert cells['size_15_pointer_network_glimpses_0'] == '0 %'
  for arg in (
    'set_size=7',
    'encoder=deep_sets',
    'decoder=assignment',
    'process=2',
    'glimpses=2',
  ):
    assert sorting.get_config(arg).report['test/accuracy'] == '%'  # no number


@pytest.mark.slow
@pytest.mark.parametrize(
  'arg',
  [
    'smoke',
    'smoke,process=0,glimpses=0',
    'smoke,outputs=pairs',
    *(
      f'smoke,encoder={encoder}'
      for encoder in (
        'pointer_network',
        'deep_sets',
        'set_transformer',
        'set_transformer,decoder=assignment',
      )
    ),
  ],
)
def test_learns_one_batch(arg):
  made = make(arg)
  batch = learning.draw(made)
  without_gradient, _, metrics = learning.learn(made, batch, num_updates=1000)
  assert all('process' in name or 'start' in name for name in without_gradient)
  assert bool(without_gradient) == ('process=0' in arg)
  assert metrics['accuracy_given_prefix'] == 1
