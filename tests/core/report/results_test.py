"""Result files hold the numbers of runs, and how to repeat the runs."""

import json

import numpy as np
import pytest

from core.errors import UserError
from core.io import weights
from core.report import results

SHARE = {'value': 0.966, 'count': 1000, 'low': 0.9529, 'high': 0.9756}
ORIGIN = {
  'python': '3.11.0',
  'jax': '0.10.2',
  'device': 'cpu',
  'num_devices': 1,
  'git': 'abc123',
}
COMMAND = (
  f'{results.ROOT}/main.py --mode=sweep --workdir=/home/me/runs'
  f' --config={results.ROOT}/configs/hinting/sorting.py:smoke,table=depths'
  ' --config.total_steps=100 --config.data.dir=/home/me'
)


def make_run(folder, *, command=COMMAND, measured=None, **changes):
  """Write the files of a run that was trained and evaluated."""
  folder.mkdir(parents=True)
  config = results.load_config('configs/hinting/sorting.py:smoke', changes)
  (folder / 'config.json').write_text(config.to_json())
  run = ORIGIN | {'command': command}
  (folder / 'run.json').write_text(json.dumps(run))
  lines = '{"step": 50, "seconds": 60.0}\n{"step": 100, "seconds": 123.4}\n'
  (folder / 'metrics.jsonl').write_text(lines)
  seeds = (config.num_seeds,) if config.num_seeds > 1 else ()
  params = {'a': np.zeros((*seeds, 2, 3)), 'b': np.zeros(seeds)}
  weights.save_weights(folder, params, step=100)
  record = {'step': 100, 'run': {'date': '2026-01-02'}}
  record['metrics'] = measured or {'test/sorted': SHARE}
  (folder / 'results.json').write_text(json.dumps(record))
  return folder


@pytest.fixture
def sweep(tmp_path):
  folder = tmp_path / 'sweep'
  for layers in 10, 2:
    changes = {'model.num_layers': layers, 'total_steps': 100}
    make_run(folder / f'layers_{layers}', **changes)
  return folder


def test_a_sweep_is_a_table(sweep, tmp_path):
  results.write(sweep, str(tmp_path / 'results'))
  path = tmp_path / 'results/hinting/sorting/depths.json'
  assert path.read_text() == (sweep / results.NAME).read_text()
  assert str(tmp_path) not in path.read_text()
  table = results.read(path)
  assert table['config'] == 'configs/hinting/sorting.py:smoke,table=depths'
  assert table['command'] == (
    'uv run main.py --mode=sweep'
    ' --config=configs/hinting/sorting.py:smoke,table=depths'
    ' --config.total_steps=100'
  )
  assert list(table['rows']) == ['layers_2', 'layers_10']
  row = table['rows']['layers_10']
  assert row['overrides'] == {'model.num_layers': 10, 'total_steps': 100}
  assert row['metrics'] == {'test/sorted': SHARE}
  assert (row['minutes'], row['device'], row['date']) == (
    2.1,
    '1 x cpu',
    '2026-01-02',
  )
  assert (row['updates'], row['examples'], row['seeds']) == (100, 12800, [0])
  assert row['parameters'] == 7
  assert row['revision'] == 'abc123' and row['versions']['jax'] == '0.10.2'


def test_a_row_makes_the_config_of_its_run(sweep):
  results.write(sweep)
  table = results.read(sweep / results.NAME)
  for name, row in table['rows'].items():
    config = results.load_config(table['config'], row['overrides'])
    saved = json.loads((sweep / name / 'config.json').read_text())
    assert json.loads(config.to_json()) == saved


def test_a_metric_has_its_own_line(sweep):
  results.write(sweep)
  lines = (sweep / results.NAME).read_text().splitlines()
  assert sum('"test/sorted": {"value": 0.966, "count"' in x for x in lines) == 2
  assert max(map(len, lines)) < 200


def test_rows_that_are_not_finished_are_left_out(sweep):
  (sweep / 'layers_2' / 'weights.safetensors').unlink()
  (sweep / 'plots').mkdir()
  results.write(sweep)
  assert list(results.read(sweep / results.NAME)['rows']) == ['layers_10']


def test_seeds_share_one_entry_and_curves_are_left_out(tmp_path):
  values = {'a': 0.5, 'a_min': 0.4, 'a_max': 0.6, 'a_by_seed': [0.4, 0.6]}
  values |= {'curve': [0.1, 0.2], 'undefined': None}
  folder = make_run(
    tmp_path / 'run',
    measured={f'test/{name}': {'value': v} for name, v in values.items()},
    num_seeds=2,
    seed=3,
  )
  row = results.row_of(folder)
  assert row['parameters'] == 7
  assert row['metrics'] == {'test/a': {'value': 0.5, 'by_seed': [0.4, 0.6]}}
  assert row['seeds'] == [3, 4]


@pytest.mark.parametrize('separator', '= ')
def test_a_single_run_is_named_by_its_folder(tmp_path, separator):
  command = 'main.py --config=configs/hinting/sorting.py:smoke'
  given = command.replace('=', separator)
  folder = make_run(tmp_path / 'boosted', command=given)
  results.write(folder, str(tmp_path / 'results'))
  table = results.read(tmp_path / 'results/hinting/sorting/boosted.json')
  assert table['command'] == f'uv run {command}'
  assert list(table['rows']) == ['boosted']


@pytest.mark.parametrize(
  'command', ['pytest', 'main.py --config=/gone/mine.py:cpu', 'x --config=y.py']
)
def test_a_run_of_an_unknown_config_has_all_its_settings(tmp_path, command):
  folder = make_run(tmp_path / 'run', command=command)
  results.write(folder)
  table = results.read(folder / results.NAME)
  assert table['config'] == 'configs/hinting/sorting.py'
  config = results.load_config(
    table['config'], table['rows']['run']['overrides']
  )
  assert config.model.width == 64  # of :smoke


def test_a_table_of_another_size_is_not_replaced(sweep, tmp_path):
  target = str(tmp_path / 'results')
  results.write(sweep, target)
  results.write(sweep, target)
  for path in sweep.glob('*/run.json'):
    path.write_text(path.read_text().replace(':smoke', ':cpu'))
  with pytest.raises(UserError, match='depths.json has results of .*:smoke'):
    results.write(sweep, target)


def test_nothing_to_write(sweep, tmp_path):
  for path in sweep.glob('*/results.json'):
    path.unlink()
  results.write(sweep)
  assert not (sweep / results.NAME).exists()
  with pytest.raises(UserError, match='holds no evaluated run'):
    results.write(sweep, str(tmp_path / 'results'))


def test_table_names():
  assert results.table_name('configs/hinting/sorting.py:cpu') == 'hints'
  name = results.table_name('configs/rrn/sudoku.py:cpu,table=ablations,box=2x2')
  assert name == 'ablations'


@pytest.mark.parametrize(
  'flag, overrides, message',
  [
    ('configs/rrn/gone.py', {}, 'gone.py cannot be loaded'),
    ('configs/rrn/ages.py:size=2', {}, "unknown config argument 'size'"),
    ('configs/rrn/ages.py', {'model.depth': 3}, 'model.depth'),
    ('configs/rrn/ages.py', {'seed': 'x'}, 'cannot be loaded: TypeError'),
  ],
)
def test_configs_that_do_not_load(flag, overrides, message):
  with pytest.raises(UserError, match=message):
    results.load_config(flag, overrides)


def test_damaged_file(tmp_path):
  path = tmp_path / 'table.json'
  with pytest.raises(UserError, match='does not exist'):
    results.read(path)
  path.write_text('{"config": "", "command": "", "rows": {"a": {}}}')
  with pytest.raises(UserError, match='is damaged'):
    results.read(path)


ROWS = [
  (path, name)
  for path in sorted((results.ROOT / 'results').rglob('*.json'))
  if 'config' in (table := results.read(path))
  for name in table['rows']
]


@pytest.mark.parametrize(
  'path, name', ROWS, ids=lambda x: getattr(x, 'stem', x)
)
def test_the_configs_of_committed_results_load(path, name):
  table = results.read(path)
  results.load_config(table['config'], table['rows'][name]['overrides'])
