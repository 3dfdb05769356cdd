"""Looks into a model that sorts: what it computes, and what breaks with length.

  uv run python -m hinting.analysis --weights=pretrained/hinting_sorting
  uv run python -m hinting.analysis --weights=A --against=B --output=runs/A_B

Writes analysis.json and figures; --against names a second model to show beside
the first, such as one with another hint. Minutes on a CPU core. The lists are
fixed, plain (or distinct), and no list of training or evaluation.

lens          what each layer would answer, by the last norm and read-out
probes        what ridge regression reads from each layer; fitted on short lists
attention     which keys each head attends to, by value; how much, by length
circuits      attention logits of pairs of embeddings
temperatures  of the softmax, as learned, by layer and head
errors        what goes wrong first in decoded answers, and on which lists
causes        heads ablated and sharpened, lists patched, temperatures matched
shared        whether hints and sorting need the same heads

That the paper (Awasthi & Gupta 2023) probed and visualised its models is known;
the procedures here are ours.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from core import experiment, plots, step, storage
from core.errors import UserError
from hinting import analysis_causes as causes
from hinting import analysis_measures as measures
from hinting import analysis_passes as passes
from hinting import analysis_plots, hints, taxonomy, vocabulary
from hinting import analysis_probes as probes
from hinting.analysis_causes import Subject
from hinting.vocabulary import Token

LENGTHS = 20, 30, 50, 70, 100
SHOWN = 20, 50, 100  # of patches; the shortest and longest of ablations
_MAPS = 'maps', 'circuits'  # for figures alone


def load(folder: str, num_lists: int, other: Subject | None = None) -> Subject:
  """Loads a run or weights, of several seeds the first.

  What is compiled for an `other` alike is used.

  Raises:
    UserError: nothing to load, or no model of plain sorting.
  """
  trained = experiment.load(folder, {'num_seeds': 1})
  if trained.config.task != 'hinting.sorting':
    raise UserError(
      f'{folder} is of {trained.config.task}, not hinting.sorting'
    )
  data = trained.config.data
  if data.main != 'sort':
    raise UserError(f'{folder} answers as {data.main!r}: a plain sort expected')
  if data.lists == 'distinct' and data.num_values < max(LENGTHS):
    raise UserError(
      f'{folder} has {data.num_values} distinct values; {max(LENGTHS)} needed'
    )
  task = trained.task
  if other and _heads(task) != _heads(other.task):
    raise UserError(
      f'{folder} has {_heads(task)} layers and heads a layer, the other model'
      f' {_heads(other.task)}'
    )
  if other and _is_alike(task, other.task):
    merge = other.merge
  else:
    merge = step.make_merge(task)
  params = jax.tree.map(jnp.asarray, trained.params)
  return Subject(task, merge, params, num_lists)


def _heads(task) -> tuple[int, int]:
  return task.model_config.num_layers, task.model_config.num_heads


def _is_alike(task, other) -> bool:
  return (task.model_config, task.dtype, task.data.num_values) == (
    other.model_config,
    other.dtype,
    other.data.num_values,
  )


def observe(subject: Subject, lengths: Sequence[int]) -> dict[int, Any]:
  """Logit lens, probes and attention at each length."""
  longest = subject.task.data.max_length
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
  """Attention logits [K H 2+V 2+V] of BOS, SORT and the values."""
  values = vocabulary.value_token(
    np.arange(1, subject.task.data.num_values + 1)
  )
  tokens = jnp.array([Token.BOS, Token.SORT, *values])
  model = subject.merge(subject.params)
  return np.asarray(measures.qk_circuit(model, tokens))


def temperatures(subject: Subject) -> list[dict[str, np.ndarray]]:
  """What each layer's softmax has learned, by `Temperature`'s names."""
  blocks = jax.device_get(subject.params['blocks'])
  return [blocks[layer].get('temperature', {}) for layer in sorted(blocks)]


def errors(subject: Subject, lengths: Sequence[int]) -> dict[int, Any]:
  """First errors at each length, and accuracy by multiplicity and density."""
  results = {}
  for length in lengths:
    values = subject.lists(length)
    targets = np.asarray(hints.sort_rows(values)[:, length + 2 :])
    answers = passes.decode(subject.merge, subject.params, values)
    values, answers = np.asarray(values), np.asarray(answers)
    is_right = (answers == targets).all(1)
    results[length] = {
      'shares': taxonomy.share_of_errors(answers, values),
      'multiplicity': taxonomy.accuracy_by_group(
        is_right, taxonomy.multiplicity(values), taxonomy.MULTIPLICITIES
      ),
      'density': taxonomy.accuracy_by_group(
        is_right, taxonomy.density(values), taxonomy.DENSITIES
      ),
    }
  return results


def analyse(
  subject: Subject,
  lengths: Sequence[int] = LENGTHS,
  shown: Sequence[int] = SHOWN,
) -> dict[str, Any]:
  """All of it, for one model: nested dicts of numbers and arrays."""
  short, long = shown[0], shown[-1]
  observed = observe(subject, lengths)
  ablation = {
    length: causes.ablate(
      subject, causes.rows_of(subject, 'sort', length), length
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
    'patches': {n: causes.patch(subject, n) for n in shown},
    'temperature': {n: causes.temper(subject, n, wanted) for n in shown[1:]},
    'shared': causes.share_circuit(subject, ablation[short], short),
  }


def to_json(value: Any) -> Any:
  """Arrays as lists, numbers to five digits; without maps.

  None stands for what is not defined, such as a share of no lists.
  """
  if isinstance(value, dict):
    return {str(k): to_json(v) for k, v in value.items() if k not in _MAPS}
  if isinstance(value, list | tuple | np.ndarray):
    return [to_json(x) for x in value]
  if isinstance(value, float | np.floating):
    return float(f'{value:.5g}') if np.isfinite(value) else None
  return value


def main(argv) -> int:
  """Analyses one model or two; returns the exit status."""
  logging.set_verbosity(logging.WARNING)
  values = flags.FLAGS
  try:
    if argv[1:]:
      raise UserError(f'{argv[1]!r} is no flag; write --name=value')
    if not values.weights:
      raise UserError('name a run or weights with --weights=FOLDER')
    folders = [values.weights, *filter(None, [values.against])]
    names = [pathlib.Path(folder).name for folder in folders]
    if len(set(names)) < len(folders):
      names = folders
    output = pathlib.Path(values.output)
    with storage.reported_writes(output):  # told before the work, not after it
      output.mkdir(parents=True, exist_ok=True)
    results, subject = {}, None
    for name, folder in zip(names, folders, strict=True):
      subject = load(folder, values.num_lists, subject)
      results[name] = analyse(subject)
    with storage.reported_writes(output):
      text = json.dumps(to_json(results), allow_nan=False)
      (output / 'analysis.json').write_text(text, encoding='utf-8')
    plots.save(analysis_plots.figures(results), output)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(f'{output}/analysis.json and {len(list(output.glob("*.png")))} figures')
  return 0


if __name__ == '__main__':
  flags.DEFINE_string('weights', None, 'A run or a folder of weights.')
  flags.DEFINE_string('against', None, 'A second one.')
  flags.DEFINE_string('output', 'runs/analysis', 'The folder of the results.')
  flags.DEFINE_integer('num_lists', 500, 'Lists of each length.', 25)
  app.run(main)
