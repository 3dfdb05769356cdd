"""Run folders -> Markdown tables with the paper's numbers, and figures.

Every number comes from the files of a run: config.json, metrics.jsonl, run.json
and, once `--mode=eval` has run, results.json.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from core import experiment, metrics, plots, runtime, sweep
from core.errors import UserError

_NONE = '–'


@dataclasses.dataclass(frozen=True)
class _Run:
  """What a run folder holds.

  Attributes:
    folder: of the run.
    config: as in config.json.
    lines: of metrics.jsonl.
    origin: as in run.json, {} where there is none.
    results: metric name -> {'value', and 'count', 'low', 'high' of a share}.
    results_step: the step they were measured at, None if there are none.
    is_evaluated: whether they are results.json's, not from training.
  """

  folder: pathlib.Path
  config: dict[str, Any]
  lines: list[dict[str, Any]]
  origin: dict[str, Any]
  results: dict[str, dict[str, Any]]
  results_step: int | None
  is_evaluated: bool

  @property
  def paper(self) -> dict[str, str]:
    """Metric name -> the paper's value as text, '' where it gives none."""
    return self.config['report']

  @property
  def step(self) -> int:
    """Completed updates; a shipped folder has no lines, only results."""
    return self.lines[-1]['step'] if self.lines else self.results_step or 0


def report(folder) -> str:
  """Reports on a run, or on a sweep: a folder whose sub-folders are runs.

  Writes the text to `folder`/report.md. A run's training curves join the
  figures that `--mode=eval` left in `folder`/plots; the text shows them all.

  Returns:
    Markdown; '' on all processes but the first.

  Raises:
    UserError: no runs there, a damaged file, or the folder cannot be written.
  """
  if jax.process_index() != 0:
    return ''
  folder = pathlib.Path(folder)
  if (folder / 'config.json').is_file():
    text = _report_run(_read_run(folder))
  else:
    found = [path.parent for path in folder.glob('*/config.json')]
    if not found:
      raise UserError(
        f'{folder} holds neither a run nor a sweep: there is no config.json in'
        ' it or its sub-folders; give the --workdir of a training or a sweep'
      )
    found.sort(key=lambda path: _natural(path.name))
    text = _report_sweep(folder.name, [_read_run(path) for path in found])
  with runtime.reported_writes(folder):
    (folder / 'report.md').write_text(text)
  return text


def _read_run(folder: pathlib.Path) -> _Run:
  path = folder / 'metrics.jsonl'
  text = path.read_text() if path.is_file() else ''
  # The last line of a run in training may be half written.
  complete = text[: text.rfind('\n') + 1].splitlines()
  lines = [_parse(line, path) for line in complete]
  evaluated = _read_json(folder / 'results.json')
  if evaluated:
    results, step = evaluated['metrics'], evaluated['step']
  else:
    results, step = _last_evaluation(lines)
  return _Run(
    folder=folder,
    config=_read_json(folder / 'config.json'),
    lines=lines,
    origin=_read_json(folder / 'run.json'),
    results=results,
    results_step=step,
    is_evaluated=bool(evaluated),
  )


def _last_evaluation(lines: Sequence[Mapping[str, Any]]):
  """Each evaluator's last values; they all are of the last step at the end."""
  results, step = {}, None
  for line in lines:
    for tag, value in line.items():
      if tag.startswith('eval/'):
        results[tag.removeprefix('eval/')] = {'value': value}
        step = line['step']
  return results, step


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  return _parse(path.read_text(), path) if path.is_file() else {}


def _parse(text: str, path: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(text)
  except ValueError as error:
    raise UserError(
      f'{path} is damaged ({error}); repair or remove it'
    ) from error


def _report_run(run: _Run) -> str:
  names = list(run.paper)
  if not any(name in run.results for name in names):
    # Not evaluated yet, or nothing to compare: all that training measured.
    names += [
      name
      for name in metrics.headline(run.results)
      if not isinstance(run.results[name]['value'], list)
    ]
  rows = [
    (f'`{name}`', run.paper.get(name) or _NONE, _format(run, name))
    for name in names
  ]
  if run.lines:
    figures = {'training': plots.training_curves(run.lines)}
    if not run.is_evaluated:  # else `--mode=eval` has drawn them
      config = ml_collections.ConfigDict(run.config)
      values = {name: entry['value'] for name, entry in run.results.items()}
      figures |= experiment.make_task(config).figures(values)
    plots.save(figures, run.folder / 'plots')
  images = [
    f'![{path.stem}](plots/{path.name})'
    for path in sorted(run.folder.glob('plots/*.png'))
  ]
  parts = [
    f'# {run.folder.name}',
    _table(('metric', 'paper', 'ours'), rows),
    _source(run),
    _provenance(run),
    '\n'.join(images),
  ]
  return '\n\n'.join(filter(None, parts)) + '\n'


def _report_sweep(title: str, runs: Sequence[_Run]) -> str:
  names = list(dict.fromkeys(name for run in runs for name in run.paper))
  short = plots.shortest_names(names)
  # One row for the paper if its values are the same at all points.
  is_shared = all(run.paper == runs[0].paper for run in runs)
  has_note = any(run.results and not run.is_evaluated for run in runs)
  rows = []
  for run in runs:
    label = run.folder.name
    if not sweep.is_finished(run.folder):
      label += f' (step {run.step} of {run.config["total_steps"]})'
    if run.results and not run.is_evaluated:
      label += ' \\*'
    cells = [_format(run, name) for name in names]
    if not is_shared:
      cells = [
        f'{cell} (paper: {run.paper[name]})' if run.paper.get(name) else cell
        for name, cell in zip(names, cells, strict=True)
      ]
    rows.append((label, *cells))
  if is_shared and any(runs[0].paper.values()):
    rows.append(('paper', *(runs[0].paper[name] or _NONE for name in names)))
  table = _table(('', *(short[name] for name in names)), rows)
  note = '\n\\* the last evaluation in training\n' if has_note else ''
  return f'# {title}\n\n{table}\n{note}'


def _format(run: _Run, name: str) -> str:
  """'96.6 % (95.3 to 97.6, n = 1000)', or a plain number of four digits."""
  result = run.results.get(name, {})
  value = result.get('value')
  if not isinstance(value, int | float):
    return _NONE
  if 'low' in result:
    low, high = 100 * result['low'], 100 * result['high']
    interval = f'({low:.1f} to {high:.1f}, n = {result["count"]:.0f})'
    return f'{100 * value:.1f} % {interval}'
  if '%' in run.paper.get(name, ''):
    return f'{100 * value:.1f} %'
  return f'{value:.4g}'


def _source(run: _Run) -> str:
  if run.results_step is None:
    return 'Ours: not evaluated yet.'
  if run.is_evaluated:
    return f'Ours: evaluated after {run.results_step:,} updates.'
  return (
    'Ours: the last evaluation in training, after'
    f' {run.results_step:,} updates; `--mode=eval` measures the rest.'
  )


def _provenance(run: _Run) -> str:
  """What the results depend on, as far as the files tell, in one line."""
  config, origin = run.config, run.origin
  parts = [
    f'{run.step:,} of {config["total_steps"]:,} updates',
    f'{run.step * config["batch_size"]:,} examples seen',
  ]
  if run.lines:
    parts.append(f'{_duration(run.lines[-1]["seconds"])} wall time')
  if origin:
    parts.append(f'{origin["num_devices"]} x {origin["device"]}')
  parts.append(f'seed {config["seed"]}')
  if origin:
    parts.append(f'git {origin["git"]}')
    tools = ('python', 'jax', 'jaxlib', 'flax', 'optax')
    parts.append(', '.join(f'{tool} {origin[tool]}' for tool in tools))
  return '; '.join(parts) + '.'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _duration(seconds: float) -> str:
  if seconds < 60:
    return f'{seconds:.0f} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min'


def _natural(name: str) -> list[tuple[int, str]]:
  """A sort key: 'n=5' comes before 'n=10'."""
  return [
    (int(part) if part.isdigit() else 0, part)
    for part in re.split(r'(\d+)', name)
  ]
