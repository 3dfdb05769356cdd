"""Report runs as Markdown tables with the paper's numbers, and as figures.

All numbers come from the files of a run: config.json, metrics.jsonl, run.json,
and the results.json of `--mode=eval`.
"""

import math
import pathlib
import re
from collections.abc import Sequence

import jax
from etils import epy

from core import inference, metrics, sweep
from core.errors import UserError
from core.io import atomic_files
from core.report import markdown
from core.run import run_config

with epy.lazy_imports():  # matplotlib is imported when a figure is drawn
  from core.report import plots

_NONE = '–'
_NUMBER = int | float
_VALUE = int | float | list | None  # a list is a curve, None is NaN
_SHARE = 'count', 'low', 'high'
_TOOLS = 'python', 'jax', 'jaxlib', 'flax', 'optax'
_ORIGIN = dict.fromkeys(['device', 'git', *_TOOLS], str) | {'num_devices': int}


class _Run:
  """The contents of a run folder; a missing file counts as empty."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.config = run_config.read(folder)
    self.origin = atomic_files.read_json(folder / 'run.json', **_ORIGIN)
    listed = self.config['report']
    # Metric name -> the paper's value as text, '' if there is none.
    self.paper = {k: '' if v == '%' else v for k, v in listed.items()}
    self.percentages = {name for name, text in listed.items() if '%' in text}
    self.percentages |= set(map(_test_name, self.percentages))
    path = folder / 'metrics.jsonl'
    contents = path.read_bytes() if path.is_file() else b''
    # The last line of a run in training may be incomplete.
    complete = contents[: contents.rfind(b'\n') + 1].splitlines()
    self.lines = [atomic_files.parse_json(line, path) for line in complete]
    for line in self.lines:
      types = dict.fromkeys(line, _VALUE) | {'step': int, 'seconds': _NUMBER}
      atomic_files.check_object(line, path, **types)
    path = folder / 'results.json'
    evaluated = atomic_files.read_json(path, step=int, metrics=dict)
    # Metric name -> 'value'; a share also has 'count', 'low', and 'high'.
    self.results, step = evaluated.get('metrics', {}), evaluated.get('step', 0)
    for entry in self.results.values():
      atomic_files.check_object(entry, path, value=_VALUE)
      if 'low' in entry:
        atomic_files.check_object(entry, path, **dict.fromkeys(_SHARE, _NUMBER))
    self.source = f'evaluated after {step:,} updates'
    self.is_provisional = not evaluated
    if self.is_provisional:
      self.source = 'not evaluated yet'
      for line in self.lines:
        for tag, value in line.items():
          if tag.startswith('eval/'):
            self.results[tag.removeprefix('eval/')] = {'value': value}
            self.source = (
              f'the last evaluation in training, after {line["step"]:,} updates'
            )
      if self.results and self.paper.keys() - self.results.keys():
        self.source += '; `--mode=eval` measures the rest'
    self.values = {name: entry['value'] for name, entry in self.results.items()}
    self.step = self.lines[-1]['step'] if self.lines else step

  def cell(self, name: str) -> str:
    """Return '96.6 % (95.3 to 97.6, n = 1000)', or a number such as '2.883'.

    With several seeds, return the median: '96.6 % (94.1 to 97.0, 8 seeds)'.
    """
    result, value = self.results.get(name, {}), self.values.get(name)
    if not isinstance(value, int | float):
      return _NONE
    if 'low' in result:
      low, high = 100 * result['low'], 100 * result['high']
      interval = f'({low:.1f} to {high:.1f}, n = {result["count"]})'
      return f'{100 * value:.1f} % {interval}'
    scale, digits, unit = 1, '.4g', ''
    if name in self.percentages:
      scale, digits, unit = 100, '.1f', ' %'
    text = f'{scale * value:{digits}}{unit}'
    if (num_seeds := self.config['num_seeds']) == 1:
      return text
    ends = [self.values.get(f'{name}_{end}') for end in ('min', 'max')]
    low, high = (math.nan if end is None else end for end in ends)
    return (
      f'{text} ({scale * low:{digits}} to {scale * high:{digits}},'
      f' {num_seeds} seeds)'
    )


def report(folder) -> str:
  """Report a run, or a sweep, which is a folder whose sub-folders are runs.

  Write the Markdown text, with links to training curves and the figures of
  `--mode=eval`, to `folder`/report.md.

  Returns:
    The text; '' on all processes except the first.

  Raises:
    UserError: there are no runs, a file is damaged, or the folder cannot be
      written.
  """
  if jax.process_index() != 0:
    return ''
  folder = pathlib.Path(folder)
  if not folder.exists():
    raise UserError(run_config.not_a_run(folder))
  if (folder / 'config.json').is_file():
    text = _report_run(_Run(folder))
  else:
    found = [path.parent for path in folder.glob('*/config.json')]
    if not found:
      raise UserError(
        f'{folder} holds neither a run nor a sweep: there is no config.json in'
        ' it or its sub-folders; give the --workdir of a run or a sweep'
      )
    found.sort(key=lambda path: metrics.natural_sort_key(path.name))
    text = _report_sweep(folder, [_Run(path) for path in found])
  with atomic_files.reported_writes(folder):
    atomic_files.replace_file(folder / 'report.md', text.encode())
  return text


def _report_run(run: _Run) -> str:
  # Configs of short runs list only metrics that training measures.
  tests = {_test_name(name): text for name, text in run.paper.items()}
  measured = {k: v for k, v in tests.items() if k in run.results}
  paper = measured | run.paper
  names = sorted(paper, key=metrics.natural_sort_key)
  if not run.results.keys() & names:
    # Without an evaluation to compare, show what training measured.
    names += [
      name
      for name in metrics.headline(run.results)
      if not isinstance(run.values[name], list)
    ]
  rows = [
    (f'`{name}`', paper.get(name) or _NONE, run.cell(name)) for name in names
  ]
  if run.lines:
    figures = {'training': plots.training_curves(run.lines)}
    figures |= inference.training_figures(run.config, run.lines)
    if run.is_provisional:  # otherwise, `--mode=eval` has drawn them
      figures |= inference.figures(inference.make_task(run.config), run.values)
    plots.save(figures, run.folder / 'plots')
  parts = [
    f'# {run.config["task"]} in {run.folder}',
    markdown.table(('metric', 'paper', 'ours'), rows),
    f'Ours: {run.source}.',
    _provenance(run),
    _images(run.folder),
  ]
  return '\n\n'.join(filter(None, parts)) + '\n'


def _report_sweep(folder: pathlib.Path, runs: Sequence[_Run]) -> str:
  names = sorted(
    {name for run in runs for name in run.paper}, key=metrics.natural_sort_key
  )
  short = metrics.shortest_names(names)
  paper = runs[0].paper
  # The paper gets a row if its values are the same for all runs.
  is_shared = all(run.paper == paper for run in runs)
  rows, note = [], ''
  for run in runs:
    label = run.folder.name
    if not sweep.is_finished(run.folder, run.config.total_steps):
      label += f' (step {run.step} of {run.config["total_steps"]})'
    if run.results and run.is_provisional:
      label += ' \\*'
      note = '\n\\* the last evaluation in training\n'
    cells = [run.cell(name) for name in names]
    if not is_shared:
      cells = [
        f'{cell} (paper: {run.paper[name]})' if run.paper.get(name) else cell
        for name, cell in zip(names, cells, strict=True)
      ]
    rows.append((label, *cells))
  if is_shared and any(paper.values()):
    rows.append(('paper', *(paper[name] or _NONE for name in names)))
  points = {run.folder.name: (run.config, run.values) for run in runs}
  figures = dict(inference.sweep_figures(points))
  if curves := plots.sweep_curves({run.folder.name: run.lines for run in runs}):
    figures['training'] = curves
  plots.save(figures, folder / 'plots')
  table = markdown.table(('', *short.values()), rows)
  images = _images(folder)
  title = f'# {runs[0].config["task"]} in {folder}'
  return f'{title}\n\n{table}\n{note}' + (images and f'\n{images}\n')


def _test_name(name: str) -> str:
  """Return 'test/X' for 'validation/X', and any other name unchanged."""
  return re.sub('^validation/', 'test/', name)


def _images(folder: pathlib.Path) -> str:
  """Return links to all figures in `folder`/plots."""
  paths = sorted(folder.glob('plots/*.png'))
  return '\n'.join(f'![{path.stem}](plots/{path.name})' for path in paths)


def _provenance(run: _Run) -> str:
  """Return the provenance of the results in one line, as far as it is known."""
  config, origin = run.config, run.origin
  seen = f'{run.step * config["batch_size"]:,} examples seen'
  seeds = f'seed {config["seed"]}'
  if (num_seeds := config['num_seeds']) > 1:
    seen += ' by each seed'
    seeds = f'seeds {config["seed"]} to {config["seed"] + num_seeds - 1}'
  parts = [f'{run.step:,} of {config["total_steps"]:,} updates', seen]
  if run.lines:
    parts.append(f'{_duration(run.lines[-1]["seconds"])} wall time')
  if origin:
    parts.append(f'{origin["num_devices"]} x {origin["device"]}')
  parts.append(seeds)
  if source := config['data'].get('source'):
    parts.append(f'data {source}')
  if origin:
    parts.append(f'git {origin["git"]}')
    parts.append(', '.join(f'{tool} {origin[tool]}' for tool in _TOOLS))
  return '; '.join(parts) + '.'


def _duration(seconds: float) -> str:
  if seconds < 60:
    return f'{seconds:.0f} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min'
