"""Tables in Markdown files show the numbers of committed results."""

import json

import pytest

from core import tables
from core.errors import UserError

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


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'rows': {'Ours': ['none.json', '']}}, 'none.json does not exist'),
    ({'columns': {'x': 'x'}}, "results.json has no metric 'test/steps_64/x'"),
    ({'colums': {}}, 'colums'),
  ],
)
def test_a_table_without_data_is_an_error(root, change, message):
  with pytest.raises(UserError, match=f'README.md: table block: .*{message}'):
    tables.fill(block(SPEC | change), 'README.md')


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
  assert tables.fill(text, path.name) == text, 'run `python -m core.tables`'
