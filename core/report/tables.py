"""Fill the tables of Markdown files with the numbers of committed results.

  uv run python -m core.report.tables

A block starts with a comment that holds its specification, and everything up to
`<!-- end of table -->` is generated:

  <!-- table
  {"rows": {"Paper": {"17 givens": "96.6"},
            "Ours": ["pretrained/rrn_sudoku/results.json", "test/steps_64/"]},
   "columns": {"17 givens": "solved_17_givens"},
   "corner": "boards solved, in %"}
  -->

A row is a result file and the prefix of its metrics, and a column is the rest
of the name of the metric. A file of `core.report.results` also needs the name
of a row: `results/rrn/sudoku/boards.json#12x12`. ["FILE", "PREFIX"] in place of
the rows selects all rows of such a file. For these files, a column may also be
"/minutes", "/parameters", "/updates", "/examples", "/seeds" (their number), or
"/paper/METRIC".

Alternatively, a row is an object of cells. A cell is a string, such as a number
from the paper, or a list: a result file, a metric, and optionally the unit "%",
"min" for the metric "minutes", or "/ROW" for the ratio to another row of the
file. Paths start at the root of the repository. A share with an interval is
shown in %, and with "percent": true, all numbers are. With several seeds, a
cell shows the median, the lowest, and the highest value. A 'low' and a 'high'
value without a 'count' are shown in the same way.

"typed": true keeps the typed text of a block until the file of ["FILE",
"PREFIX"] exists.

The command also writes docs/reproduce.md; see `core.report.reproduce`.
"""

import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from core.errors import UserError
from core.io import atomic_files
from core.report import markdown, reproduce, results

ROOT = results.ROOT
END = '<!-- end of table -->'
_BLOCK = re.compile(r'<!-- table\n(.*?)-->\n(.*?)' + re.escape(END), re.DOTALL)
_MISSING = '–'


def documents() -> list[pathlib.Path]:
  """Return the Markdown files of the repository."""
  folders = 'docs', 'rrn', 'seq2set', 'hinting', 'benchmarks', 'pretrained'
  nested = (p for name in folders for p in (ROOT / name).rglob('*.md'))
  return [*ROOT.glob('*.md'), *sorted(nested)]


def fill(text: str, name: str = 'the text') -> str:
  """Return a Markdown text with all its table blocks regenerated.

  Args:
    text: text of a document.
    name: name of the document, for errors.

  Raises:
    UserError: the specification of a block is invalid, or a result is missing.
  """

  def replace(match: re.Match) -> str:
    try:
      spec = json.loads(match[1])
      if spec.pop('typed', False) and not (ROOT / spec['rows'][0]).is_file():
        return match[0]
      table = render(spec)
    except (ValueError, LookupError, UserError) as error:
      raise UserError(f'{name}: table block: {error}') from error
    return f'<!-- table\n{match[1]}-->\n\n{table}\n\n{END}'

  return _BLOCK.sub(replace, text)


def render(spec: Mapping[str, Any]) -> str:
  """Return the Markdown table of a specification.

  Args:
    spec: 'rows' and 'columns' by label (columns may be a list if all rows are
      objects), 'corner' (the first header), and optionally 'percent'; see the
      docstring of this module.

  Raises:
    UserError: a key is unknown or missing, or a cell names a missing result.
  """
  needed = {'rows', 'columns', 'corner'}
  if missing := needed - spec.keys():
    raise UserError(f'missing keys: {sorted(missing)}')
  if unknown := spec.keys() - needed - {'percent'}:
    raise UserError(f'unknown keys: {sorted(unknown)}')
  rows = spec['rows']
  if not isinstance(rows, Mapping):
    path, prefix = rows
    names = results.read(ROOT / path)['rows']
    rows = {name: [f'{path}#{name}', prefix] for name in names}
  body = []
  for label, row in rows.items():
    if not isinstance(row, Mapping):
      path, prefix = row
      row = {
        # A name that starts with a slash needs no prefix.
        column: [path, name[1:] if name[0] == '/' else prefix + name]
        for column, name in spec['columns'].items()
      }
    cells = [row.get(column, _MISSING) for column in spec['columns']]
    # The unit of a cell, if it has one, comes first and takes precedence.
    unit = ['x100'] if spec.get('percent') else []
    cells = [x if isinstance(x, str) else _cell(*(x + unit)[:3]) for x in cells]
    body.append([label, *cells])
  return markdown.table([spec['corner'], *spec['columns']], body)


def _cell(path: str, name: str, unit: str = '') -> str:
  """Return a number of a result file as text, with its unit."""
  row = _read_row(path)
  if name.startswith('paper/'):
    return row.get('paper', {}).get(name.removeprefix('paper/'), _MISSING)
  if '/' not in name and name in row:
    value = len(row['seeds']) if name == 'seeds' else row[name]
    if value is None:
      return _MISSING
    return f'{value:,}{" min" if unit == "min" else ""}'
  entry = _entry(path, row, name)
  if unit.startswith('/'):
    other = path.partition('#')[0] + f'#{unit[1:]}'
    base = _entry(other, _read_row(other), name)
    return f'{entry["value"] / base["value"]:.2f}'
  return _number(entry, unit)


def _read_row(path: str) -> Mapping[str, Any]:
  """Return the row FILE#ROW, or the results of a single run."""
  file, _, label = path.partition('#')
  if label:
    rows = results.read(ROOT / file)['rows']
    if label not in rows:
      raise UserError(f'{file} has no row {label!r}, only {", ".join(rows)}')
    return rows[label]
  if not (ROOT / file).is_file():
    raise UserError(f'{file} does not exist')
  return atomic_files.read_json(ROOT / file, metrics=dict)


def _entry(path: str, row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  if name not in row['metrics']:
    raise UserError(f'{path} has no metric {name!r}')
  return row['metrics'][name]


def _number(entry: Mapping[str, Any], unit: str) -> str:
  """Return 'value unit (low to high)'; 'x100' is percent without the sign."""
  value, ends = entry['value'], [entry.get('low'), entry.get('high')]
  if value is None:  # NaN
    return _MISSING
  is_share = 'count' in entry and None not in ends
  if by_seed := entry.get('by_seed'):
    ends = min(by_seed), max(by_seed)
  suffix = f' {unit}' if unit not in ('', 'x100') else ''
  if is_share or unit == 'x100' or unit == '%' and None not in ends:
    value, *ends = (100 * x for x in (value, *ends) if x is not None)
    texts = [f'{x:.1f}' for x in (value, *ends)]
  elif unit == '%':
    return f'{100 * value:.3g} %'
  else:
    numbers = [x for x in (value, *ends) if x is not None]
    texts = [markdown.number(x) for x in numbers]
  low_to_high = f' ({" to ".join(texts[1:])})' if texts[1:] else ''
  return f'{texts[0]}{suffix}{low_to_high}'


def main() -> int:
  """Generate all tables of the repository, and return the exit status."""
  for path in documents():
    old = path.read_text(encoding='utf-8')
    try:
      if path == ROOT / reproduce.PATH:
        new = reproduce.render(ROOT)
      else:
        new = fill(old, str(path.relative_to(ROOT)))
    except UserError as error:
      print(f'error: {error}', file=sys.stderr)
      return 2
    if new != old:
      path.write_text(new, encoding='utf-8')
      print(f'wrote {path.relative_to(ROOT)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
