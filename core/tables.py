"""Tables of Markdown files, filled with the numbers of committed results.

  uv run python -m core.tables

A block starts with a comment that holds its specification, and everything up to
`<!-- end of table -->` is generated:

  <!-- table
  {"rows": {"Paper": {"17 givens": "96.6"},
            "Ours": ["pretrained/rrn_sudoku/results.json", "test/steps_64/"]},
   "columns": {"17 givens": "solved_17_givens"},
   "corner": "boards solved, in %"}
  -->

A row is a result file and the prefix of its metrics; a column is the rest of
the metric's name. Or a row is an object of cells: a text, such as a number of
the paper, or a result file, a metric, and perhaps the unit "%". Paths start at
the root of the repository. A share that has an interval is shown in %.
"""

import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from core import storage
from core.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
END = '<!-- end of table -->'
_BLOCK = re.compile(r'<!-- table\n(.*?)-->\n(.*?)' + re.escape(END), re.DOTALL)
_MISSING = '–'


def documents() -> list[pathlib.Path]:
  """Return the Markdown files of the repository."""
  folders = 'docs', 'rrn', 'seq2set', 'hinting', 'benchmarks', 'pretrained'
  nested = (p for name in folders for p in (ROOT / name).rglob('*.md'))
  return [*ROOT.glob('*.md'), *sorted(nested)]


def fill(text: str, name: str = 'the text') -> str:
  """Return a Markdown text with all its table blocks generated anew.

  Args:
    text: of a document.
    name: of the document, for errors.

  Raises:
    UserError: a block has no valid specification, or a result is missing.
  """

  def replace(match: re.Match) -> str:
    try:
      table = render(json.loads(match[1]))
    except (ValueError, UserError) as error:
      raise UserError(f'{name}: table block: {error}') from error
    return f'<!-- table\n{match[1]}-->\n\n{table}\n\n{END}'

  return _BLOCK.sub(replace, text)


def render(spec: Mapping[str, Any]) -> str:
  """Return the Markdown table of a specification.

  Args:
    spec: 'rows' and 'columns' by label (columns may be a list if all rows are
      objects), and 'corner', the first header; see the top of this module.

  Raises:
    UserError: unknown keys, or a row names no committed result.
  """
  if unknown := spec.keys() ^ {'rows', 'columns', 'corner'}:
    raise UserError(f'keys that are unknown or missing: {sorted(unknown)}')
  lines = [[spec['corner'], *spec['columns']]]
  lines.append(['---'] * len(lines[0]))
  for label, row in spec['rows'].items():
    if not isinstance(row, Mapping):
      path, prefix = row
      row = {
        column: [path, prefix + suffix]
        for column, suffix in spec['columns'].items()
      }
    cells = [row.get(column, _MISSING) for column in spec['columns']]
    cells = [x if isinstance(x, str) else _number(*x) for x in cells]
    lines.append([label, *cells])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _number(path: str, name: str, unit: str = '') -> str:
  """Return a metric of a result file as text, in % if that is its unit."""
  if not (ROOT / path).is_file():
    raise UserError(f'{path} does not exist')
  metrics = storage.read_json(ROOT / path, metrics=dict)['metrics']
  if name not in metrics:
    raise UserError(f'{path} has no metric {name!r}')
  entry = metrics[name]
  suffix = unit and f' {unit}'
  if 'low' in entry:
    value, low, high = (100 * entry[key] for key in ('value', 'low', 'high'))
    return f'{value:.1f}{suffix} ({low:.1f} to {high:.1f})'
  if unit == '%':
    return f'{100 * entry["value"]:.3g} %'
  return f'{entry["value"]:.4g}{suffix}'


def main() -> int:
  """Generate all tables of the repository; return the exit status."""
  for path in documents():
    old = path.read_text(encoding='utf-8')
    try:
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
