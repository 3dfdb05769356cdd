"""Tables in Markdown files show the numbers of committed results."""

import json
import re
from collections.abc import Mapping

import pytest

from core.errors import UserError
from core.report import reproduce, results, tables

SPEC = {
  'rows': {
    'Paper': {'17 givens': '96.6'},
    'Ours': ['results.json', 'test/steps_64/'],
  },
  'columns': {'17 givens': 'solved_17_givens', 'loss': 'loss'},
  'corner': 'network',
}


@pytest.fixture
def root(tmp_path, monkeypatch):
  monkeypatch.setattr(tables, 'ROOT', tmp_path)
  share = {'value': 0.978, 'count': 1000, 'low': 0.967, 'high': 0.985}
  metrics = {
    'test/steps_64/solved_17_givens': share,
    'test/steps_64/loss': {'value': 0.123456},
  }
  text = json.dumps({'step': 1, 'metrics': metrics})
  (tmp_path / 'results.json').write_text(text)
  return tmp_path


def block(spec, table=''):
  return f'<!-- table\n{json.dumps(spec)}\n-->\n{table}{tables.END}'


def test_a_block_gets_the_numbers_of_its_results(root):
  text = tables.fill(f'before\n\n{block(SPEC, "| old |")}\n\nafter\n')
  assert text.startswith('before\n') and text.endswith('\nafter\n')
  assert text.count('\n| ') == 4 and 'old' not in text
  assert '| network | 17 givens | loss |' in text
  assert '| Paper | 96.6 | – |' in text
  assert '| Ours | 97.8 (96.7 to 98.5) | 0.1235 |' in text
  assert tables.fill(text) == text


def test_a_row_may_be_an_object_of_cells(root):
  name = 'test/steps_64/loss'
  row = {'paper': '0.2', 'ours': ['results.json', name]}
  spec = SPEC | {'rows': {'loss': row}, 'columns': ['paper', 'ours']}
  assert '| loss | 0.2 | 0.1235 |' in tables.fill(block(spec))


SWEEP = {
  'config': 'configs/rrn/sudoku.py:cpu',
  'command': 'uv run main.py --mode=sweep',
  'rows': {
    name: {
      'overrides': {},
      'seeds': [0, 1],
      'updates': 10_000,
      'minutes': 7.5,
      'date': '2026-01-02',
      'device': '1 x cpu',
      'revision': 'abc123',
      'paper': {'test/solved': paper} if paper else {},
      'metrics': {'test/solved': {'value': value, 'by_seed': [0.9, value]}},
    }
    for name, value, paper in (('none', 0.25, '20 %'), ('hint', 0.5, ''))
  },
}


@pytest.fixture
def sweep(root):
  path = root / 'results/rrn/sudoku/networks.json'
  path.parent.mkdir(parents=True)
  path.write_text(results.to_text(SWEEP))
  return str(path.relative_to(root))


def test_all_rows_of_a_sweep(sweep):
  columns = {
    'paper': '/paper/test/solved',
    'here': 'solved',
    'seeds': '/seeds',
    'updates': '/updates',
    'minutes': '/minutes',
  }
  spec = SPEC | {'rows': [sweep, 'test/'], 'columns': columns, 'percent': True}
  table = tables.render(spec).splitlines()
  assert table[2:] == [
    '| none | 20 % | 25.0 (25.0 to 90.0) | 2 | 10,000 | 7.5 |',
    '| hint | – | 50.0 (50.0 to 90.0) | 2 | 10,000 | 7.5 |',
  ]


def test_rows_of_sweeps_and_of_runs_may_be_mixed(sweep):
  rows = {
    'weights': ['results.json', 'test/steps_64/solved_17_givens', '%'],
    'without': [f'{sweep}#none', 'test/solved', '%'],
    'loss': [f'{sweep}#none', 'test/solved'],
    'ratio': [f'{sweep}#hint', 'test/solved', '/none'],
  }
  rows = {name: {'here': cell} for name, cell in rows.items()}
  table = tables.render(SPEC | {'rows': rows, 'columns': ['here']})
  assert table.splitlines()[2:] == [
    '| weights | 97.8 % (96.7 to 98.5) |',
    '| without | 25.0 % (25.0 to 90.0) |',
    '| loss | 0.25 (0.25 to 0.9) |',
    '| ratio | 2.00 |',
  ]


def typed_numbers(text: str) -> list[str]:
  """Return the table rows and cells whose numbers come from no result file.

  Numbers from the paper, in rows and columns labeled 'paper', are allowed. So
  are numbers in the first column, in code, and in links, tables of claims, with
  a column 'certainty', and tables of settings, with a column 'argument'.
  """
  outside = tables._BLOCK.sub('', text)
  found = []
  for header, body in re.findall(
    r'^(\|.*\n)((?:\|.*\n?)+)', outside, re.MULTILINE
  ):
    if not re.search('certainty|argument', header):
      found += [row for row in body.splitlines() if _has_number(row)]
  for block in tables._BLOCK.finditer(text):
    spec = json.loads(block[1])
    rows = spec['rows']
    if spec.get('typed'):
      found.append(f'typed: {block[1]}')
    for label, row in rows.items() if isinstance(rows, Mapping) else ():
      for column, cell in row.items() if isinstance(row, Mapping) else ():
        is_paper = label.lower().startswith('paper') or 'paper' in column
        if isinstance(cell, str) and _has_digit(cell) and not is_paper:
          found.append(f'{label}, {column}: {cell}')
  return found


def _has_number(row: str) -> bool:
  return _has_digit(row.partition('|')[2].partition('|')[2])


def _has_digit(text: str) -> bool:
  """Return whether a text has a digit outside code and links."""
  plain = re.sub(r'`[^`]*`|\[[^\]]*\]\([^)]*\)', '', text)
  return bool(re.search(r'\d', plain))


def test_typed_numbers_are_found():
  rows = {
    'paper, 64 steps': {'solved': '96.6'},
    'here': {'paper': '94 %', 'solved': '97.8', 'data': ['x.json', 'test/5']},
  }
  spec = SPEC | {'rows': rows, 'columns': ['paper', 'solved']}
  table = '| a | b |\n| --- | --- |\n| depth | 3.5 |\n| size 3 | `x=2` |\n'
  found = typed_numbers(f'{block(spec, table)}\n\n{table}')
  assert found == ['| depth | 3.5 |', 'here, solved: 97.8']
  until_measured = {'rows': ['x.json', ''], 'columns': {}, 'typed': True}
  assert len(typed_numbers(block(until_measured, table))) == 1


def test_the_page_of_commands(sweep, root):
  weights = root / 'pretrained/rrn_sudoku'
  weights.mkdir(parents=True)
  (weights / 'config.json').touch()
  (weights / 'results.json').write_text('{"step": 6000, "run": {"git": "f00"}}')
  figures = root / 'docs/figures'
  figures.mkdir(parents=True)
  (figures / 'a.png').touch()
  (figures / 'commands.json').write_text('{"a.png": "`uv run main.py`"}')
  text = reproduce.render(root)
  row = '20,000 | 15 | 1 x cpu | 2026-01-02 | abc123 | `uv run main.py'
  flags = '--mode=sweep --workdir=runs/rrn_sudoku_networks'
  assert f'[{sweep}](../{sweep}) | {row} {flags}` |' in text
  assert '(../pretrained/rrn_sudoku) | 6,000 | – | – | – | f00 | – |' in text
  assert '(../docs/figures/a.png) | `uv run main.py` |' in text
  (figures / 'b.gif').touch()
  with pytest.raises(UserError, match='no command for b.gif'):
    reproduce.render(root)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'rows': {'Ours': ['none.json', '']}}, 'none.json does not exist'),
    ({'columns': {'x': 'x'}}, "results.json has no metric 'test/steps_64/x'"),
    ({'colums': {}}, 'colums'),
    ({'rows': {'Ours': ['networks.json#x', '']}}, 'networks.json does not'),
  ],
)
def test_a_table_without_data_is_an_error(root, change, message):
  with pytest.raises(UserError, match=f'README.md: table block: .*{message}'):
    tables.fill(block(SPEC | change), 'README.md')


def test_a_row_that_a_sweep_lacks(sweep):
  with pytest.raises(UserError, match="has no row 'x', only none, hint"):
    tables.render(SPEC | {'rows': {'Ours': [f'{sweep}#x', '']}})


def test_the_page_of_commands_is_up_to_date():
  text = (tables.ROOT / reproduce.PATH).read_text(encoding='utf-8')
  assert text == reproduce.render(tables.ROOT), 'run core.report.tables'


PAGES = sorted(
  str(path.relative_to(tables.ROOT))
  for path in tables.documents()
  if path.name == 'README.md'
)
# Pages with rows or cells that were measured before there were result files,
# and how many. A new result file has to reduce the number.
TYPED = {
  'README.md': 11,
  'benchmarks/README.md': 2,
  'hinting/README.md': 22,
  'rrn/README.md': 3,
  'rrn/ages/README.md': 16,
  'rrn/pretty_clevr/README.md': 24,
  'rrn/sudoku/README.md': 10,
  'seq2set/README.md': 28,
  'seq2set/ngrams/README.md': 7,
  'seq2set/tsp/README.md': 3,
}


@pytest.mark.parametrize('page', PAGES)
def test_numbers_of_tables_come_from_result_files(page):
  text = (tables.ROOT / page).read_text(encoding='utf-8')
  assert len(typed_numbers(text)) == TYPED.get(page, 0)


@pytest.mark.parametrize(
  'path',
  [
    pytest.param(path, id=str(path.relative_to(tables.ROOT)))
    for path in tables.documents()
    if '<!-- table' in path.read_text(encoding='utf-8')
  ],
)
def test_the_tables_of_the_repository_are_up_to_date(path):
  text = path.read_text(encoding='utf-8')
  assert text.count('<!-- table') == text.count(tables.END)
  assert tables.fill(text, path.name) == text, 'run core.report.tables'
