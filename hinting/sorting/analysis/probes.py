"""Linear probes of each layer by ridge regression, in NumPy.

Probes are fitted on short lists and scored on longer ones. The scores show
which variables can still be read as lists get longer.

Axes: B lists, N values, A answer steps, L = 2 N + 2 tokens, D width, K layers,
V values, M examples, C outputs.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

from hinting import vocabulary
from hinting.sorting.analysis import measures

PROBES = 'value', 'successor', 'is answer', 'copies left', 'is repeat'


def fit_ridge(
  inputs: Float[np.ndarray, 'M D'],
  outputs: Float[np.ndarray, 'M C'],
  strength: float = 1e-4,
) -> Float[np.ndarray, 'D+1 C']:
  """Fit ridge regression with an offset that is not regularized.

  Args:
    inputs: features.
    outputs: targets.
    strength: regularization, in units of the mean variance of the inputs.

  Returns:
    The weights; the last row is the offset.
  """
  input_mean, output_mean = inputs.mean(0), outputs.mean(0)
  centered = (inputs - input_mean).astype(np.float64)
  gram = centered.T @ centered
  gram += strength * np.trace(gram) / len(gram) * np.eye(len(gram))
  coefficients = np.linalg.solve(gram, centered.T @ (outputs - output_mean))
  return np.vstack([coefficients, output_mean - input_mean @ coefficients])


def apply_ridge(weights, inputs):
  """Return the outputs [M, C] for inputs [M, D] and weights of `fit_ridge`."""
  return inputs @ weights[:-1] + weights[-1]


def roc_auc(scores: np.ndarray, is_true: np.ndarray) -> float:
  """Return the area under the ROC curve, 0.5 at chance.

  Args:
    scores: one score per example [M].
    is_true: whether each example is positive, bool [M].

  Returns:
    The area, NaN if all examples or none are positive.
  """
  positives, negatives = scores[is_true], scores[~is_true]
  if not len(positives) or not len(negatives):
    return float('nan')
  wins = stats.mannwhitneyu(positives, negatives).statistic
  return float(wins / (len(positives) * len(negatives)))


def r_squared(predicted: np.ndarray, true: np.ndarray) -> float:
  """Return the share of the variance of `true` [M] that is explained."""
  return float(1 - ((predicted - true) ** 2).mean() / true.var())


def probe_targets(steps: measures.Steps) -> dict[str, np.ndarray]:
  """Return the target of each probe at answer steps, [B, A]; 0 for no value."""
  value = np.asarray(steps.current) - vocabulary.value_token(0)
  successor = np.asarray(steps.successor) - vocabulary.value_token(0)
  return {
    'value': value.clip(0),
    'successor': successor.clip(0),
    'copies left': np.asarray(steps.copies_left),
    'is repeat': np.asarray(steps.is_repeat),
  }


def _examples(stream, values, layer) -> dict[str, tuple]:
  """Return the inputs [M, D] and targets [M] of each probe at a layer.

  The examples of 'is answer' are the tokens of the list and of the answer. The
  examples of the other probes are the answer steps.
  """
  length = values.shape[1]
  answers = stream[:, layer, length + 1 :]
  width = answers.shape[-1]
  targets = probe_targets(measures.answer_steps(values))
  examples = {
    name: (answers.reshape(-1, width), target.ravel())
    for name, target in targets.items()
  }
  tokens = np.delete(stream[:, layer], (0, length + 1), 1)
  is_answer = np.arange(2 * length) >= length
  examples['is answer'] = (
    tokens.reshape(-1, width),
    np.tile(is_answer, len(tokens)),
  )
  return examples


def fit(
  streams: list[np.ndarray], lists: list[np.ndarray], num_values: int
) -> list[dict[str, np.ndarray]]:
  """Fit each probe on each layer.

  Args:
    streams: residual streams [B, K + 1, L, D], one per list length.
    lists: values [B, N] of the lists of each stream.
    num_values: V.

  Returns:
    The weights of the probes by name, one dict per layer.
  """
  fitted = []
  for layer in range(streams[0].shape[1]):
    parts = [
      _examples(stream, values, layer)
      for stream, values in zip(streams, lists, strict=True)
    ]
    weights = {}
    for name in PROBES:
      inputs, targets = (
        np.concatenate([part[name][column] for part in parts])
        for column in (0, 1)
      )
      if name in ('value', 'successor'):
        targets = np.eye(num_values + 1)[targets]
      else:
        targets = targets[:, None].astype(float)
      weights[name] = fit_ridge(inputs, targets)
    fitted.append(weights)
  return fitted


def score(fitted, stream, values) -> dict[str, list[float]]:
  """Return the scores of each probe at each layer.

  The score is accuracy for values, ROC AUC for 'is ...', and R² for copies.

  Args:
    fitted: the result of `fit`.
    stream: residual stream [B, K + 1, L, D].
    values: values of the lists [B, N].
  """
  scores = {name: [] for name in PROBES}
  for layer, weights in enumerate(fitted):
    for name, (inputs, targets) in _examples(stream, values, layer).items():
      predicted = apply_ridge(weights[name], inputs)
      if name in ('value', 'successor'):
        result = float((predicted.argmax(1) == targets).mean())
      elif name == 'copies left':
        result = r_squared(predicted[:, 0], targets)
      else:
        result = roc_auc(predicted[:, 0], targets)
      scores[name].append(result)
  return scores
