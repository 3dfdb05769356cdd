"""Reports show the paper's numbers only for the paper's boards."""

import pytest

from configs.rrn import sudoku


@pytest.mark.parametrize(
  'arg', ['cpu,box=2x3', 'box=4x4', 'cpu,source=generated', 'smoke']
)
def test_other_boards_have_no_numbers_of_the_paper(arg):
  for config in (sudoku.get_config(arg), *sudoku.sweep(arg).values()):
    assert config.report and {'', '%'} >= {*config.report.values()}
    low, high = config.evals.givens
    for name in config.report:
      if name.endswith('_givens'):
        assert low <= int(name.split('_')[-2]) <= high


def test_papers_boards_have_its_numbers():
  for arg in (None, 'cpu,source=royle17,network=cells'):
    report = sudoku.get_config(arg).report
    assert {name: text for name, text in report.items() if text} == {
      'test/steps_64/solved_17_givens': '96.6 %',
      'test/steps_32/solved_17_givens': '94.1 %',
      'test_zero_positions/steps_64/solved_17_givens': '96.7 %',
    }
  park = sudoku.get_config('network=convolutional').report
  assert park['test/steps_64/solved_24_givens'].startswith('70 %')


def test_source_depends_on_the_data_folder_only_for_cpu(monkeypatch, tmp_path):
  def source(arg):
    return sudoku.get_config(arg).data.source

  monkeypatch.setenv('LEARNED_ALGORITHMS_DATA', str(tmp_path))
  assert source('cpu') == 'generated' and source(None) == 'royle17'
  (tmp_path / 'sudoku17').touch()
  assert source('cpu') == 'royle17'
  assert source('smoke') == source('cpu,box=2x3') == 'generated'
  assert source('cpu,source=generated') == 'generated'
