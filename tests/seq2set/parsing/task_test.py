"""The parsing task: labels and trees convert both ways; scores; predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.seq2set import parsing
from core.errors import UserError
from seq2set.parsing import data, linearize, task, treebank
from tests import learning


def make(arg='smoke', **changes):
  config = parsing.get_config(arg)
  config.update_from_flattened_dict({'data.num_generated': 300} | changes)
  return task.make_task(config)


@pytest.mark.parametrize('order', linearize.ORDERS)
def test_columns_convert_back_to_trees(order):
  made = make(f'smoke,order={order}')
  columns = made.arrays('train')
  trees = made._trees('train')
  assert len(columns['words']) == len(trees)
  for labels, tree in zip(columns['labels'], trees, strict=True):
    again = made._rebuild(labels, tree.words(), repairs=False)
    assert again == tree
    unused = np.insert(labels, 1, 250)  # a class that stands for no label
    assert made._rebuild(unused, tree.words(), repairs=False) is None
    assert made._rebuild(unused, tree.words(), repairs=True) == tree
  lengths = (columns['words'] > 0).sum(1)
  assert lengths.max() <= 10 and lengths.min() >= 3


class Oracle(nnx.Module, pytree=False):
  """Gives the true labels, but invalid ones for every second tree."""

  def __init__(self, labels):
    self.labels = labels

  def decode(self, words, *, length):
    labels = jnp.asarray(self.labels)
    return labels.at[1::2, 1].set(labels[1::2, 0])  # the root again


def test_measures_of_an_oracle():
  made = make()
  columns = made._evaluation_set('validation')
  labels, count = columns['labels'], len(columns['index'])
  batch = columns | {'weight': np.ones(count)}
  metrics = made._measure('validation', Oracle(labels), batch)
  values = {name: float(m.result()) for name, m in metrics.items()}
  assert values['valid'] == pytest.approx(0.5, abs=0.5 / count + 1e-6)
  assert values['f1_valid'] == 1
  trees = made._trees('validation')
  half = [tree if k % 2 == 0 else None for k, tree in enumerate(trees)]
  assert values['f1'] == pytest.approx(data.score(trees, half).f1, abs=1e-5)
  assert values['f1'] < values['f1_repaired'] < 1


def test_a_treebank_of_files(tmp_path, monkeypatch):
  monkeypatch.setenv('LEARNED_ALGORITHMS_DATA', str(tmp_path))
  tree = '( (S (NP-SBJ (DT The) (NN cat)) (VP (VBZ sits))) )'
  for name in 'train', 'dev', 'test':
    (tmp_path / f'my.{name}.ptb').write_text(f'{tree}\n( (X (Y a) (Y b)) )\n')
  made = make('smoke,source=my')
  assert len(made._trees('train')) == 2
  assert str(made._trees('test')[0]) == (
    '(S (NP (DT The) (NN cat)) (VP (VBZ sits)))'
  )
  with pytest.raises(UserError, match='at most 1 words'):
    treebank.load('my', 'train', max_words=1, num_generated=0)
  with pytest.raises(UserError, match='none.train.ptb'):
    treebank.load('none', 'train', max_words=9, num_generated=0)
  (tmp_path / 'my.train.ptb').write_text('(S (A b)')
  with pytest.raises(UserError, match='line 1'):
    make('smoke,source=my').arrays('train')


def test_decoding_agrees_with_given_labels():
  made = make()
  model = made.make_model(nnx.Rngs(0))
  graphdef, params = nnx.split(model)
  model = nnx.merge(graphdef, jax.tree.map(lambda x: 2 * x, params))
  words = jnp.array([[3, 4, 5, 0], [6, 7, 0, 0]])
  labels = jax.jit(functools.partial(model.decode, length=6))(words)
  run = jax.jit(lambda *args: model(*args))
  log_p = jax.nn.log_softmax(run(words, labels))
  chosen = jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]
  is_stop = (labels == 0).astype(int)
  is_open = jnp.cumsum(is_stop, 1) - is_stop == 0
  gap = jnp.where(is_open, log_p.max(-1) - chosen, 0)
  np.testing.assert_allclose(gap, 0, atol=1e-5)
  # Padding changes nothing.
  longer = jnp.pad(words, ((0, 0), (0, 3)))
  np.testing.assert_allclose(run(longer, labels), run(words, labels), atol=1e-5)


def test_predict_scores_trees_and_names_repairs(caplog):
  made = make()
  trees = made._trees('validation')[:2]
  columns = made._evaluation_set('validation')
  rows = iter(columns['labels'][:2])

  class OneByOne(nnx.Module, pytree=False):
    def decode(self, words, *, length):
      row = np.pad(next(rows), (0, max(0, length - columns['labels'].shape[1])))
      return jnp.asarray(row)[None]

  lines = [str(trees[0]), '', str(trees[1])]
  with jax.disable_jit():
    answers = list(made.predict(OneByOne(), lines))
  assert answers == lines
  accuracy, f1 = (record.message for record in caplog.records)
  assert accuracy.startswith('accuracy 100.0%')
  assert f1 == 'labeled F1 100.0% on 2 trees'
  caplog.clear()
  list(made.predict(made.make_model(nnx.Rngs(0)), ['a b c .']))
  assert 'line 1: the answer was repaired' in caplog.records[0].message


@pytest.mark.slow
@pytest.mark.parametrize(
  'arg',
  [
    'smoke',
    'smoke,order=breadth_first,forward',
  ],
)
def test_learns_one_batch(arg):
  made = make(arg)
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  batch = made.batch(jax.random.key(0), arrays, size=4, step=0)
  without_gradient, _, metrics = learning.learn(made, batch)
  assert not without_gradient
  assert metrics['labels'] == 1


def test_predict_and_invalid_settings():
  made = make()
  model = made.make_model(nnx.Rngs(0))
  lines = ['a b .', 'a ) ((b .', '', '# a', 'a ' * 11, '(S (A b)']
  *good, empty, comment, long, cut = made.predict(model, lines)
  words = [tree.words() for tree in data.read(good, 'answers')]
  assert words == [['a', 'b', '.'], ['a', '-RRB-', '-LRB--LRB-b', '.']]
  assert empty == comment == ''
  assert all(isinstance(answer, UserError) for answer in (long, cut))
  with pytest.raises(UserError, match='config.model.order'):
    make(**{'model.order': 'depth'})
  with pytest.raises(UserError, match='config.model.num_labels=4'):
    make(**{'model.num_labels': 4}).arrays('train')


def test_a_sweep_refuses_what_its_table_varies():
  for arg in 'smoke,order=breadth_first', 'smoke,forward':
    with pytest.raises(UserError, match='the table sets'):
      parsing.sweep(arg)
