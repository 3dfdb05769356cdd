"""Draw age problems on the device, as pure functions of a key and a tree.

`rrn.ages.data` defines problems and the numbering of trees.

Axes: N people, E = N - 1 edges.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rrn.ages import data

NUM_PERSONS = len(data.PERSONS)


def decode(tree: Int[Array, '']) -> Int[Array, 'E 2']:
  """Return the edges (i, j), i < j, of a tree, sorted.

  Prüfer's algorithm connects the smallest leaf to the first person of the
  sequence, removes that leaf and that entry of the sequence, and repeats.
  Finally, it connects the two people that remain.
  """
  persons = jnp.arange(NUM_PERSONS)
  sequence = tree // NUM_PERSONS ** jnp.arange(NUM_PERSONS - 2) % NUM_PERSONS
  # Number of edges of each person that are still missing.
  degrees = 1 + (sequence[:, None] == persons[None]).sum(0)

  def join(degrees, person):
    leaf = (degrees == 1).argmax()
    degrees -= (persons == leaf).astype(int) + (persons == person).astype(int)
    return degrees, _code(leaf, person)

  degrees, codes = jax.lax.scan(join, degrees, sequence)
  first = (degrees == 1).argmax()
  last = NUM_PERSONS - 1 - (degrees[::-1] == 1).argmax()
  codes = jnp.sort(jnp.append(codes, _code(first, last)))
  return jnp.stack(jnp.divmod(codes, NUM_PERSONS), -1)


def _code(i, j):
  return NUM_PERSONS * jnp.minimum(i, j) + jnp.maximum(i, j)


def distances(
  edges: Int[Array, 'E 2'], start: Int[Array, '']
) -> Int[Array, ' N']:
  """Return the number of edges between `start` and each person in a tree."""
  ends = jax.nn.one_hot(edges, NUM_PERSONS)
  adjacent = jnp.einsum('en,em->nm', ends[:, 0], ends[:, 1])
  adjacent += adjacent.T

  def reach(reached, _):
    further = (adjacent @ reached > 0).astype(jnp.float32)
    return jnp.maximum(reached, further), reached

  start_at = jax.nn.one_hot(start, NUM_PERSONS)
  _, reached = jax.lax.scan(reach, start_at, length=NUM_PERSONS - 1)
  return (reached == 0).sum(0)


def draw(
  key: jax.Array,
  tree: Int[Array, ''],
) -> dict[str, jax.Array]:
  """Draw the ages, the person whose age is given, and the question.

  Returns:
    'facts' int [8, 4] and 'question', see `rrn.ages.data`; 'answer', an age;
    'jumps', the number of differences between the given age and the answer;
    'fact_ages' [8, 2], the ages of both people in each fact; 'fact_jumps' [8],
    the number of jumps to the nearer one of them.
  """
  age_key, anchor_key, question_key = jax.random.split(key, 3)
  # The ages with the largest random scores are distinct and in random order.
  scores = jax.random.uniform(age_key, (data.MAX_AGE + 1,))
  _, ages = jax.lax.top_k(scores, NUM_PERSONS)
  anchor = jax.random.randint(anchor_key, (), 0, NUM_PERSONS)
  edges = decode(tree)
  jumps = distances(edges, anchor)
  question = jax.random.randint(question_key, (), 0, NUM_PERSONS)
  difference = ages[edges[:, 0]] - ages[edges[:, 1]]
  kind = jnp.where(difference >= 0, data.OLDER, data.YOUNGER)
  facts = jnp.column_stack([edges, kind, jnp.abs(difference)])
  given = jnp.stack([anchor, anchor, jnp.asarray(data.IS), ages[anchor]])
  facts = jnp.concatenate([facts, given[None]])
  return {
    'facts': facts,
    'question': question,
    'answer': ages[question],
    'jumps': jumps[question],
    'fact_ages': ages[facts[:, :2]],
    'fact_jumps': jumps[facts[:, :2]].min(-1),
  }
