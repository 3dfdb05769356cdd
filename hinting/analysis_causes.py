"""Causal tests: heads ablated and sharpened, lists patched, softmax tempered.

Axes: B lists, K layers, H heads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinting import analysis_measures as measures
from hinting import analysis_passes as passes
from hinting import vocabulary
from hinting.vocabulary import Token

FACTORS = 0.5, 1.5, 2.0, 3.0  # of the logits of single heads
SHARED_FACTORS = 0.8, 1.0, 1.2, 1.4, 1.6, 2.0  # of all heads at once
# No config.seed should be one of them; index 0, 1, ... counts the lists.
LIST_SEED, PROBE_SEED, _HINT_SEED = 231_100, 231_101, 231_102
_MATCHED_LISTS = 100  # for entropies, as the logits of all are kept


@dataclasses.dataclass(frozen=True)
class Subject:
  """A trained model, and the lists it is shown."""

  task: Any  # a `hinting.sorting.task.SortingTask`
  merge: Callable  # parameters -> model
  params: Any
  num_lists: int

  def lists(self, length: int, seed: int = LIST_SEED) -> jax.Array:
    """The lists of a length: [B N]."""
    return self.task.draw_lists(seed, jnp.arange(self.num_lists), length)

  def score(
    self, rows: tuple[jax.Array, jax.Array], edit, length: int
  ) -> dict[str, float]:
    """Loss and accuracy, as floats, of rows and 'is part of the answer'."""
    made = passes.score(self.merge, self.params, *rows, edit, length=length)
    return {name: float(value) for name, value in made.items()}


def rows_of(
  subject: Subject, kind: str, length: int
) -> tuple[jax.Array, jax.Array]:
  """Rows of a kind, and whether each token is part of the answer: [B L]."""
  values = subject.lists(length)
  keys = jax.random.split(jax.random.key(_HINT_SEED), len(values))
  rows = jax.vmap(subject.task.kinds[kind].make_row, (0, 0, None))(
    keys, values, jnp.asarray(length)
  )
  return rows.tokens, rows.is_answer


def ablate(subject: Subject, rows, length: int) -> dict[str, Any]:
  """Score of rows, and with each head ablated by its means: [K H]."""
  plain = passes.no_edit(subject.task.model_config)
  means = passes.head_means(
    subject.merge, subject.params, rows[0][:, :-1], length=length
  )
  edit = dataclasses.replace(plain, means=means)
  return {
    'whole': subject.score(rows, plain, length),
    **_each_head(
      lambda mask: subject.score(
        rows, dataclasses.replace(edit, is_ablated=mask), length
      ),
      plain.is_ablated.shape,
    ),
  }


def _each_head(score, shape) -> dict[str, np.ndarray]:
  """'loss' and 'accuracy' [K H] of `score` of the mask of each head alone."""
  scores = [score(mask.reshape(shape)) for mask in jnp.eye(np.prod(shape)) > 0]
  return {
    name: np.array([x[name] for x in scores]).reshape(shape)
    for name in ('loss', 'accuracy')
  }


def sharpen(subject: Subject, length: int) -> dict[float, Any]:
  """Factor -> scores with the logits of each head multiplied by it."""
  rows = rows_of(subject, 'sort', length)
  plain = passes.no_edit(subject.task.model_config)

  def scores(factor):
    return _each_head(
      lambda mask: subject.score(
        rows,
        dataclasses.replace(plain, scales=jnp.where(mask, factor, 1.0)),
        length,
      ),
      plain.scales.shape,
    )

  return {factor: scores(factor) for factor in FACTORS}


def patch(subject: Subject, length: int) -> dict[str, float]:
  """Whether a step follows a change of the list.

  A random step that moves from a to its successor b, of which there is one
  copy: with one copy of a more, a should come; without b, what is behind b.
  Shares of lists that have such a step ('count').
  """
  rng = np.random.default_rng(0)
  values = np.asarray(subject.lists(length))
  ordered = np.sort(values, 1)
  before, here, behind = ordered[:, :-2], ordered[:, 1:-1], ordered[:, 2:]
  fits = (before < here) & (here < behind)
  place = (rng.random(fits.shape) * fits).argmax(1)
  index = np.arange(len(values))
  a, b, c = (x[index, place] for x in (before, here, behind))
  longer = rng.permuted(np.column_stack([values, a]), axis=1)
  kept = fits.any(1)
  shorter = np.stack(
    [
      row[row != gone] if is_kept else row[1:]
      for row, gone, is_kept in zip(values, b, np.atleast_1d(kept), strict=True)
    ]
  )

  def said(lists):
    # Behind the list is the answer so far, that of the unchanged list; the
    # padding behind it is seen by nothing, and saves compilations.
    size = lists.shape[1]
    tokens = np.full((len(lists), 2 * length + 3), Token.PAD)
    tokens[:, 0], tokens[:, size + 1] = Token.BOS, Token.SORT
    tokens[:, 1 : size + 1] = vocabulary.value_token(lists)
    tokens[:, size + 2 : size + 2 + length] = vocabulary.value_token(ordered)
    at = size + 2 + place
    token = passes.predictions(subject.merge, subject.params, tokens, at)
    return np.asarray(token)[kept]

  a, b, c = (vocabulary.value_token(x[kept]) for x in (a, b, c))
  first, more, less = said(values), said(longer), said(shorter)
  return {
    'count': int(kept.sum()),
    'says b': float((first == b).mean()),
    'one a more: says a': float((more == a).mean()),
    'one a more: says b': float((more == b).mean()),
    'without b: says what is behind b': float((less == c).mean()),
    'without b: says b': float((less == b).mean()),
  }


def temper(subject: Subject, length: int, wanted: np.ndarray) -> dict[str, Any]:
  """Accuracies with the logits of all heads scaled at inference.

  'matched' gives each head the mean entropy `wanted` [K H], which takes no
  score on long lists to choose; 'oracle' is the best of `SHARED_FACTORS` on the
  very lists that it is chosen on.
  """
  rows = rows_of(subject, 'sort', length)
  plain = passes.no_edit(subject.task.model_config)

  def accuracy(scales):
    edit = dataclasses.replace(plain, scales=scales)
    return subject.score(rows, edit, length)['accuracy']

  lists = subject.lists(length)[:_MATCHED_LISTS]
  scales = passes.match_entropies(
    subject.merge, subject.params, lists, jnp.asarray(wanted)
  )
  shared = {c: accuracy(plain.scales * c) for c in SHARED_FACTORS}
  best = max(shared, key=lambda c: shared[c])
  return {
    'plain': shared[1.0],
    'matched': accuracy(scales),
    'oracle': shared[best],
    'oracle_factor': best,
    'scales': np.asarray(scales),
    'by_factor': shared,
  }


def share_circuit(
  subject: Subject, sorting: dict[str, Any], length: int
) -> dict[str, Any]:
  """Hint -> how much each head's ablation hurts it, and its correlation.

  Args:
    subject: whose hints those of its training are.
    sorting: what `ablate` gives for rows of sorting.
    length: of their lists.
  """
  results = {}
  for hint in subject.task.hints:
    hurt = ablate(subject, rows_of(subject, hint, length), length)
    damages = [x['loss'] - x['whole']['loss'] for x in (sorting, hurt)]
    results[hint] = hurt | measures.correlations(*damages)
  return results
