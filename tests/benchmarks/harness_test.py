"""The harness checks, times, and writes; no test asserts a time."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from core.io import atomic_files
from core.report import reproduce, tables


def make_benchmark(calls=None, peers=('a-peer-that-is-absent',), **values):
  """Return a benchmark whose contenders compute `values`."""
  calls = [] if calls is None else calls

  def make_cases(args):
    contenders = {
      name: harness.Contender(
        lambda name=name: calls.append(name), [args.scale * jnp.asarray(x)], 2
      )
      for name, x in values.items()
    }
    limits = {'2 x 2': harness.Contender(lambda: None, gflop=4)}
    yield harness.Case('sums', contenders, 6, 2, limits=limits)

  return types.SimpleNamespace(
    __doc__='A benchmark.',
    FLAGS={
      'rounds': (3, 1, 'Turns.'),
      'scale': (2, 1, 'Factor.'),
      'size': ('small', ('small', 'large'), 'Size.'),
    },
    PEERS=peers,
    UNIT='sums',
    make_cases=make_cases,
  )


VALUES = {'plain': [1.0, 2.0], 'ours': [1.0, 2.00001]}


def test_contenders_take_turns():
  calls = []
  benchmark = make_benchmark(calls, **VALUES)
  harness.run('fake', benchmark, ['--rounds=2'])
  assert calls == 3 * ['plain', 'ours']  # the first round warms up


def test_the_result_file(tmp_path, capsys):
  benchmark = make_benchmark(**VALUES)
  arguments = [f'--results={tmp_path}', f'--output={tmp_path}/a/b.json']
  harness.run('fake', benchmark, ['--scale=3', *arguments])
  path = tmp_path / 'benchmarks/fake.json'
  assert (tmp_path / 'a/b.json').read_text() == path.read_text()
  printed = capsys.readouterr().out
  assert f'wrote {path}' in printed and 'speedup of ours' in printed
  record = json.loads(path.read_text())
  assert record['name'] == 'fake'
  assert record['command'] == 'uv run python -m benchmarks fake --scale=3'
  assert record['flags'] == {'rounds': 3, 'scale': 3, 'size': 'small'}
  assert record['device'].startswith('8 x ')
  assert record['revision'] and record['date']
  assert record['versions']['jax']
  assert record['versions']['a-peer-that-is-absent'] is None
  assert list(record['rows']) == ['sums, plain', 'sums, ours']
  row = record['rows']['sums, plain']
  assert len(row['seconds']) == 3
  assert list(row['metrics']) == [
    'sums_per_second',
    'ms',
    'speedup_of_ours',
    'gflop_per_second',
    'percent_of_peak',
    'speedup_at_peak',
  ]
  for entry in row['metrics'].values():
    assert entry['low'] <= entry['value'] <= entry['high']


def test_a_turn_has_several_updates(monkeypatch):
  clock = iter([0, 0, 5, 0, 9, 0, 13])  # a warm-up turn reads it once
  monkeypatch.setattr(harness.time, 'perf_counter', lambda: next(clock))
  contenders = {'ours': harness.Contender(lambda: None, gflop=2)}
  case = harness.Case('sums', contenders, 6, 2)
  metrics = harness.measure(case, 3, 'sums')['ours']['metrics']
  # 5, 9, and 13 seconds, for two updates of six sums.
  assert metrics['ms'] == {'value': 4500, 'low': 2500, 'high': 6500}
  expected = {'value': 1.33, 'low': 0.923, 'high': 2.4}
  assert metrics['sums_per_second'] == expected
  assert metrics['speedup_of_ours'] == {'value': 1, 'low': 1, 'high': 1}


def test_the_speedup_at_the_peak_is_relative_to_the_products(monkeypatch):
  """An update of ours has 2 GFLOP; the product computes 4 in a second."""
  clock = iter([0, 0, 0, 0, 3, 0, 6, 0, 1])
  monkeypatch.setattr(harness.time, 'perf_counter', lambda: next(clock))
  contenders = {
    'ours': harness.Contender(lambda: None, gflop=2),
    'other': harness.Contender(lambda: None),
  }
  limits = {'2 x 2': harness.Contender(lambda: None, gflop=4)}
  case = harness.Case('sums', contenders, 1, 2, limits)
  rows = harness.measure(case, 1, 'sums')
  values = {
    name: [entry['value'] for entry in row['metrics'].values()]
    for name, row in rows.items()
  }
  assert values['ours'][2:] == [1, 1.33, 33.3, 3]
  assert values['other'][2:] == [2, None, None, 6]


def test_the_bandwidth_is_relative_to_the_stream(monkeypatch):
  """An update has 2 GFLOP and 4 GB in 3 seconds; the stream has 4 GB/s."""
  clock = iter([0, 0, 0, 3, 0, 1])
  monkeypatch.setattr(harness.time, 'perf_counter', lambda: next(clock))
  contenders = {'ours': harness.Contender(lambda: None, gflop=2, gbyte=4)}
  limits = {'stream': harness.Contender(lambda: None, gbyte=4)}
  case = harness.Case('sums', contenders, 1, 1, limits)
  metrics = harness.measure(case, 1, 'sums')['ours']['metrics']
  assert metrics['percent_of_bandwidth']['value'] == 33.3
  assert metrics['flop_per_byte']['value'] == 0.5
  assert 'percent_of_peak' not in metrics  # no product shows the peak


def test_each_execution_of_a_loop_counts():
  call = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y @ x, x))
  x = jnp.ones((4, 4))
  compiled, gflop, gbyte = harness.compile_and_count(call, x)
  np.testing.assert_array_equal(compiled(x), call(x))
  assert gflop == 3 * 2 * 4**3 / 1e9
  # Three products read two matrices and write one.
  assert gbyte * 1e9 >= 3 * 3 * x.nbytes * jax.device_count()


@pytest.mark.parametrize(
  'other, message',
  [
    ([1.0, 2.001], 'sums, other: values differ from ours by 4.9e-04'),
    ([1.0, np.nan], 'sums, other: values differ from ours by nan'),
    ([1.0], r'sums, other: shape \(1,\), not \(2,\)'),
  ],
)
def test_a_wrong_value_is_an_error(other, message, tmp_path):
  calls = []
  benchmark = make_benchmark(calls, other=other, **VALUES)
  with pytest.raises(ArithmeticError, match=message):
    harness.run('fake', benchmark, [f'--results={tmp_path}'])
  assert not calls and not list(tmp_path.rglob('*.json'))


def test_a_contender_may_compute_another_function():
  contenders = {
    'ours': harness.Contender(lambda: None, [jnp.ones(2)]),
    'other': harness.Contender(lambda: None),
  }
  rows = harness.measure(harness.Case('sums', contenders, 1), 1, 'sums')
  assert list(rows) == ['ours', 'other']


def test_absent_peers_are_named(capsys):
  assert harness.peer('A Peer', 'a_peer_that_is_absent') is None
  printed = capsys.readouterr().out
  assert printed == "skipping A Peer: No module named 'a_peer_that_is_absent'\n"


def test_installed_peers_are_in_the_command(tmp_path):
  path = tmp_path / 'a.json'
  benchmark = make_benchmark(
    peers=('pytest', 'a-peer-that-is-absent'), **VALUES
  )
  harness.run('fake', benchmark, [f'--output={path}'])
  with_pytest = f'uv run --with pytest=={pytest.__version__} python -m'
  assert with_pytest in json.loads(path.read_text())['command']


def test_results_become_a_table(tmp_path, monkeypatch):
  monkeypatch.setattr(tables, 'ROOT', tmp_path)
  spec = {
    'rows': ['results/benchmarks/fake.json', ''],
    'columns': {'sums/s': 'sums_per_second'},
    'corner': 'contender',
    'typed': True,
  }
  block = f'<!-- table\n{json.dumps(spec)}\n-->\n\n| 1 |\n\n{tables.END}'
  assert tables.fill(block) == block  # not measured yet
  benchmark = make_benchmark(**VALUES)
  harness.run('fake', benchmark, [f'--results={tmp_path}/results'])
  path = tmp_path / spec['rows'][0]
  record = atomic_files.read_json(path)
  entry = {'value': 12300.0, 'low': 1.5, 'high': 1.2e6}
  record['rows']['sums, ours']['metrics']['sums_per_second'] = entry
  atomic_files.write_json(path, record)
  text = tables.fill(block)
  assert '| sums, ours | 12,300 (1.5 to 1,200,000) |' in text
  assert '| sums, plain | ' in text and '| 1 |' not in text
  row = (
    f'{record["device"]} | {record["date"]} | {record["revision"]} | `uv run'
  )
  (tmp_path / 'docs/figures').mkdir(parents=True)
  assert f'{row} python -m benchmarks fake` |' in reproduce.render(tmp_path)


def test_the_command(capsys):
  assert command.main([]) == command.main(['--help']) == 0
  printed = capsys.readouterr().out
  assert all(printed.count(f'  {x} ') == 2 for x in command.BENCHMARKS)
  assert command.main(['soduku']) == 2
  error = capsys.readouterr().err
  assert "no benchmark 'soduku'; expected one of rrn_sudoku," in error


@pytest.mark.parametrize('name', command.BENCHMARKS)
def test_help_lists_the_flags(name, capsys):
  with pytest.raises(SystemExit) as status:
    command.main([name, '--help'])
  assert status.value.code == 0
  printed = capsys.readouterr().out
  assert '--rounds' in printed and '--results FOLDER' in printed


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--rounds=0', '--rounds: 0 is less than 1'),
    ('--rounds=x', "invalid integer value: 'x'"),
    ('--size=huge', "invalid choice: 'huge'"),
    ('--round=1', 'unrecognized arguments'),
  ],
)
def test_wrong_flags(flag, message, capsys):
  with pytest.raises(SystemExit) as status:
    harness.run('fake', make_benchmark(**VALUES), [flag])
  assert status.value.code == 2
  assert message in capsys.readouterr().err


def test_errors_are_one_line(monkeypatch, capsys):
  def fail(*args):
    raise ArithmeticError('values differ')

  monkeypatch.setattr(harness, 'run', fail)
  assert command.main(['seq2set']) == 1
  assert capsys.readouterr().err == 'error: values differ\n'
