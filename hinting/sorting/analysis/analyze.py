"""Analyze how a trained sorter computes, and why it fails on longer lists.

The parts of an analysis:

  lens          the output layer applied after each layer (logit lens)
  probes        ridge regression from each layer, fitted on short lists
  attention     the attention of each head to each key, by value and by length
  circuits      attention logits of pairs of embeddings
  temperatures  the learned parameters of the softmax, by layer and head
  errors        the first error of decoded answers, by group of lists
  causes        heads ablated and sharpened, lists changed, temperatures matched
  shared        whether hints and sorting need the same heads

The lists are fixed and uniform, or distinct if the training lists are distinct.
The evaluation uses other lists.

Axes: K layers, H heads, V values.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core import inference, step
from core.errors import UserError
from hinting import vocabulary
from hinting.sorting import error_types, hints
from hinting.sorting.analysis import causes, measures, passes, probes
from hinting.sorting.analysis.causes import Subject
from hinting.vocabulary import Token

LENGTHS = 20, 30, 50, 70, 100
CAUSAL_LENGTHS = 20, 50, 100  # of changed lists; see `analyze`
_MAPS = 'maps', 'circuits'  # large arrays for figures only


def load(folder: str, num_lists: int, other: Subject | None = None) -> Subject:
  """Load a trained model. With several seeds, load the first one.

  Args:
    folder: a run folder, or a folder of weights.
    num_lists: number of lists per length.
    other: a subject whose compiled programs are reused if its model has the
      same form.

  Raises:
    UserError: the folder cannot be loaded, or its model cannot be analyzed.
  """
  trained = inference.load(folder, {'num_seeds': 1})
  if trained.config.task != 'hinting.sorting':
    raise UserError(
      f'{folder} holds a model of {trained.config.task}; expected a model of'
      ' hinting.sorting'
    )
  data = trained.config.data
  if data.main != 'sort':
    raise UserError(
      f'{folder} has config.data.main={data.main!r}; expected a model with'
      " 'sort'"
    )
  if data.lists == 'distinct' and data.num_values < max(LENGTHS):
    raise UserError(
      f'{folder} has {data.num_values} distinct values; expected at least'
      f' {max(LENGTHS)}'
    )
  task = trained.task
  heads = _describe_heads(task)
  if other and heads != _describe_heads(other.task):
    raise UserError(
      f'{folder} has {heads}, but the first model has'
      f' {_describe_heads(other.task)}; compare models with the same numbers'
    )
  if other and _can_share_programs(task, other.task):
    merge = other.merge
  else:
    merge = step.make_merge(task)
  params = jax.tree.map(jnp.asarray, trained.params)
  return Subject(task, merge, params, num_lists)


def _describe_heads(task) -> str:
  config = task.model_config
  return f'{config.num_layers} layers of {config.num_heads} heads'


def _can_share_programs(task, other) -> bool:
  return (task.model_config, task.dtype, task.data.num_values) == (
    other.model_config,
    other.dtype,
    other.data.num_values,
  )


def observe(subject: Subject, lengths: Sequence[int]) -> dict[int, Any]:
  """Return the logit lens, the scores of probes, and the attention by length.

  The probes are fitted on other lists, of at most the length in training.
  """
  longest = subject.task.data.max_train_length
  short = [subject.lists(n, causes.PROBE_SEED) for n in (longest // 2, longest)]
  streams = [
    np.asarray(passes.residuals(subject.merge, subject.params, values))
    for values in short
  ]
  fitted = probes.fit(
    streams, list(map(np.asarray, short)), subject.task.data.num_values
  )
  results = {}
  for length in lengths:
    values = subject.lists(length)
    seen, stream = passes.observe(subject.merge, subject.params, values)
    scores = probes.score(fitted, np.asarray(stream), np.asarray(values))
    results[length] = jax.device_get(seen) | {'probes': scores}
  return results


def circuits(subject: Subject) -> np.ndarray:
  """Return attention logits of BOS, SORT, and values: [K, H, 2 + V, 2 + V]."""
  values = vocabulary.value_token(
    np.arange(1, subject.task.data.num_values + 1)
  )
  tokens = jnp.array([Token.BOS, Token.SORT, *values])
  model = subject.merge(subject.params)
  return np.asarray(measures.qk_circuit(model, tokens))


def temperatures(subject: Subject) -> list[dict[str, np.ndarray]]:
  """Return the parameters of `Temperature` of each layer."""
  blocks = jax.device_get(subject.params['blocks'])
  return [blocks[layer].get('temperature', {}) for layer in sorted(blocks)]


def errors(subject: Subject, lengths: Sequence[int]) -> dict[int, Any]:
  """Return the shares of first errors and accuracies by group, by length."""
  results = {}
  for length in lengths:
    values = subject.lists(length)
    targets = np.asarray(hints.sort_rows(values)[:, length + 2 :])
    answers = passes.decode(subject.merge, subject.params, values)
    values, answers = np.asarray(values), np.asarray(answers)
    is_right = (answers == targets).all(1)
    results[length] = {
      'shares': error_types.share_of_errors(answers, values),
      'multiplicity': error_types.accuracy_by_group(
        is_right, error_types.multiplicity(values), error_types.MULTIPLICITIES
      ),
      'density': error_types.accuracy_by_group(
        is_right, error_types.density(values), error_types.DENSITIES
      ),
    }
  return results


def analyze(
  subject: Subject,
  lengths: Sequence[int] = LENGTHS,
  causal_lengths: Sequence[int] = CAUSAL_LENGTHS,
) -> dict[str, Any]:
  """Return all parts of the analysis of one model.

  Args:
    subject: the model.
    lengths: list lengths of observations and errors.
    causal_lengths: lengths of the changed lists, in ascending order. Ablations
      use the first and the last, and scaling uses all but the first.

  Returns:
    Nested dicts of numbers and arrays.
  """
  short, long = causal_lengths[0], causal_lengths[-1]
  observed = observe(subject, lengths)
  ablation = {
    length: causes.ablate(
      subject, causes.make_rows(subject, 'sort', length), length
    )
    for length in (short, long)
  }
  wanted = observed[short]['entropy']
  return {
    'observed': observed,
    'circuits': circuits(subject),
    'temperatures': temperatures(subject),
    'errors': errors(subject, lengths),
    'ablation': ablation,
    'sharpening': causes.sharpen(subject, long),
    'changed_lists': {
      n: causes.change_lists(subject, n) for n in causal_lengths
    },
    'scaling': {
      n: causes.scale_softmax(subject, n, wanted) for n in causal_lengths[1:]
    },
    'shared': causes.ablate_hints(subject, ablation[short], short),
  }


def to_json(value: Any) -> Any:
  """Convert results to JSON types, with five digits and without maps.

  A value that is not finite, such as a mean over no lists, becomes None.
  """
  if isinstance(value, dict):
    return {str(k): to_json(v) for k, v in value.items() if k not in _MAPS}
  if isinstance(value, list | tuple | np.ndarray):
    return [to_json(x) for x in value]
  if isinstance(value, float | np.floating):
    return float(f'{value:.5g}') if np.isfinite(value) else None
  return value
