"""Each table of each config has runs, and the queue names all tables."""

import json
import pathlib
import re
import runpy
import shlex

import pytest
from flax import traverse_util

from configs.seq2set import convex_hull, delaunay
from core.errors import UserError
from core.run import run_config

ROOT = pathlib.Path(__file__).parents[2]
SWEPT = {
  path: names
  for path in run_config.tasks().values()
  if 'sweep' in (names := runpy.run_path(path))
}
TABLES = [
  (str(pathlib.Path(path).relative_to(ROOT)), table)
  for path, names in SWEPT.items()
  for table in names['TABLES']
]


@pytest.mark.parametrize('path, table', TABLES)
def test_a_table_has_runs_at_each_size(path, table):
  names = SWEPT[str(ROOT / path)]
  for size in 'paper', 'cpu', 'smoke':
    arg = f'{size},table={table}'
    assert names['get_config'](arg).task
    assert len(names['sweep'](arg)) > 1


def queue():
  """Yield the flags of each command in the queue, with 'mode' and 'config'."""
  text = (ROOT / 'results/queue.txt').read_text()
  for line in text.splitlines():
    if 'main.py' in line:
      arguments = shlex.split(line.partition('main.py')[2])
      pairs = (x[2:].partition('=') for x in arguments)
      yield {'mode': 'train'} | {name: value for name, _, value in pairs}


def test_the_configs_of_the_queue_load():
  for flags in queue():
    if 'config' in flags:
      path, _, arg = flags['config'].partition(':')
      config = runpy.run_path(str(ROOT / path))['get_config'](arg or None)
      for name in flags:
        if name.startswith('config.'):
          assert name.removeprefix('config.') in flat(config), flags


def flat(config):
  return traverse_util.flatten_dict(config.to_dict(), sep='.')


def test_the_queue_makes_all_tables():
  made = []
  for flags in queue():
    if flags['mode'] == 'sweep':
      path, _, arg = flags['config'].partition(':')
      given = re.search('table=([a-z_]+)', arg)
      made.append(
        (path, given[1] if given else SWEPT[str(ROOT / path)]['TABLES'][0])
      )
  assert sorted(made) == sorted(TABLES)


def test_the_queue_evaluates_and_copies_what_it_trains():
  folders = {mode: [] for mode in ('train', 'sweep', 'eval', 'report')}
  for flags in queue():
    if flags['mode'] in folders:
      folders[flags['mode']].append(flags['workdir'])
  assert folders['eval'] == folders['train']
  assert folders['report'] == folders['train'] + folders['sweep']
  assert len(set(folders['report'])) == len(folders['report'])
  shipped = [path.name for path in (ROOT / 'pretrained').iterdir()]
  names = sorted([*shipped, *single_runs()])
  assert sorted(folders['train']) == [f'runs/{name}' for name in names]


def single_runs():
  """Yield the names of the result files of a single run with training."""
  for path in (ROOT / 'results').rglob('*.json'):
    table = json.loads(path.read_text())
    is_run = 'config' in table and '--mode=sweep' not in table['command']
    if is_run and all(row['updates'] for row in table['rows'].values()):
      yield path.stem


@pytest.mark.parametrize('points', [convex_hull, delaunay])
def test_the_table_of_points_sets_the_optimizer(points):
  for table, name in ('orders', 'adam'), ('muon', 'muon'):
    runs = points.sweep(f'cpu,table={table}')
    assert {run.optim.name for run in runs.values()} == {name}
  with pytest.raises(UserError, match='sets optimizer; .* table=muon for Muon'):
    points.sweep('cpu,optimizer=muon')
