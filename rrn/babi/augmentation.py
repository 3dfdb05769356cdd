"""Data augmentation (ours): rename people, places, animals, and colors.

The answer to a question rarely depends on which names occur, only on which
names are equal. Renaming the words of a story consistently gives another story
of the same task, so that a match learned for one name holds for all of them. A
pronoun may no longer fit the gender of a name; it still refers to the last
person that was named.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from rrn.babi import data

_GROUPS = {
  'people': 'antoine bernhard bill brian daniel emily fred gertrude greg jason'
  ' jeff jessica john julie julius lily mary sandra sumit winona yann',
  'places': 'bathroom bedroom cinema garden hallway kitchen office park school',
  'animals': 'frog lion rhino swan',  # task 16; task 15 has plurals
  'colors': 'gray green white yellow',  # task 16
}
# The task in which a group is not renamed.
_KEPT = {
  'places': 20,  # motives: tired people always go to the same place
  'people': 16,  # induction: with all 21 names it was not learned
}


def rename_words(
  key: jax.Array,
  task: Int[Array, ' B'],
  columns: dict[str, Int[Array, 'B ...']],
) -> dict[str, Int[Array, 'B ...']]:
  """Permute the words of each group, independently for each question.

  Args:
    key: random key.
    task: task of each question, from 1.
    columns: word indices.

  Returns:
    The columns with renamed words.
  """
  words = list(data.vocabulary())
  groups = {
    name: np.array([words.index(word) for word in group.split()])
    for name, group in _GROUPS.items()
  }

  def one(key, task, columns):
    new = jnp.arange(len(words))
    keys = jax.random.split(key, len(groups))
    for key, (name, group) in zip(keys, groups.items(), strict=True):
      drawn = jax.random.permutation(key, group)
      drawn = jnp.where(task == _KEPT.get(name, 0), group, drawn)
      new = new.at[group].set(drawn)
    return jax.tree.map(lambda column: new[column], columns)

  return jax.vmap(one)(jax.random.split(key, len(task)), task, columns)
