"""Tests of the Pretty-CLEVR task: batches, measures, and predictions."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.rrn import pretty_clevr
from core import step
from core.errors import UserError
from rrn.pretty_clevr import data, scenes, task
from tests import learning


def make(arg='smoke', **changes):
  config = pretty_clevr.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


def draw(made, size=40, step=10_000):  # after the curriculum
  batch = jax.jit(made.batch, static_argnames='size')
  batch = batch(jax.random.key(0), {}, size=size, step=jnp.asarray(step))
  return jax.tree.map(np.asarray, batch)


@pytest.mark.parametrize(
  'changes',
  [
    {'data.augment': False},
    {'data.augment': True, 'data.questions_per_scene': 3},
    {'data.num_scenes': 4},
  ],
  ids=str,
)
def test_batches_have_correct_answers(changes):
  made = make(**changes)
  batch, augmented = draw(made, size=200), made.data.augment
  names = 'positions', 'colors', 'anchors', 'jumps', 'answers'
  for row in zip(*(batch[name] for name in names), strict=True):
    positions, colors, anchors, jumps, answers = row
    expected = [
      data.answer(positions, colors, *question)
      for question in zip(anchors, jumps, strict=True)
    ]
    np.testing.assert_array_equal(answers, expected)
  assert augmented == (batch['positions'].min() < 0)
  assert set(batch['jumps'].ravel()) == set(range(8))
  assert set(batch['anchors'].ravel()) == set(range(16))


def test_training_begins_with_few_jumps():
  made = make(**{'data.curriculum': (100, 50)})
  assert draw(made, step=0)['jumps'].max() == 1
  assert draw(made, step=160)['jumps'].max() == 3
  assert draw(make(**{'data.curriculum': ()}), step=0)['jumps'].max() == 7


def test_the_curriculum_asks_for_ever_more_jumps():
  def most(step, curriculum):
    return task.max_jumps(jnp.asarray(step), curriculum)

  steps = (0, 99, 100, 149, 150, 199, 200, 10_000)
  assert [most(n, (100, 50)) for n in steps] == [1, 1, 2, 2, 3, 3, 4, 7]
  assert most(0, ()) == 7


@pytest.mark.parametrize(
  'curriculum, message',
  [
    ((100, 0), 'at least 1 update per further jump'),
    ((100, 50, 1), 'expected 0 or 2 numbers'),
    ((100, 50.5), 'expected whole numbers'),
    ((-1, 50), 'at least 0'),
  ],
)
def test_invalid_curriculum(curriculum, message):
  with pytest.raises(UserError, match=message):
    make(**{'data.curriculum': curriculum})


def test_the_papers_scenes_come_from_a_pool():
  few = draw(make(**{'data.num_scenes': 4, 'data.augment': False}))
  assert len(np.unique(few['positions'][:, 0], axis=0)) == 4
  pool = {
    tuple(scenes.draw(scenes.pool_key('train', jnp.asarray(i)))[0][0].tolist())
    for i in range(4)
  }
  assert {tuple(row.tolist()) for row in few['positions'][:, 0]} == pool
  fresh = draw(make(**{'data.num_scenes': 0, 'data.augment': False}))
  assert len(np.unique(fresh['positions'][:, 0], axis=0)) == 40
  config = pretty_clevr.get_config()
  assert config.data.num_scenes == 100_000 and config.data.augment


class Oracle(nnx.Module):
  """Answers correctly from step 2 on, and with the first color before."""

  def __call__(self, positions, colors, anchors, jumps, *, num_steps):
    answers = jax.vmap(
      jax.vmap(scenes.answer, (None, None, 0, 0)), (0, 0, 0, 0)
    )(positions, colors, anchors, jumps)
    late = jnp.arange(num_steps)[:, None, None] > 0
    return jax.nn.one_hot(jnp.where(late, answers, 0), 16)


def test_evaluation_asks_all_questions_about_fixed_scenes():
  made = make(**{'evals.num_scenes': 6})
  values = {}
  for split, evaluator in made.evaluators().items():
    columns = evaluator.arrays()
    np.testing.assert_array_equal(columns['scene'], np.arange(6))
    weight = jnp.array([1.0, 1, 1, 1, 1, 0])
    batch = {'scene': jnp.asarray(columns['scene']), 'weight': weight}
    measured = jax.jit(lambda b, e=evaluator: e.measure(Oracle(), b))(batch)
    values[split] = {k: np.asarray(m.result()) for k, m in measured.items()}
    assert measured['steps_4/accuracy'].weight == 5 * 128
    assert not measured['steps_4/accuracy_5_jumps'].is_independent
    assert measured['steps_4/accuracy_5_jumps'].weight == 5 * 16
    assert values[split]['steps_4/accuracy_5_jumps'] == 1
    assert values[split]['steps_1/accuracy'] < 0.2
    assert values[split]['accuracy_by_step'].shape == (4, 8)
  first = values['validation']['accuracy_by_step']
  assert (first != values['test']['accuracy_by_step']).any()


@pytest.mark.slow
def test_report_names_what_is_measured():
  batch = {'scene': jnp.arange(2), 'weight': jnp.ones(2)}
  for config in [pretty_clevr.get_config(), *pretty_clevr.sweep().values()]:
    made = task.make_task(config)
    merge = step.make_merge(made)
    model = nnx.eval_shape(lambda made=made: made.make_model(nnx.Rngs(0)))
    abstract = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    for split, evaluator in made.evaluators().items():
      measured = jax.eval_shape(
        lambda params, e=evaluator, m=merge: e.measure(m(params), batch),
        abstract,
      )
      names = {f'{split}/{name}' for name in measured}
      if split == 'test':
        assert set(config.report) <= names
  assert pretty_clevr.get_config().report['test/steps_4/accuracy_5_jumps'] == (
    '86.2 %'
  )
  mlp = pretty_clevr.sweep()['mlp'].report
  assert mlp['test/steps_1/accuracy_1_jumps'] == '53.4 %'
  assert set(pretty_clevr.get_config('steps=8').report.values()) == {'%'}


def test_stages_have_the_expected_numbers_of_steps():
  for arg, lengths in (('cpu', [4, 4, 4, 4]), ('cpu,steps=8', [4, 4, 8])):
    stages = pretty_clevr.stages(arg)
    assert [c.model.num_steps for c in stages.values()] == lengths
    *_, last = stages.values()
    assert last == pretty_clevr.get_config(arg)
    points = pretty_clevr.sweep('cpu')
    assert points[f'rrn_{lengths[-1]}_steps'].keys() == stages.keys()
  for arg in None, 'smoke', 'cpu,stage=2', 'cpu,pixels', 'cpu,network=mlp':
    assert pretty_clevr.stages(arg) == {}


def test_the_figure_has_the_papers_curves():
  points = pretty_clevr.sweep()
  points['paper'] = pretty_clevr.get_config()
  for name, config in points.items():
    steps = config.model.num_steps
    figures = task.make_task(config).figures(
      {'test/accuracy_by_step': np.full((steps, 8), 0.5).tolist()}
    )
    lines = figures['test_accuracy_by_jumps'].axes[0].lines
    dashed = [line.get_ydata() for line in lines if line.is_dashed()]
    paper = np.array(config.evals.paper) / 100
    assert len(paper) == (0 if name == 'rrn_8_steps' else steps)
    np.testing.assert_allclose(dashed, paper)
  assert points['paper'].evals.paper[3][5] == 86.2


def test_predict_answers_in_order_whatever_the_order_of_the_objects():
  made = make()
  positions, colors = scenes.draw(jax.random.key(5))
  objects = [
    {
      'x': float(positions[k, 0]),
      'y': float(positions[k, 1]),
      'color': data.COLORS[colors[k]],
      'shape': data.SHAPES[k],
    }
    for k in range(8)
  ]
  rng = np.random.default_rng(0)
  lines, expected = [], []
  for anchor in range(16):
    for jumps in range(8):
      mixed = [objects[k] for k in rng.permutation(8)]
      question = [data.SYMBOLS[anchor], jumps]
      lines.append(json.dumps({'objects': mixed, 'question': question}) + '\n')
      answer = data.answer(np.asarray(positions), colors, anchor, jumps)
      expected.append(data.SYMBOLS[answer])
  lines[70:70] = ['nonsense\n', '\n', '# a comment\n']
  answers = list(made.predict(Oracle(), lines))
  (wrong, *skipped), answers[70:73] = answers[70:73], []
  assert isinstance(wrong, UserError) and 'not JSON' in str(wrong)
  assert skipped == ['', '']
  assert answers == expected


def test_predict_names_wrong_answers_and_reports_the_accuracy(caplog):
  objects = [
    {'x': k / 10, 'y': 0.5, 'color': color, 'shape': shape}
    for k, (color, shape) in enumerate(
      zip(data.COLORS, data.SHAPES, strict=True)
    )
  ]
  scene = {'objects': objects, 'question': ['blue', 0]}
  given = ({}, {'answer': 'circle'}, {'answer': 'cross'})
  lines = [json.dumps(scene | changes) for changes in given]
  with caplog.at_level(logging.WARNING):
    answers = list(make().predict(Oracle(), ['', *lines]))
  assert answers == ['', 'circle', 'circle', 'circle']
  wrong, _, accuracy = caplog.messages
  assert wrong == 'line 4: the answer is circle; expected cross'
  assert accuracy.startswith('accuracy 66.7%')


@pytest.mark.slow
@pytest.mark.parametrize('arg', ['smoke', 'smoke,network=mlp', 'smoke,pixels'])
def test_a_small_batch_can_be_learned(arg):
  changes = {'model.width': 32}
  if 'pixels' in arg:
    changes |= {'model.conv_widths': (8, 8, 8, 16, 16)}
  made = make(arg, **changes)
  # A picture has eight questions.
  batch = draw(made, size=1 if 'pixels' in arg else 8)
  batch = jax.tree.map(jnp.asarray, batch)
  _, _, metrics = learning.learn(made, batch, num_updates=120, rate=3e-3)
  assert metrics['accuracy'] > 0.95
