"""Reports show the contents of run files: tables, provenance, figures."""

import json

import pytest
from matplotlib.figure import Figure

from core import metrics
from core.errors import UserError
from core.report import plots, report

ORIGIN = {
  'python': '3.11.0',
  'jax': '0.10.2',
  'jaxlib': '0.10.2',
  'flax': '0.12.8',
  'optax': '0.2.8',
  'device': 'cpu',
  'num_devices': 2,
  'num_processes': 1,
  'git': 'abc123',
}
LINES = [
  {'step': 50, 'seconds': 30.0, 'train/loss': 2.0, 'train/solved': 0.1},
  {'step': 100, 'seconds': 4000.0, 'train/loss': 1.0, 'train/solved': 0.2},
  {
    'step': 100,
    'seconds': 4020.0,
    'eval/validation/solved': 0.25,
    'eval/validation/perplexity': 12.34567,
    'eval/validation/undefined': None,
    'eval/validation/by_step': [[0.1, None]],
  },
]
SOLVED = {'value': 0.966, 'count': 1000, 'low': 0.9529, 'high': 0.9756}


@pytest.fixture(autouse=True)
def task(monkeypatch):
  """Replace the task with one that plots the given values."""

  class Task:
    def figures(self, values, model=None):
      return {'by_step': Figure()} if 'validation/by_step' in values else {}

  def sweep_figures(points):
    # A figure named after the values of each point.
    return {
      f'solved_{values["validation/solved"]}': Figure()
      for _, values in points.values()
      if 'validation/solved' in values
    }

  monkeypatch.setattr(report.inference, 'make_task', lambda config: Task())
  monkeypatch.setattr(report.inference, 'sweep_figures', sweep_figures)
  monkeypatch.setattr(
    report.inference,
    'training_figures',
    lambda config, lines: {f'lines_{len(lines)}': Figure()},
  )


def make_run(folder, *, paper, lines=LINES, results=None, seed=3, num_seeds=1):
  """Write the files of a run with 100 updates of 32 examples."""
  folder.mkdir(parents=True)

  def write(name, value):
    (folder / name).write_text(json.dumps(value))

  config = {'task': 'rrn.sudoku', 'seed': seed, 'total_steps': 100}
  config |= {
    'num_seeds': num_seeds,
    'batch_size': 32,
    'report': paper,
    'data': {'source': 'partial'},
  }
  write('config.json', config)
  write('run.json', ORIGIN)
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (folder / 'metrics.jsonl').write_text(text)
  if results is not None:
    write('results.json', {'step': 100, 'metrics': results})
    (folder / 'weights.safetensors').touch()
  return folder


def table_rows(text):
  """Return first cell -> other cells, without the header."""
  rows = [line for line in text.splitlines() if line.startswith('|')]
  cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows[2:]]
  return {row[0].strip('`'): row[1:] for row in cells}


def test_run_compares_with_the_paper(tmp_path):
  folder = make_run(
    tmp_path / 'run',
    paper={'test/solved': '96.6 %', 'test/loss': '', 'test/other': '1 %'},
    results={'test/solved': SOLVED, 'test/loss': {'value': 1.23456}},
  )
  text = report.report(folder)
  assert table_rows(text) == {
    'test/solved': ['96.6 %', '96.6 % (95.3 to 97.6, n = 1000)'],
    'test/loss': ['–', '1.235'],
    'test/other': ['1 %', '–'],
  }
  assert 'evaluated after 100 updates' in text
  assert (folder / 'report.md').read_text() == text


def test_run_shows_the_test_set_of_listed_validation_metrics(tmp_path):
  folder = make_run(
    tmp_path / 'run',
    paper={'validation/solved': '97 %', 'validation/cells': '%'},
    results={
      'validation/solved': {'value': 0.5},
      'validation/cells': {'value': 0.75},
      'test/solved': SOLVED,
      'test/cells': {'value': 0.625},
      'test/loss': {'value': 1.0},
    },
  )
  text = report.report(folder)
  assert table_rows(text) == {
    'test/cells': ['–', '62.5 %'],
    'test/solved': ['97 %', '96.6 % (95.3 to 97.6, n = 1000)'],
    'validation/cells': ['–', '75.0 %'],
    'validation/solved': ['97 %', '50.0 %'],
  }
  assert text.startswith(f'# rrn.sudoku in {folder}\n')


def test_listed_test_metric_keeps_its_own_paper_value(tmp_path):
  paper = {'validation/perplexity': '86', 'test/perplexity': ''}
  values = {name: {'value': 90.0} for name in paper}
  folder = make_run(tmp_path / 'run', paper=paper, results=values)
  assert table_rows(report.report(folder)) == {
    'test/perplexity': ['–', '90'],
    'validation/perplexity': ['86', '90'],
  }


@pytest.mark.parametrize('name', ['test/solved', 'validation/solved'])
def test_report_says_whether_a_metric_is_not_measured_yet(tmp_path, name):
  text = report.report(make_run(tmp_path / 'run', paper={name: '9 %'}))
  assert 'the last evaluation in training, after 100 updates' in text
  is_missing = name == 'test/solved'
  assert ('; `--mode=eval` measures the rest.' in text) == is_missing


def test_several_seeds_have_a_range(tmp_path):
  values = {'solved': 0.25, 'solved_min': 0.0, 'solved_max': 0.5}
  folder = make_run(
    tmp_path / 'run',
    paper={'test/solved': '9 %'},
    results={f'test/{k}': {'value': v} for k, v in values.items()},
    num_seeds=2,
  )
  assert '| 25.0 % (0.0 to 50.0, 2 seeds) |' in report.report(folder)


def test_run_names_its_provenance(tmp_path):
  text = report.report(make_run(tmp_path / 'run', paper={}))
  assert (
    '100 of 100 updates; 3,200 examples seen; 1 h 7 min wall time; 2 x cpu;'
    ' seed 3; data partial; git abc123; python 3.11.0, jax 0.10.2'
  ) in text


def test_without_results_the_last_evaluation_is_shown(tmp_path):
  text = report.report(make_run(tmp_path / 'run', paper={'test/solved': '9 %'}))
  assert table_rows(text) == {
    'test/solved': ['9 %', '–'],
    'validation/solved': ['–', '0.25'],
    'validation/perplexity': ['–', '12.35'],
    'validation/undefined': ['–', '–'],
  }
  assert 'last evaluation in training' in text


def test_figures_are_drawn_and_shown(tmp_path):
  folder = make_run(tmp_path / 'run', paper={})
  (folder / 'plots').mkdir()
  (folder / 'plots' / 'of_eval.png').touch()
  text = report.report(folder)
  names = f'lines_{len(LINES)}', 'of_eval', 'training'
  assert '\n'.join(f'![{name}](plots/{name}.png)' for name in names) in text
  png = (folder / 'plots' / 'training.png').read_bytes()
  assert png.startswith(b'\x89PNG')


def test_half_written_last_line_is_left_out(tmp_path):
  folder = make_run(tmp_path / 'run', paper={}, lines=LINES[:1])
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 100, "sec')
  assert '50 of 100 updates' in report.report(folder)


@pytest.mark.parametrize(
  'name, contents',
  [
    ('metrics.jsonl', '{"step"\n{"step": 1}\n'),
    ('metrics.jsonl', '{"step": 1}\n'),
    ('metrics.jsonl', '{"step": "1", "seconds": 1.0}\n'),
    ('metrics.jsonl', '{"step": null, "seconds": 1.0}\n'),
    ('metrics.jsonl', '{"step": 1, "seconds": 1.0, "train/loss": "low"}\n'),
    ('results.json', '{"step": 1}'),
    ('results.json', '{"step": 1, "metrics": []}'),
    ('results.json', '{"step": 1, "metrics": {"x": 0.5}}'),
    ('results.json', '{"step": 1, "metrics": {"x": {"value": "high"}}}'),
    ('results.json', '{"step": 1, "metrics": {"x": {"value": 1, "low": 0}}}'),
    ('run.json', '{"a": 1}'),
    ('run.json', '[' * 100_000),
    ('metrics.jsonl', '{"step": 1, "seconds": Infinity}\n'),
    ('metrics.jsonl', '{"step": 1, "seconds": 1e999}\n'),
  ],
)
def test_damaged_file_is_named(tmp_path, name, contents):
  folder = make_run(tmp_path / 'run', paper={})
  (folder / name).write_text(contents)
  with pytest.raises(UserError, match=f'{name} is damaged'):
    report.report(folder)


def test_run_without_measurements(tmp_path):
  folder = make_run(tmp_path / 'run', paper={'a': '1 %'}, lines=[])
  text = report.report(folder)
  assert table_rows(text) == {'a': ['1 %', '–']}
  assert 'not evaluated yet' in text
  assert 'png' not in text


def test_sweep_has_a_row_per_point(tmp_path):
  paper = {'test/n_5/solved': '94 %', 'test/n_10/solved': ''}
  results = {'test/n_5/solved': SOLVED, 'test/n_10/solved': {'value': 0.5}}
  make_run(tmp_path / 'n=10', paper=paper, results=results)
  make_run(tmp_path / 'n=5', paper=paper, lines=LINES[:1])
  text = report.report(tmp_path)
  assert '|  | n_5/solved | n_10/solved |' in text
  rows = table_rows(text)
  assert list(rows) == ['n=5 (step 50 of 100)', 'n=10', 'paper']
  assert rows['n=10'] == ['96.6 % (95.3 to 97.6, n = 1000)', '0.5']
  assert rows['paper'] == ['94 %', '–']
  rows = table_rows(report.report(tmp_path / 'n=10'))
  assert list(rows) == ['test/n_5/solved', 'test/n_10/solved']
  assert (tmp_path / 'report.md').read_text() == text


def test_points_are_in_the_order_of_their_numbers(tmp_path):
  names = '0.25', '0.5', 'n=5', 'n=10', 'none'
  for name in reversed(names):
    make_run(tmp_path / name, paper={'a': ''}, results={'a': {'value': 1}})
  assert list(table_rows(report.report(tmp_path))) == list(names)


def test_sweep_of_points_with_their_own_paper_values(tmp_path):
  for name, value in (('n=5', '94 %'), ('n=10', '57 %')):
    make_run(tmp_path / name, paper={'validation/solved': value})
  text = report.report(tmp_path)
  assert table_rows(text) == {
    'n=5 (step 100 of 100) \\*': ['25.0 % (paper: 94 %)'],
    'n=10 (step 100 of 100) \\*': ['25.0 % (paper: 57 %)'],
  }
  assert '\\* the last evaluation in training' in text
  for name in 'solved_0.25', 'training':
    assert f'\n![{name}](plots/{name}.png)\n' in text
    for suffix in ('png', 'svg'):
      assert (tmp_path / f'plots/{name}.{suffix}').is_file()


def test_folder_without_runs(tmp_path):
  with pytest.raises(UserError, match='neither a run nor a sweep'):
    report.report(tmp_path)
  with pytest.raises(UserError, match='there is no folder .*missing'):
    report.report(tmp_path / 'missing')


def test_headline_leaves_breakdowns_out():
  breakdown = [f'test/solved_{n}_givens' for n in range(17, 35)]
  few = ['test/steps_16/solved', 'test/steps_32/solved', 'test/top_5']
  assert metrics.headline([*few, *breakdown]) == few


def test_shortest_names_stay_unambiguous():
  names = ['test/a/solved', 'test/b/solved', 'test/b/cells', 'solved']
  assert list(metrics.shortest_names(names).values()) == [
    'a/solved',
    'b/solved',
    'cells',
    'solved',
  ]


def test_training_curves_have_a_panel_per_quantity():
  lines = [*LINES, {'step': 100, 'perf/examples_per_second': 7.0}]
  figure = plots.training_curves(lines)
  panels = {
    axes.get_title(loc='left'): [
      line.get_xydata().tolist() for line in axes.lines
    ]
    for axes in figure.axes
    if axes.axison
  }
  assert panels == {
    'loss': [[[50, 2.0], [100, 1.0]]],
    'solved': [[[50, 0.1], [100, 0.2]], [[100, 0.25]]],
    'perplexity': [[[100, 12.34567]]],
    'examples per second': [[[100, 7.0]]],
  }


def test_sweep_curves_have_a_line_per_run():
  def lines(value):
    return [{'step': 100, 'seconds': 1, 'train/loss': 9.0, **value}]

  runs = {
    'n=5': lines({'eval/validation/n_20': 0.5, 'eval/validation/n_3': 0.6}),
    'n=10': lines({'eval/validation/n_20': 0.7}),
    'new': lines({}),
  }
  figure = plots.sweep_curves(runs)
  panels = {
    axes.get_title(loc='left'): {
      line.get_label(): line.get_ydata().tolist() for line in axes.lines
    }
    for axes in figure.axes
  }
  assert list(panels) == ['n 3', 'n 20']
  assert panels == {
    'n 20': {'n=5': [0.5], 'n=10': [0.7]},
    'n 3': {'n=5': [0.6]},
  }
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.texts] == ['n=5', 'n=10']
  assert plots.sweep_curves({'new': lines({})}) is None


def test_sweep_curves_fit_long_names_but_not_too_many_runs():
  lines = [{'step': 100, 'seconds': 1, 'eval/validation/solved': 0.5}]
  runs = {f'a_point_with_quite_a_long_name_{k:02}': lines for k in range(33)}
  figure = plots.sweep_curves(runs)
  figure.draw_without_rendering()
  (axes,), (legend,) = figure.axes, figure.legends
  box = legend.get_window_extent()
  assert axes.get_window_extent().x1 < box.x0
  assert box.x1 <= figure.bbox.x1
  assert plots.sweep_curves(runs | {'one more': lines}) is None
