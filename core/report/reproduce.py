"""Write docs/reproduce.md: command, time, and revision of committed numbers.

`uv run python -m core.report.tables` writes it from the result files, from
`pretrained/`, and from `docs/figures/commands.json`.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.errors import UserError
from core.io import atomic_files
from core.report import markdown, results

PATH = 'docs/reproduce.md'
_MISSING = '–'
_HEADER = 'updates', 'minutes', 'device', 'date', 'revision', 'command'
_TEXT = """\
# Reproduce

`uv run python -m core.report.tables` generates this page; do not edit it. It
lists the command for each table, each set of weights, and each figure. A queue
runs all tables except the benchmarks, and trains the weights, with one CPU core
per process:

```
uv run python -m core.run.queue results/queue.txt --processes=2
```

After `--mode=eval`, `--mode=report --workdir=FOLDER --results=results` turns a
run or a sweep into a result file. The files of the weights are copies of those
in the run folder.

## Tables

Updates and minutes of training are summed over the rows of a table.

{tables}

## Weights

Weights without a `table.json` have the date and the revision of their
evaluation. A dash marks a value that the files of the weights do not record.

{weights}

## Figures

{figures}
"""


def render(root: pathlib.Path) -> str:
  """Return the text of docs/reproduce.md for a copy of the repository.

  Raises:
    UserError: a result file is damaged, or a figure has no command.
  """
  tables = sorted((root / 'results').rglob('*.json'))
  folders = sorted(
    path.parent for path in root.glob('pretrained/*/config.json')
  )
  return _TEXT.format(
    tables=_table('result file', (_table_row(root, path) for path in tables)),
    weights=_table('weights', (_weights_row(root, path) for path in folders)),
    figures=_figures(root),
  )


def _table(corner: str, rows: Iterable[Sequence[str]]) -> str:
  rows = list(rows)
  if not rows:
    return 'None yet.'
  return markdown.table([corner, *_HEADER], rows)


def _table_row(root: pathlib.Path, path: pathlib.Path) -> list[str]:
  table = results.read(path)
  rows = (table | row for row in table['rows'].values())
  command = table['command']
  if 'config' in table:  # a run or a sweep, not another measurement
    command += f' --workdir=runs/{_folder_name(root, path, command)}'
  return [_link(root, path), *_cells(rows, command)]


def _folder_name(root: pathlib.Path, path: pathlib.Path, command: str) -> str:
  """Return the name of the run folder that a command shows.

  Each command needs its own folder. A result file of a single run has the name
  of its run folder. `--mode=eval --weights=pretrained/NAME` uses runs/NAME, so
  the training of these weights uses another name.
  """
  if path.name == results.NAME:
    return f'{path.parent.name}_training'
  if '--mode=sweep' not in command:
    return path.stem
  return '_'.join(path.relative_to(root / 'results').with_suffix('').parts)


def _weights_row(root: pathlib.Path, folder: pathlib.Path) -> list[str]:
  if (folder / results.NAME).is_file():
    _, *cells = _table_row(root, folder / results.NAME)
  else:
    evaluated = atomic_files.read_json(folder / 'results.json')
    run = evaluated.get('run', {})
    row = {'updates': evaluated.get('step'), 'date': run.get('date')}
    row |= {'minutes': None, 'revision': run.get('git'), 'device': None}
    cells = _cells([row], '')
  return [_link(root, folder), *cells]


def _cells(rows: Iterable[Mapping[str, Any]], command: str) -> list[str]:
  rows = list(rows)

  def total(name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f'{round(sum(values)):,}' if values else _MISSING

  def each(name: str) -> str:
    values = sorted({row[name] for row in rows if row.get(name)})
    return ', '.join(values) or _MISSING

  return [
    *(total(name) for name in ('updates', 'minutes')),
    *(each(name) for name in ('device', 'date', 'revision')),
    f'`{command}`' if command else _MISSING,
  ]


def _figures(root: pathlib.Path) -> str:
  """Return a table of docs/figures and the commands that draw them."""
  commands = atomic_files.read_json(root / 'docs/figures/commands.json')
  rows = []
  for path in sorted((root / 'docs/figures').glob('*')):
    if path.suffix not in ('.png', '.gif'):
      continue
    if path.name not in commands:
      raise UserError(
        f'docs/figures/commands.json has no command for {path.name}; add one'
      )
    rows.append((_link(root, path), commands[path.name]))
  return markdown.table(['figure', 'command'], rows)


def _link(root: pathlib.Path, path: pathlib.Path) -> str:
  name = path.relative_to(root).as_posix()
  return f'[{name}](../{name})'
