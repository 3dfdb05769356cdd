"""Hint shares, fixed sets, and exact match against decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.hinting import sorting
from core import sharding, step
from core.errors import UserError
from hinting import hinted_task, vocabulary
from hinting.sorting import hints, task
from hinting.transformer import Transformer
from hinting.vocabulary import Token
from tests import learning


def make(arg='smoke', **changes):
  config = sorting.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


@functools.cache
def drawer(made, size):
  return jax.jit(lambda key, at: made.batch(key, {}, size=size, step=at))


def draw(made, size=16, seed=0, at=0):
  return drawer(made, size)(jax.random.key(seed), at)


class Oracle(nnx.Module):
  """A model that sorts; for `wrong(values)`, its answer ends too early."""

  def __init__(self, wrong=lambda values: np.False_):
    self.wrong = wrong

  def __call__(self, tokens, at):
    def solve(tokens, at):
      found = []
      for row, places in zip(np.asarray(tokens), np.asarray(at), strict=True):
        end = row.tolist().index(Token.SORT)
        values = row[1:end]
        answer = [*np.sort(values), Token.EOS]
        if self.wrong(values):
          answer[-2] = Token.EOS
        found.append([answer[place - end] for place in places])
      return np.array(found, np.int32)

    shape = jax.ShapeDtypeStruct(at.shape, jnp.int32)
    found = jax.pure_callback(solve, shape, tokens, at)
    return jax.nn.one_hot(found, vocabulary.size(32))


def measure(made, model, name='validation', count=6):
  batch = {'index': np.arange(count), 'weight': np.ones(count)}
  measure = made.evaluators()[name].measure
  measured = learning.compiled(measure, model, batch)
  return {key: float(m.result()) for key, m in measured.items()}


def test_shares_are_exact():
  for hint, share, counts in [
    ('', 0.5, {'sort': 8}),
    ('count', 0.5, {'sort': 4, 'count': 4}),
    ('count', 0.25, {'sort': 6, 'count': 2}),
    ('successor+count', 0.5, {'sort': 4, 'successor': 2, 'count': 2}),
  ]:
    made = make(**{'data.hint': hint, 'data.hint_share': share})
    batch = jax.eval_shape(functools.partial(draw, made))
    sizes = {
      name.split('/')[0]: len(x)
      for name, x in batch.items()
      if name.endswith('tokens')
    }
    assert sizes == counts
  with pytest.raises(UserError, match='whole number'):
    draw(make(**{'data.hint_share': 0.3}))
  with pytest.raises(UserError, match='whole number'):
    draw(make(), size=15)


def test_rows_that_do_not_divide_into_micro_batches():
  config = sorting.get_config('smoke,hint=successor+count,hint_share=0.46875')
  made = task.make_task(config)
  mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
  program = step.make_program(made, config, mesh)
  with pytest.raises(
    UserError, match="rows of 'successor.* by 2, the number of micro"
  ):
    jax.eval_shape(program.update, program.abstract_state, {})


@pytest.mark.slow
def test_rows_of_every_hint_of_the_sweep():
  points = sorting.sweep('smoke')
  kinds = {'none', *hints.kinds(32)} - {'sort', 'scratchpad'}
  assert set(points) == kinds
  for name, config in points.items():
    names = {'sort', name} - {'none'}
    batch = jax.eval_shape(functools.partial(draw, task.make_task(config)))
    assert {column.split('/')[0] for column in batch} == names


def test_tables():
  sizes = {
    table: len(sorting.sweep(f'smoke,table={table}'))
    for table in sorting.TABLES
  }
  assert sizes == {
    'hints': 14,
    'hint_shares': 4,
    'temperatures': 8,
    'positions': 12,
    'lists': 10,
    'depths': 6,
    'training_sets': 8,
    'baselines': 4,
    'recipes': 10,
  }
  made = {
    name: task.make_task(config)
    for table in sorting.TABLES
    for name, config in sorting.sweep(f'smoke,table={table}').items()
  }
  assert made['0.25'].data.hint_share == 0.25
  assert made['num_layers_4_hint_none'].model_config.num_layers == 4
  assert made['num_rows_10000_hint_successor'].data.num_rows == 10_000
  assert made['lists_distinct_hint_none'].data.hint == ''
  assert made['main_scratchpad_curriculum_750'].data.curriculum_steps == 750
  assert draw(made['0.0']).keys() == draw(made['none']).keys()
  with pytest.raises(UserError, match="did you mean 'depths'"):
    sorting.get_config('smoke,table=depth')
  for table in 'depths', 'recipes':
    with pytest.raises(UserError, match='the table sets hint'):
      sorting.sweep(f'smoke,table={table},hint=count')


def test_recipes_set_the_number_of_updates():
  points = sorting.sweep('cpu,table=recipes')
  config = points['muon_log_diverse_16000_none']
  assert (config.total_steps, config.num_seeds) == (16_000, 5)
  assert config.data.hint == '' and config.model.temperature == 'log'
  assert points['adamw_5000_successor'].optim.name == 'adamw'
  assert (
    sorting.sweep('smoke,table=recipes')['muon_1500_none'].total_steps < 1500
  )


def test_paper_values_require_the_papers_setting():
  """The paper has values only for configs that change nothing but the hint."""

  def paper(arg):
    return sorting.get_config(arg).report['test/accuracy_length_100']

  assert [paper(f'hint={hint}') for hint in ('none', 'successor', 'count')] == [
    '< 1 %',
    '> 92 %',
    '',
  ]
  changes = (
    'temperature=affine_log',
    'lists=rich',
    'num_layers=1',
    'hint_share=0.75',
  )
  assert {paper(f'hint=none,{change}') for change in changes} == {''}


def test_figure_of_a_table():
  config = sorting.get_config('smoke')
  values = {f'test/accuracy_length_{n}': n / 100 for n in (4, 8, 16, 32)}
  points = {
    'first': (config, values),
    'second': (config, values | {'test/accuracy_length_32_max': 0.5}),
    'new': (config, {}),
  }
  (figure,) = task.sweep_figures(points).values()
  *curves, trained = sorted(
    figure.axes[0].lines, key=lambda line: -len(line.get_xdata())
  )
  assert [line.get_label() for line in curves] == ['first', 'second']
  assert list(curves[0].get_ydata()) == [0.04, 0.08, 0.16, 0.32]
  assert list(trained.get_xdata()) == [8, 8]
  bands = [
    band.get_datalim(band.axes.transData) for band in figure.axes[0].collections
  ]
  assert [round(band.ymax, 6) for band in bands] == [0.32, 0.5]
  assert task.sweep_figures({'new': (config, {})}) == {}


def test_a_fixed_training_set():
  def lists(made):
    batches = [draw(made, size=64, seed=seed) for seed in range(8)]
    tokens = np.concatenate([b['sort/tokens'] for b in batches])
    return {row.tobytes() for row in tokens}

  assert len(lists(make(**{'data.num_rows': 20}))) == 10
  assert len(lists(make())) > 120


def test_curriculum():
  made = make(**{'data.curriculum_steps': 600})
  longest = []
  for at in 0, 99, 100, 300, 600, 10**6:
    batch = draw(made, size=64, at=at)
    lengths = batch['sort/weights'].sum(1) - 2
    assert (lengths == lengths[0]).all()
    longest.append(int(lengths[0]) - 2)
  assert longest == [2, 2, 3, 5, 8, 8]


def test_measures_of_an_oracle():
  made = make(**{'evals.lengths': (8, 16)})
  assert set(measure(made, Oracle()).values()) == {1}
  values = measure(made, Oracle(lambda values: len(values) == 16))
  assert values['accuracy_length_8'] == 1
  assert values['accuracy_length_16'] == 0
  assert values['tokens_length_16'] == pytest.approx(16 / 17)


def test_fixed_lists_are_uniform_and_not_shared_by_splits():
  made = make()
  index = jnp.arange(500)
  validation, test = (
    made.draw_lists(hinted_task.SEEDS[split], index, 8)
    for split in ('validation', 'test')
  )
  assert not (validation[:, None] == test[None]).all(-1).any()
  counts = np.bincount(np.asarray(test).ravel(), minlength=33)[1:]
  assert counts.min() > 80 and counts.max() < 175
  again = made.draw_lists(hinted_task.SEEDS['test'], index[7:9], 8)
  np.testing.assert_array_equal(again, test[7:9])
  distinct = make('smoke,lists=distinct').draw_lists(1, index[:9], 32)
  assert all(len(set(x)) == 32 for x in distinct.tolist())


@pytest.mark.parametrize(
  'temperature', ['none', pytest.param('affine_log', marks=pytest.mark.slow)]
)
def test_exact_match_agrees_with_decoding(temperature):
  """Exact match agrees with decoding for a model that is sometimes right."""
  made = make(
    f'smoke,hint=none,temperature={temperature}', **{'evals.lengths': (4,)}
  )
  _, model, _ = learning.train(made, draw(made, 64), num_updates=80, rate=5e-3)
  lists = made.draw_lists(hinted_task.SEEDS['validation'], jnp.arange(60), 4)
  batch = {'index': np.arange(60), 'weight': np.ones(60)}
  graphdef, params = nnx.split(model)
  validation = made.evaluators()['validation']

  @jax.jit
  def measure(params, batch):
    return validation.measure(nnx.merge(graphdef, params), batch)

  measured = float(measure(params, batch)['accuracy_length_4'].result())
  prompts = jnp.concatenate(
    [
      jnp.full((60, 3), Token.PAD),
      jnp.full((60, 1), Token.BOS),
      vocabulary.value_token(lists),
      jnp.full((60, 1), Token.SORT),
    ],
    1,
  )
  decoded = learning.compiled(
    functools.partial(Transformer.decode, num_tokens=5),
    model,
    prompts,
    jnp.full(60, 3),
  )
  answers = vocabulary.value_token(jnp.sort(lists))
  ends = jnp.full((60, 1), Token.EOS)
  is_right = (decoded == jnp.concatenate([answers, ends], 1)).all(1)
  assert 0 < measured < 1
  assert measured == pytest.approx(float(is_right.mean()))
  # The agreement holds list by list.
  batch['weight'] = np.asarray(is_right, float)
  measured = measure(params, batch)['accuracy_length_4']
  assert measured.result() == 1


def test_lists_of_older_versions_are_translated():
  key, count = jax.random.key(0), jnp.asarray(8)
  old, new = (
    make('smoke', **{'data.lists': lists}).draw_values(
      key, count, size=8, distribution='train'
    )
    for lists in ('plain', 'uniform')
  )
  np.testing.assert_array_equal(old, new)


def test_invalid_settings_are_errors():
  with pytest.raises(UserError, match='uniform, distinct, rich'):
    make('smoke,lists=poor')
  with pytest.raises(UserError, match='successor'):
    make('smoke,hint=sucessor')
  with pytest.raises(UserError, match='successor'):
    make('smoke,hint=sort')  # the main task itself
  for arg in 'hint=scratchpad', 'main=scratchpad,hint=more_sort':
    with pytest.raises(UserError, match='config.data.hint'):
      make(f'smoke,{arg}')  # another answer to the same prompt
  with pytest.raises(UserError, match='num_rows=3 is odd or negative'):
    make('smoke,num_rows=3')
  with pytest.raises(UserError, match="did you mean 'adamw'"):
    make('smoke,optimizer=adam')
  with pytest.raises(UserError, match='twice'):
    make('smoke,hint=count+count')
  with pytest.raises(UserError, match='hint_share=1.0'):
    make(**{'data.hint_share': 1.0})
  with pytest.raises(
    UserError, match='max_positions=512 is too small: .* 602 positions'
  ):
    make('main=scratchpad,positions=learned')
  with pytest.raises(UserError, match='packed fill rows have 72 positions'):
    make(
      'hint=fill,positions=randomized',
      **{
        'data.max_predict_length': 20,
        'evals.lengths': (20,),
        'evals.test_lengths': (20,),
        'model.max_positions': 50,
      },
    )
  with pytest.raises(UserError, match='scratchpad'):
    make('smoke,main=sorting')
  with pytest.raises(UserError, match='4 to 20'):
    make(**{'data.max_train_length': 21})
  with pytest.raises(UserError, match='distinct values'):
    make('smoke,lists=distinct', **{'data.num_values': 20})


@pytest.mark.slow
@pytest.mark.parametrize(
  'arg',
  [
    'hint=none',
    'hint=successors,temperature=affine_log',
  ],
)
def test_learns_one_batch(arg):
  made = make(f'smoke,{arg}')
  without_gradient, loss, metrics = learning.learn(
    made, draw(made, 8), num_updates=500, rate=3e-3
  )
  assert all('key' in name and 'bias' in name for name in without_gradient)
  assert metrics['sort_tokens'] == 1 and loss < 0.1
