"""Other names for people, places, animals and colours in a question (ours).

What a question asks depends on which words are the same, hardly ever on which
they are; so a story with its words renamed is another one of the same task, and
that two facts match by a word is learned of all its like at once. A pronoun may
no longer fit its name: it means the last one named, whoever that is.
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
  'animals': 'frog lion rhino swan',  # of task 16: those of 15 have plurals
  'colours': 'gray green white yellow',  # of task 16
}
_KEPT = {
  'places': 20,  # of motives: where the tired go is always the same place
  'people': 16,  # of induction: of 21 names the match of facts was not found
}


def rename(
  key: jax.Array,
  task: Int[Array, ' B'],
  columns: dict[str, Int[Array, 'B ...']],
) -> dict[str, Int[Array, 'B ...']]:
  """Permutes the words of each group, of each question by another draw.

  Args:
    key: of the draws.
    task: of each question, from 1.
    columns: indices of words.
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
