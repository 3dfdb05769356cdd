"""Linear probes: what ridge regression reads from each layer.

Fitted on short lists and scored on longer ones, they show which variable stays
readable as lists grow. NumPy.

Axes: B lists, N values, L = 2 N + 2 tokens, D width, K layers, V values, M
examples, C outputs.
"""

import numpy as np
from jaxtyping import Float

from hinting import analysis_measures as measures
from hinting import vocabulary

PROBES = 'value', 'successor', 'is answer', 'copies left', 'is repeat'


def fit_ridge(
  inputs: Float[np.ndarray, 'M D'],
  outputs: Float[np.ndarray, 'M C'],
  strength: float = 1e-4,
) -> Float[np.ndarray, 'D+1 C']:
  """Ridge regression with a free offset, which is the last row.

  `strength` is in units of the inputs' mean variance.
  """
  middle, level = inputs.mean(0), outputs.mean(0)
  centred = (inputs - middle).astype(np.float64)
  gram = centred.T @ centred
  gram += strength * np.trace(gram) / len(gram) * np.eye(len(gram))
  slope = np.linalg.solve(gram, centred.T @ (outputs - level))
  return np.vstack([slope, level - middle @ slope])


def apply_ridge(weights, inputs):
  """The outputs [M C] for inputs [M D] by what `fit_ridge` gave."""
  return inputs @ weights[:-1] + weights[-1]


def separation(said: np.ndarray, is_true: np.ndarray) -> float:
  """The chance [M] that a true one is above a false one; equal ones count half.

  It is the area under the ROC curve: no threshold, and 0.5 for a guess.
  """
  _, place, counts = np.unique(said, return_inverse=True, return_counts=True)
  ranks = (counts.cumsum() - (counts - 1) / 2)[place]
  num_true = is_true.sum()
  above = ranks[is_true].sum() - num_true * (num_true + 1) / 2
  return float(above / (num_true * (len(said) - num_true)))


def explained(said: np.ndarray, true: np.ndarray) -> float:
  """R squared: the share of the variance of `true` [M] that is explained."""
  return float(1 - ((said - true) ** 2).mean() / true.var())


def probe_targets(steps: measures.Steps) -> dict[str, np.ndarray]:
  """What probes should read at answer steps, [B A]; of values 0 is none."""
  value = np.asarray(steps.current) - vocabulary.value_token(0)
  successor = np.asarray(steps.successor) - vocabulary.value_token(0)
  return {
    'value': value.clip(0),
    'successor': successor.clip(0),
    'copies left': np.asarray(steps.left),
    'is repeat': np.asarray(steps.is_repeat),
  }


def _examples(stream, values, layer) -> dict[str, tuple]:
  """Name of a probe -> inputs [M D] and targets [M], from residuals."""
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
  """Ridge weights of each probe, for each layer.

  Args:
    streams: residuals [B K+1 L D] for lists of a length, one or more lengths.
    lists: their values [B N].
    num_values: V.
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
  """Each probe's score at each layer.

  Accuracy for values, `separation` for 'is ...', R squared for copies.
  """
  scores = {name: [] for name in PROBES}
  for layer, weights in enumerate(fitted):
    for name, (inputs, targets) in _examples(stream, values, layer).items():
      said = apply_ridge(weights[name], inputs)
      if name in ('value', 'successor'):
        result = float((said.argmax(1) == targets).mean())
      elif name == 'copies left':
        result = explained(said[:, 0], targets)
      else:
        result = separation(said[:, 0], targets)
      scores[name].append(result)
  return scores
