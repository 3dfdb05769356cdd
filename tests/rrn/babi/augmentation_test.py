"""Tests of renaming the words of bAbI stories."""

import jax
import jax.numpy as jnp
import numpy as np

from configs.rrn import babi
from rrn.babi import augmentation, data, task

WORDS = list(data.vocabulary())
GROUPS = 'daniel mary yann', 'park kitchen', 'swan rhino', 'white gray'


def rename_all(tasks, seed=0):
  """Return the new index of every word for one question of each task."""
  words = jnp.tile(jnp.arange(len(WORDS)), (len(tasks), 1))
  new = jax.jit(augmentation.rename_words)(
    jax.random.key(seed), jnp.array(tasks), {'words': words}
  )
  return np.asarray(new['words'])


def reached(new, word):
  return {WORDS[index] for index in new[:, WORDS.index(word)]}


def test_words_are_exchanged_within_their_group():
  new = rename_all([1] * 300)
  np.testing.assert_array_equal(np.sort(new), np.tile(np.arange(177), (300, 1)))
  for group in map(str.split, GROUPS):
    assert reached(new, group[0]) == reached(new, group[-1])
    assert set(group) <= reached(new, group[0])
  sizes = [len(reached(new, group.split()[0])) for group in GROUPS]
  assert sizes == [21, 9, 4, 4]
  is_kept = (new == np.arange(177)).all(0)
  assert is_kept.sum() == 177 - sum(sizes)
  assert len(np.unique(new, axis=0)) > 290


def test_places_of_motives_and_people_of_induction_are_kept():
  new = rename_all([20] * 300)
  assert reached(new, 'kitchen') == {'kitchen'}
  assert len(reached(new, 'yann')) == 21
  new = rename_all([16] * 300)
  assert reached(new, 'yann') == {'yann'}
  assert len(reached(new, 'kitchen')) == 9


def test_a_batch_renames_by_the_number_of_its_task():
  config = babi.get_config()
  config.data.task_weights = (0,) * 19 + (1,)
  config.data.augmentation = True
  made = task.make_task(config)
  kitchen = WORDS.index('kitchen')
  arrays = {
    'facts': np.full((20, 20, 11), kitchen, np.uint8),
    'question': np.full((20, 11), WORDS.index('yann'), np.uint8),
    'answer': np.full(20, kitchen, np.uint8),
    'supports': np.zeros((20, 20), bool),
    'end': np.arange(1, 21, dtype=np.int32),
    'first': np.arange(20, dtype=np.int32),
    'count': np.ones(20, np.int32),
  }
  arrays = jax.tree.map(jnp.asarray, arrays)
  step = jnp.asarray(0)
  draw = jax.jit(made.batch, static_argnames='size')
  batch = draw(jax.random.key(0), arrays, size=64, step=step)
  assert (batch['facts'] == kitchen).all()
  assert (batch['answer'] == kitchen).all()
  assert len(np.unique(batch['question'])) > 10


def test_answers_are_renamed_like_their_stories():
  config = babi.get_config('smoke')
  config.data.augmentation = True
  made = task.make_task(config)
  arrays = jax.tree.map(jnp.asarray, made.arrays('train'))
  draw = jax.jit(made.batch, static_argnames='size')
  batch = draw(jax.random.key(0), arrays, size=256, step=jnp.asarray(1000))
  batch = jax.tree.map(np.asarray, batch)
  people = set()
  for facts, question, answer in zip(
    batch['facts'], batch['question'], batch['answer'], strict=True
  ):
    person = question[question > 0][-1]  # asks where this person is
    people.add(WORDS[person])
    (last,) = [fact[fact > 0] for fact in facts if fact[0] == person][-1:]
    assert answer == last[-1]
  assert len(people) == 21
