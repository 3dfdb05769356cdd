"""Causal tests: ablate and sharpen heads, change lists, scale the softmax.

Axes: B lists, N values, L tokens, K layers, H heads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinting import vocabulary
from hinting.sorting.analysis import measures, passes
from hinting.vocabulary import Token

FACTORS = 0.5, 1.5, 2.0, 3.0  # of the logits of a single head
SHARED_FACTORS = 0.8, 1.0, 1.2, 1.4, 1.6, 2.0  # of the logits of all heads
# config.seed must differ from all of these seeds.
LIST_SEED, PROBE_SEED, _HINT_SEED = 231_100, 231_101, 231_102
_MATCHED_LISTS = 100  # few, because their logits are kept in memory


@dataclasses.dataclass(frozen=True)
class Subject:
  """A trained model and its test lists.

  Attributes:
    task: a `hinting.sorting.task.SortingTask`.
    merge: maps parameters to the model.
    params: the parameters.
    num_lists: B.
  """

  task: Any
  merge: Callable
  params: Any
  num_lists: int

  def lists(self, length: int, seed: int = LIST_SEED) -> jax.Array:
    """Return the lists of a length: int [B, N]."""
    return self.task.draw_lists(seed, jnp.arange(self.num_lists), length)

  def score(
    self, rows: tuple[jax.Array, jax.Array], edit, length: int
  ) -> dict[str, float]:
    """Return the loss and the accuracy of the edited model on rows.

    Args:
      rows: tokens, and whether each is in the answer, both [B, L].
      edit: a `passes.Edit`.
      length: list length N.
    """
    scores = passes.score(self.merge, self.params, *rows, edit, length=length)
    return {name: float(value) for name, value in scores.items()}


def make_rows(
  subject: Subject, kind: str, length: int
) -> tuple[jax.Array, jax.Array]:
  """Return rows of a kind, and whether each token is in the answer: [B, L]."""
  values = subject.lists(length)
  keys = jax.random.split(jax.random.key(_HINT_SEED), len(values))
  rows = jax.vmap(subject.task.kinds[kind].make_row, (0, 0, None))(
    keys, values, jnp.asarray(length)
  )
  return rows.tokens, rows.is_answer


def ablate(subject: Subject, rows, length: int) -> dict[str, Any]:
  """Return the scores of rows without an edit, and with each head ablated.

  Args:
    subject: the model.
    rows: the result of `make_rows`.
    length: list length N.

  Returns:
    The scores without an edit ('whole'), and 'loss' and 'accuracy' [K, H].
  """
  unedited = passes.no_edit(subject.task.model_config)
  means = passes.head_means(
    subject.merge, subject.params, rows[0][:, :-1], length=length
  )
  edit = dataclasses.replace(unedited, means=means)
  return {
    'whole': subject.score(rows, unedited, length),
    **_score_each_head(
      lambda mask: subject.score(
        rows, dataclasses.replace(edit, is_ablated=mask), length
      ),
      unedited.is_ablated.shape,
    ),
  }


def _score_each_head(score, shape) -> dict[str, np.ndarray]:
  """Return 'loss' and 'accuracy' [K, H], one entry per head.

  Args:
    score: maps a mask, bool [K, H], which is True for one head, to its scores.
    shape: (K, H).
  """
  scores = [score(mask.reshape(shape)) for mask in jnp.eye(np.prod(shape)) > 0]
  return {
    name: np.array([x[name] for x in scores]).reshape(shape)
    for name in ('loss', 'accuracy')
  }


def sharpen(subject: Subject, length: int) -> dict[float, Any]:
  """Return, for each factor, the scores with each head's logits scaled."""
  rows = make_rows(subject, 'sort', length)
  unedited = passes.no_edit(subject.task.model_config)

  def scores(factor):
    return _score_each_head(
      lambda mask: subject.score(
        rows,
        dataclasses.replace(unedited, scales=jnp.where(mask, factor, 1.0)),
        length,
      ),
      unedited.scales.shape,
    )

  return {factor: scores(factor) for factor in FACTORS}


def change_lists(subject: Subject, length: int) -> dict[str, float]:
  """Test whether a change of the list changes the next token as it should.

  The test selects a random step from value a to its successor b, where b occurs
  once and its successor is c. With one more copy of a in the list, the next
  token should be a. Without b, it should be c.

  Returns:
    The number of lists with such a step ('count'), and the share of these lists
    for each prediction.
  """
  rng = np.random.default_rng(0)
  values = np.asarray(subject.lists(length))
  ordered = np.sort(values, 1)
  before, here, after = ordered[:, :-2], ordered[:, 1:-1], ordered[:, 2:]
  fits = (before < here) & (here < after)
  # Draw one fitting step per list. Lists without such a step are dropped below.
  place = (rng.random(fits.shape) * fits).argmax(1)
  index = np.arange(len(values))
  a, b, c = (x[index, place] for x in (before, here, after))
  longer = rng.permuted(np.column_stack([values, a]), axis=1)
  kept = fits.any(1)
  shorter = np.stack(
    [
      row[row != gone] if is_kept else row[1:]  # any row of that length
      for row, gone, is_kept in zip(values, b, np.atleast_1d(kept), strict=True)
    ]
  )

  def predict(lists):
    # The rows contain the answer to the unchanged list. Padding gives all rows
    # the same size, which saves compilations.
    size = lists.shape[1]
    tokens = np.full((len(lists), 2 * length + 3), Token.PAD)
    tokens[:, 0], tokens[:, size + 1] = Token.BOS, Token.SORT
    tokens[:, 1 : size + 1] = vocabulary.value_token(lists)
    tokens[:, size + 2 : size + 2 + length] = vocabulary.value_token(ordered)
    at = size + 2 + place
    token = passes.predictions(subject.merge, subject.params, tokens, at)
    return np.asarray(token)[kept]

  a, b, c = (vocabulary.value_token(x[kept]) for x in (a, b, c))
  first, more, less = predict(values), predict(longer), predict(shorter)
  return {
    'count': int(kept.sum()),
    'predicts b': float((first == b).mean()),
    'one more a: predicts a': float((more == a).mean()),
    'one more a: predicts b': float((more == b).mean()),
    'without b: predicts c': float((less == c).mean()),
    'without b: predicts b': float((less == b).mean()),
  }


def scale_softmax(
  subject: Subject, length: int, wanted: np.ndarray
) -> dict[str, Any]:
  """Return the accuracies with the logits of all heads scaled at inference.

  'matched' gives each head the mean entropy `wanted` [K, H]; it does not use
  the accuracy on long lists. 'oracle' is the best of `SHARED_FACTORS`, selected
  on the same lists.
  """
  rows = make_rows(subject, 'sort', length)
  unedited = passes.no_edit(subject.task.model_config)

  def accuracy(scales):
    edit = dataclasses.replace(unedited, scales=scales)
    return subject.score(rows, edit, length)['accuracy']

  lists = subject.lists(length)[:_MATCHED_LISTS]
  scales = passes.match_entropies(
    subject.merge, subject.params, lists, jnp.asarray(wanted)
  )
  by_factor = {c: accuracy(unedited.scales * c) for c in SHARED_FACTORS}
  best = max(by_factor, key=lambda c: by_factor[c])
  return {
    'unscaled': by_factor[1.0],
    'matched': accuracy(scales),
    'oracle': by_factor[best],
    'oracle_factor': best,
    'scales': np.asarray(scales),
    'by_factor': by_factor,
  }


def ablate_hints(
  subject: Subject, sorting: dict[str, Any], length: int
) -> dict[str, Any]:
  """Ablate each head for each hint, and compare the losses with sorting's.

  Args:
    subject: the model, with the hints of its training.
    sorting: the result of `ablate` for rows of sorting.
    length: list length of `sorting`.

  Returns:
    The result of `ablate` for each hint, and the correlations of the loss
    increases of the hint and of sorting.
  """
  results = {}
  for hint in subject.task.hints:
    ablated = ablate(subject, make_rows(subject, hint, length), length)
    increases = [x['loss'] - x['whole']['loss'] for x in (sorting, ablated)]
    results[hint] = ablated | measures.correlations(*increases)
  return results
