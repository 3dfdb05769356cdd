"""Tests of the bAbI task: drawing, losses, measures, and predictions."""

import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.rrn import babi
from core import evaluation, sharding
from core.errors import UserError
from rrn.babi import builder, data, task
from rrn.babi.model import BabiNetwork
from tests import learning


@pytest.fixture(scope='module')
def smoke():
  return task.make_task(babi.get_config('smoke'))


def uneven(counts=(5, 100, 20)):
  """Make tasks with one, two, and three facts; answers are row numbers."""
  rows = sum(counts)
  num_facts = np.repeat(np.arange(1, len(counts) + 1), counts)
  facts = np.zeros((rows, 20, 11), np.uint8)
  facts[:, :, 0] = np.arange(20) < num_facts[:, None]
  return {
    'facts': facts,
    'question': np.ones((rows, 11), np.uint8),
    'answer': np.arange(rows, dtype=np.uint8),
    'supports': facts[:, :, 0] > 0,
    'end': np.repeat(np.cumsum(counts), counts).astype(np.int32),
    'first': np.cumsum([0, *counts[:-1]], dtype=np.int32),
    'count': np.array(counts, np.int32),
  }


def draw(size, counts=(5, 100, 20), **changes):
  config = babi.get_config()
  config.update(changes)
  batch = jax.jit(task.make_task(config).batch, static_argnames='size')
  arrays = jax.tree.map(jnp.asarray, uneven(counts))
  drawn = batch(jax.random.key(0), arrays, size=size, step=jnp.asarray(10_000))
  return jax.tree.map(np.asarray, drawn)


def test_tasks_are_drawn_uniformly_and_so_are_their_questions():
  size = 6000
  batch = draw(size)
  answers = batch['answer']
  counts = np.histogram(answers, [0, 5, 105, 125])[0]
  np.testing.assert_allclose(counts / size, 1 / 3, atol=0.03)
  within = np.bincount(answers, minlength=125)[:5]
  np.testing.assert_allclose(within / within.sum(), 1 / 5, atol=0.04)
  assert set(answers) == set(range(125))
  assert set(batch['offset']) == set(range(20))
  expected = uneven()['facts'][answers]
  np.testing.assert_array_equal(batch['facts'], expected)
  assert batch['facts'].dtype == np.int32


def test_tasks_are_drawn_by_their_weights():
  weights = [0.0] * 20
  weights[3], weights[7] = 1, 3
  counts = (2,) * 20
  config = babi.get_config()
  config.data.task_weights = weights
  answers = draw(2000, counts, **config)['answer']
  shares = np.histogram(answers, np.arange(0, 42, 2))[0] / len(answers)
  np.testing.assert_allclose(shares[[3, 7]], [1 / 4, 3 / 4], atol=0.05)
  assert shares.sum() == shares[[3, 7]].sum()


@pytest.mark.parametrize('weights', [(1, 2), (0,) * 19 + (-1,), (0,) * 20])
def test_invalid_task_weights_are_refused(weights):
  config = babi.get_config()
  config.data.task_weights = weights
  with pytest.raises(UserError, match='a weight for each of the 20 tasks'):
    task.make_task(config)


def test_micro_batches_hold_stories_of_similar_size():
  batch = draw(32, microbatch_size=8)
  num_facts = (batch['facts'][..., 0] > 0).sum(1)
  groups = sorted(num_facts.reshape(4, 8), key=min)  # consecutive examples
  for smaller, larger in itertools.pairwise(groups):
    assert smaller.max() <= larger.min()
  assert len(draw(12, microbatch_size=8)['answer']) == 12


@pytest.mark.slow
def test_any_number_of_micro_batches_gets_the_same_examples():
  options = babi.get_config().data.to_dict() | {'augmentation': True}

  def examples(microbatch_size):
    batch = draw(128, microbatch_size=microbatch_size, data=options)
    return sorted(zip(batch['answer'], batch['offset'], strict=True))

  # One micro-batch, which is not sorted, then 16, 32, and 128.
  whole, *others = (
    examples(microbatch_size) for microbatch_size in (0, 8, 4, 1)
  )
  assert len(set(whole)) > 100
  assert all(other == whole for other in others)


@pytest.mark.parametrize(
  'weight', [0.5, pytest.param(2.0, marks=pytest.mark.slow)]
)
def test_support_loss_ignores_padding(weight):
  config = babi.get_config('smoke')
  arrays = uneven((4, 4, 4))
  columns = {name: arrays[name] for name in ('facts', 'question', 'answer')}
  story = jax.tree.map(lambda x: jnp.asarray(x, int), columns)
  story['offset'] = jnp.zeros(12, int)
  losses = {}
  for support_loss in 0.0, weight:
    config.model.support_loss = support_loss
    made = task.make_task(config)
    loss = jax.jit(made.loss)
    for supports in 'all', 'none':
      # Padding supports nothing.
      story['supports'] = (story['facts'][..., 0] > 0) & (supports == 'all')
      model = made.make_model(nnx.Rngs(0))
      if support_loss:
        model.support_output.kernel[...] *= 0
        model.support_output.bias[...] = jnp.log(jnp.array([3.0]))
      losses[support_loss, supports], metrics = loss(
        model, story, jax.random.key(0)
      )
      if support_loss:
        assert float(metrics['support'].result()) == (supports == 'all')
  assert losses[0.0, 'all'] == losses[0.0, 'none']
  # Two facts on average, each predicted to support with odds of 3 : 1.
  for supports, nats in ('all', np.log(4 / 3)), ('none', np.log(4)):
    extra = losses[weight, supports] - losses[0.0, supports]
    np.testing.assert_allclose(extra, weight * 2 * nats, rtol=1e-4)


class Oracle(BabiNetwork):
  """Answers from a table; wrong before `from_step` and where `wrong`."""

  def __init__(self, columns, from_step, wrong):
    self.columns = nnx.data(
      {name: jnp.asarray(x, jnp.int32) for name, x in columns.items()}
    )
    self.from_step = from_step
    self.wrong = nnx.data(jnp.asarray(wrong))

  def __call__(self, facts, question, offset):
    same = (facts[:, None] == self.columns['facts'][None]).all((2, 3))
    same &= (question[:, None] == self.columns['question'][None]).all(2)
    row = same.argmax(1)
    late = jnp.arange(1, 4)[:, None] >= self.from_step
    wrong = (self.wrong[row][None] | ~late).astype(int)
    answer = self.columns['answer'][row][None] + wrong
    return jax.nn.one_hot(answer % 177, 177)


def test_measures_of_an_oracle():
  official = task.make_task(babi.get_config())
  rng = np.random.default_rng(0)
  counts = 30, 10, 20  # questions of tasks 2, 5 and 20
  size = sum(counts)
  tasks = np.repeat([2, 5, 20], counts)
  columns = {
    'facts': rng.integers(1, 177, (size, 20, 11)),
    'question': rng.integers(1, 177, (size, 11)),
    'answer': rng.integers(1, 177, size),
  }
  wrong = np.zeros(size, bool)
  wrong[:3] = wrong[40:41] = True  # 10 % of task 2, exactly 5 % of task 20
  weight = size / 3 / np.repeat(counts, counts)
  arrays = columns | {
    'task': tasks,
    'offset': np.zeros(size, int),
    'task_weight': weight.astype(np.float32),
  }
  evaluator = official.evaluators()['test']
  evaluator = type(evaluator)(lambda: arrays, evaluator.measure, 32, 0)
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  oracle = Oracle(columns, 2, wrong)
  run = evaluation.make_evaluation(evaluator, lambda _: oracle, mesh)
  values = evaluation.values(run(None))
  assert values['steps_3/failed_tasks'] == values['steps_2/failed_tasks'] == 1
  assert values['steps_1/failed_tasks'] == 3
  assert values['steps_3/mean_error'] == pytest.approx(0.15 / 3)
  assert values['steps_1/mean_error'] == pytest.approx(1)
  assert values['steps_3/error_task_2'] == pytest.approx(0.1)
  assert values['steps_3/error_task_5'] == 0
  assert values['steps_3/error_task_20'] == pytest.approx(0.05)
  assert np.isnan(values['steps_3/error_task_1'])
  assert np.shape(values['error_by_task']) == (3, 20)
  figures = official.figures({f'test/{k}': v for k, v in values.items()})
  assert set(figures) == {'test_error_by_task'}


def test_evaluation_set_is_fixed_and_weighs_tasks_alike(smoke, monkeypatch):
  counts = np.array([300, 100, 200])
  rng = np.random.default_rng(0)
  split = {
    'task': np.repeat([1, 2, 3], counts),
    'facts': rng.integers(0, 2, (600, 20, 11)).cumprod(1),
    'question': np.ones((600, 11), int),
    'answer': np.arange(600) % 177,
  }
  split['num_facts'] = (split['facts'][..., 0] > 0).sum(1)
  monkeypatch.setattr(builder, 'load', lambda *_, **__: split)
  columns, again = (smoke._evaluation_set('test') for _ in range(2))
  for name in columns:
    np.testing.assert_array_equal(columns[name], again[name])
  assert set(columns['offset']) == set(range(20))
  num_facts = (columns['facts'][..., 0] > 0).sum(1)
  assert (np.diff(num_facts) >= 0).all()
  by_task = np.bincount(columns['task'], columns['task_weight'])
  np.testing.assert_allclose(by_task, [0, 200, 200, 200], rtol=1e-6)
  for number, count in enumerate(counts, start=1):
    weights = columns['task_weight'][columns['task'] == number]
    np.testing.assert_allclose(weights, 200 / count, rtol=1e-6)


LINES = [
  '1 Mary moved to the garden.\n',
  '2 John went to the kitchen.\n',
  '3 Where is Mary?\n',
  '\n',
  '4 Zaphod went to the moon.\n',
  'nonsense\n',
  '5 Where is John? \tgarden\t1\n',
  '# a comment\n',
  '1 Where is John?\n',
  '\n',
]


def test_predict_answers_questions_and_names_what_is_wrong(smoke):
  lines = LINES * 20  # several chunks, the first of which ends within a story
  story = [
    '1 Mary moved to the garden.',
    '2 John went to the kitchen.',
    '3 Where is Mary?\tgarden',
    '4 Where is John?\tkitchen',
  ]
  columns = data.encode(list(data.read_questions(story, 'story')))
  columns = {name: columns[name] for name in ('facts', 'question', 'answer')}
  answers = list(smoke.predict(Oracle(columns, 1, [False] * 2), lines))
  assert len(answers) == len(lines)
  for start in 0, 1, 3, 7, 9:
    assert answers[start::10] == [''] * 20
  assert answers[2::10] == ['garden'] * 20
  for start, text in (
    (4, 'unknown words: zaphod, moon'),
    (5, 'no line number or no sentence'),
    (6, 'of its story could not be read'),
    (8, 'a question without a fact'),
  ):
    errors = answers[start::10]
    assert all(isinstance(error, UserError) for error in errors)
    assert all(text in str(error) for error in errors)
  assert 'line 15 of its story' in str(answers[16])


def test_predict_scores_given_answers_and_names_wrong_ones(smoke, caplog):
  story = [
    '1 Mary moved to the garden.',
    '2 John went to the kitchen.',
    '3 Where is Mary?\tgarden',
    '4 Where is John?\tkitchen',
  ]
  columns = data.encode(list(data.read_questions(story, 'story')))
  columns = {name: columns[name] for name in ('facts', 'question', 'answer')}
  oracle = Oracle(columns, 1, [False] * 2)
  lines = [*story[:3], '4 Where is John?\toffice\t2', '5 Where is Mary?']
  with caplog.at_level(logging.WARNING):
    answers = list(smoke.predict(oracle, lines))
  assert answers == ['', '', 'garden', 'kitchen', 'garden']
  wrong, _, accuracy = caplog.messages
  assert wrong == 'line 4: the answer is kitchen; expected office'
  assert accuracy.startswith('accuracy 50.0%')


@pytest.mark.slow
def test_predict_reports_no_accuracy_without_given_answers(smoke, caplog):
  model = smoke.make_model(nnx.Rngs(0))
  with caplog.at_level(logging.WARNING):
    list(smoke.predict(model, LINES[:3]))
  assert not caplog.records


@pytest.mark.slow
def test_one_small_batch_can_be_learned():
  config = babi.get_config('smoke,no_dropout')
  small = task.make_task(config)
  arrays = jax.tree.map(jnp.asarray, small.arrays('train'))
  batch = small.batch(jax.random.key(0), arrays, size=16, step=jnp.asarray(0))
  _, _, metrics = learning.learn(small, batch, rate=3e-3)
  assert metrics['error'] == 0


def test_sweep_is_the_papers_ablations():
  points = babi.sweep('cpu')
  assert list(points) == [
    'baseline',
    'linear_input',
    'no_question_in_facts',
    'no_dropout',
  ]
  assert points['linear_input'].model.input_layers == 0
  assert not points['no_question_in_facts'].model.question_in_facts
  assert points['no_dropout'].model.dropout == 0
  assert points['baseline'].model == babi.get_config('cpu,stage=1').model
  assert {c.total_steps for c in points.values()} == {babi.SWEEP_STEPS}
  for name, config in points.items():
    has_paper = bool({*config.report.values()} - {'', '%'})
    assert has_paper == (name == 'baseline')


def test_stages_ask_all_tasks():
  stages = list(babi.stages('cpu').values())
  assert babi.get_config('cpu') == stages[-1]
  for config in stages:
    task.make_task(config)  # fails without a weight for each task
    assert min(config.data.task_weights) > 0
    assert config.model.to_dict() == stages[0].model.to_dict() | {
      'support_loss': config.model.support_loss
    }
    assert config.total_steps % config.steps_per_call == 0
  assert babi.SWEEP_STEPS % stages[0].steps_per_call == 0
  losses = [config.model.support_loss for config in stages]
  # The first stage with a support loss adds the parameters of its output.
  assert [bool(config.init_missing_regex) for config in stages] == [
    now > before == 0 for before, now in itertools.pairwise([0, *losses])
  ]
  for arg in 'cpu,stage=7', 'stage=2', 'smoke,stage=1':
    with pytest.raises(UserError, match='expected 1 to 6|has no stages'):
      babi.get_config(arg)
  for arg in 'smoke', None, 'cpu,stage=2':
    assert babi.stages(arg) == {}
  with pytest.raises(UserError, match='a sweep runs stage 1 only'):
    babi.sweep('cpu,stage=2')


def test_invalid_curriculum():
  config = babi.get_config('smoke')
  for curriculum in (200, 200, 0.2), (100, 200, 0), (1, 2, 1.5):
    config.data.curriculum = curriculum
    with pytest.raises(UserError, match='expected .first update, last update'):
      task.BabiTask(config)


def test_short_stories_come_first():
  shares = [
    float(task.share_of_questions(jnp.asarray(step), (100, 200, 0.2)))
    for step in (0, 100, 150, 200, 999)
  ]
  np.testing.assert_allclose(shares, [0.2, 0.2, 0.6, 1, 1])
  assert task.share_of_questions(jnp.asarray(0), ()) == 1
  config = babi.get_config('smoke')
  config.data.curriculum = (100, 200, 0.2)
  key, made = jax.random.key(0), task.BabiTask(config)
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  most = {}
  for step in 0, 200:
    batch = made.batch(key, arrays, size=256, step=jnp.asarray(step))
    most[step] = int((batch['facts'][..., 0] > 0).sum(1).max())
  assert most == {0: 2, 200: 10}


def test_end_follows_all_stories_that_are_no_longer(monkeypatch):
  rng = np.random.default_rng(0)
  columns = {
    'task': np.repeat([3, 7], [60, 40]).astype(np.uint8),
    'num_facts': rng.integers(1, 30, 100).astype(np.int32),
    'answer': np.arange(100),
    'facts': np.zeros((100, 20, 11)),
    'question': np.zeros((100, 11)),
    'supports': np.zeros((100, 20)),
  }
  monkeypatch.setattr(builder, 'load', lambda *args, **options: columns)
  arrays = task.make_task(babi.get_config()).arrays('train')
  sizes = columns['num_facts'][arrays['answer']]
  for first, count in zip(arrays['first'], arrays['count'], strict=True):
    rows = np.arange(first, first + count)
    for row in rows:
      alike = rows[sizes[rows] <= sizes[row]]
      assert arrays['end'][row] == alike[-1] + 1
      assert (sizes[first : alike[-1] + 1] <= sizes[row]).all()


def test_questions_of_the_shortest_length_are_drawn():
  # A share of 5 %, but all questions of a task have the same number of facts.
  config = babi.get_config().data.to_dict()
  batch = draw(6000, data=config | {'curriculum': (20_000, 30_000, 0.05)})
  assert set(batch['answer']) == set(range(125))
