"""Other names for people, places, animals and colours in a question (ours).

What is asked depends on which words are the same, not on which they are; so a
story with its words renamed is another one with the same solution. It is for
training only: without it, that two facts match must be learned for each name.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from rrn.babi import data

_GROUPS = (
  'antoine bernhard bill brian daniel emily fred gertrude greg jason jeff'
  ' jessica john julie julius lily mary sandra sumit winona yann',
  'bathroom bedroom cinema garden hallway kitchen office park school',
  'frog lion rhino swan',  # of task 16; those of task 15 have plurals
  'gray green white yellow',
)
# Where the tired go is always the same place.
_FIXED_PLACES_TASK = 20


def rename(
  key: jax.Array,
  task: Int[Array, ' B'],
  columns: dict[str, Int[Array, 'B ...']],
) -> dict[str, Int[Array, 'B ...']]:
  """Renames each question's words by a permutation within their groups.

  Args:
    key: of the draw.
    task: of each question, from 1.
    columns: indices of words.
  """
  words = list(data.vocabulary())
  group = np.zeros(len(words), np.int32)
  for number, names in enumerate(_GROUPS, 1):
    group[[words.index(name) for name in names.split()]] = number
  groups = np.stack([group, np.where(group == 2, 0, group)])
  kept = np.arange(len(words)) / len(words)  # in their order
  place = np.argsort(np.argsort(groups + kept))  # among all, sorted by group

  def one(key, task, columns):
    fixed = (task == _FIXED_PLACES_TASK).astype(int)
    group = jnp.array(groups)[fixed]
    drawn = jax.random.uniform(key, (len(words),))
    order = jnp.argsort(group + jnp.where(group > 0, drawn, kept))
    new = order[jnp.array(place)[fixed]]
    return jax.tree.map(lambda column: new[column], columns)

  return jax.vmap(one)(jax.random.split(key, len(task)), task, columns)
