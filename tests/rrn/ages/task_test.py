"""Tests of the age task: batches, measures, and predictions."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.rrn import ages
from core import step
from core.errors import UserError
from rrn.ages import data, problems, task
from tests import learning


def make(arg='smoke', **changes):
  config = ages.get_config(arg)
  config.update_from_flattened_dict(changes)
  return task.make_task(config)


def draw(made, size=64):
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  batch = jax.jit(made.batch, static_argnames='size')
  return batch(jax.random.key(0), arrays, size=size, step=jnp.asarray(0))


def number(edges):
  """Return one number for the sorted edges [B, 7, 2] of a tree."""
  return (edges.astype(np.int64) @ [8, 1]) @ 64 ** np.arange(7)


def test_batches_have_correct_answers_on_training_trees():
  made = make()
  batch = jax.tree.map(np.asarray, draw(made))
  for facts, question, answer in zip(
    batch['facts'], batch['question'], batch['answer'], strict=True
  ):
    assert data.solve(facts)[0][question] == answer
  drawn = number(batch['facts'][:, :7, :2])
  assert len(np.unique(drawn)) > 60
  trees = jnp.asarray(data.split_trees()['train'])
  decoded = np.asarray(jax.jit(jax.vmap(problems.decode))(trees))
  assert np.isin(drawn, number(decoded)).all()


class Guesses(nnx.Module):
  """Returns random logits for answers and facts."""

  def infer_facts(self, facts, question, *, num_steps, key):
    del question
    shape = num_steps, len(facts)
    keys = jax.random.split(key)
    answers = jax.random.normal(keys[0], (*shape, 100))
    return answers, jax.random.normal(keys[1], (*shape, 8, 2, 100))


def test_the_loss_covers_what_messages_can_have_reached():
  made = make(
    **{'model.num_steps': 3, 'model.fact_loss': 2.0, 'model.answer_loss': 0.5}
  )
  batch, model, key = draw(made), Guesses(), jax.random.key(1)
  loss_of = jax.jit(made.loss)
  loss, metrics = loss_of(model, batch, key)
  logits = model.infer_facts(batch['facts'], None, num_steps=3, key=key)
  answers, facts = (np.asarray(jax.nn.log_softmax(x)) for x in logits)
  rows = jax.tree.map(np.asarray, batch)
  answer_losses, fact_losses, weights = [], [], []
  for row in range(64):
    ages, jumps = data.solve(rows['facts'][row])
    asked = int(rows['question'][row])
    for t in 1, 2, 3:
      if jumps[asked] <= t:
        answer_losses.append(-answers[t - 1, row, ages[asked]])
      for k, (i, j, *_) in enumerate(rows['facts'][row]):
        first = 1 + min(jumps[i], jumps[j])
        if first <= t:
          logits = facts[t - 1, row, k]
          fact_losses.append(-(logits[0, ages[i]] + logits[1, ages[j]]) / 2)
          weights.append(1.0 if first == t else 0.3)
  expected = 0.5 * np.mean(answer_losses)
  expected += 2.0 * np.average(fact_losses, weights=weights)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  num_facts = int((batch['fact_jumps'] < 3).sum())
  assert metrics['facts'].weight == num_facts
  far = batch | {'jumps': jnp.full(64, 7)}  # no answer in reach
  assert 0 < loss_of(model, far, key)[0] < loss


class Oracle(nnx.Module):
  """Knows an age after as many steps as there are jumps to it."""

  def __call__(self, facts, question, *, num_steps):
    def solve(facts, question):
      solved = [data.solve(problem) for problem in facts]
      rows = np.arange(len(facts)), question
      ages = np.stack([ages for ages, _ in solved])[rows]
      jumps = np.stack([jumps for _, jumps in solved])[rows]
      return ages.astype(np.int32), jumps.astype(np.int32)

    shape = jax.ShapeDtypeStruct(question.shape, jnp.int32)
    ages, jumps = jax.pure_callback(solve, (shape, shape), facts, question)
    is_near = jumps[None] <= jnp.arange(1, num_steps + 1)[:, None]
    return jax.nn.one_hot(jnp.where(is_near, ages, 99), 100)


def test_measures_of_an_oracle():
  made = make(**{'evals.num_steps': (2, 6)})
  evaluator = made.evaluators()['validation']
  columns = evaluator.arrays()
  assert len(columns['answer']) == 512
  np.testing.assert_array_equal(columns['facts'], evaluator.arrays()['facts'])
  weight = np.ones(512, np.float32)
  weight[-100:] = 0
  batch = jax.tree.map(jnp.asarray, columns) | {'weight': jnp.asarray(weight)}
  measured = learning.compiled(evaluator.measure, Oracle(), batch)
  values = {name: np.asarray(m.result()) for name, m in measured.items()}
  jumps = columns['jumps'][:412]
  np.testing.assert_allclose(
    values['steps_2/accuracy'], (jumps <= 2).mean(), rtol=1e-5
  )
  assert values['steps_2/accuracy_2_jumps'] == 1
  assert values['steps_2/accuracy_3_jumps'] == 0
  assert values['steps_6/accuracy_6_jumps'] == 1
  assert int(measured['steps_6/accuracy_1_jumps'].weight) == (jumps == 1).sum()
  assert measured['steps_6/accuracy'].is_independent
  curve = values['accuracy_by_step'].tolist()
  figures = made.figures({'test/accuracy_by_step': curve})
  assert len(figures['test_accuracy_by_step'].axes[0].lines) >= 7


def test_the_test_set_has_all_trees_that_training_lacks():
  columns = make().evaluators()['test'].arrays()
  assert len(columns['answer']) == 26_214
  trees = [tuple(map(tuple, rows)) for rows in columns['facts'][:, :7, :2]]
  assert len(set(trees)) == 26_214
  trained = jax.tree.map(np.asarray, draw(make(), size=2000))['facts']
  trained = {tuple(map(tuple, rows)) for rows in trained[:, :7, :2]}
  assert not trained & set(trees)
  for row in range(0, 26_214, 100):
    solved, jumps = data.solve(columns['facts'][row])
    question = columns['question'][row]
    assert solved[question] == columns['answer'][row]
    assert jumps[question] == columns['jumps'][row]


@pytest.mark.slow
def test_report_names_what_is_measured():
  batch = jax.tree.map(
    lambda x: jnp.asarray(x[:2]), make().evaluators()['validation'].arrays()
  ) | {'weight': jnp.ones(2)}
  points = ages.sweep('cpu')
  stages = points.pop('recurrent_relational_network')
  for config in *points.values(), *stages.values():
    made = task.make_task(config)
    merge = step.make_merge(made)
    model = nnx.eval_shape(lambda made=made: made.make_model(nnx.Rngs(0)))
    abstract = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    measure = made.evaluators()['test'].measure
    measured = jax.eval_shape(
      lambda params, f=measure, m=merge: f(m(params), batch), abstract
    )
    assert set(config.report) <= {f'test/{name}' for name in measured}


def test_stages_have_the_expected_steps_and_updates():
  stages = ages.stages('cpu')
  assert list(stages) == ['stage_1', 'stage_2', 'stage_3', 'stage_4']
  assert [c.model.num_steps for c in stages.values()] == [1, 2, 4, 4]
  assert sum(c.total_steps for c in stages.values()) == 15_500
  assert stages['stage_4'] == ages.get_config('cpu')
  for arg in None, 'smoke', 'cpu,stage=2', 'cpu,network=mlp':
    assert ages.stages(arg) == {}
  for arg in 'cpu,stage=5', 'cpu,steps=2', 'stage=1':
    with pytest.raises(UserError, match='stage=1|has no stages|1 to 4'):
      ages.get_config(arg)


def test_predict_answers_in_order():
  columns = make().evaluators()['validation'].arrays()
  lines, expected = [], []
  for row in range(70):
    names = data.PERSONS
    statements = [
      f'{names[i]}={names[j]}{"+-"[kind]}{value}'
      for i, j, kind, value in columns['facts'][row][:7]
    ]
    anchor, _, _, age = columns['facts'][row][7]
    statements += [f'{names[anchor]} = {age}']
    statements += [f'{names[columns["question"][row]]} = ?']
    lines.append('; '.join(statements) + '\n')
    expected.append(str(columns['answer'][row]))
  lines[3:3] = ['A=?\n', '\n', '# a comment\n']
  made = make(**{'evals.num_steps': (8,)})
  answers = list(made.predict(Oracle(), lines))
  (wrong, *skipped), answers[3:6] = answers[3:6], []
  assert answers == expected
  assert isinstance(wrong, UserError) and skipped == ['', '']


def test_predict_names_wrong_answers_and_reports_the_accuracy(caplog):
  lines = [
    'A=B+1; B=C+1; C=D+1; D=E+1; E=F+1; F=G+1; G=H+1; H=31; A=?',
    'A=B+1; B=C+1; C=D+1; D=E+1; E=F+1; F=G+1; G=H+1; H=31; G=?',
  ]
  made = make(**{'evals.num_steps': (2,)})  # A is seven jumps away
  with caplog.at_level(logging.WARNING):
    answers = list(made.predict(Oracle(), lines))
  assert answers == ['99', '32']
  wrong, _, accuracy = caplog.messages
  assert wrong == 'line 1: the answer is 99; expected 38'
  assert accuracy.startswith('accuracy 50.0%')


@pytest.mark.slow
@pytest.mark.parametrize('arg', ['smoke', 'smoke,network=mlp'])
def test_a_small_batch_can_be_learned(arg):
  made = make(arg)
  batch = draw(made, size=8)
  _, _, metrics = learning.learn(made, batch, num_updates=200, rate=3e-3)
  assert metrics['accuracy'] == 1
