"""The Python interface: `core.load`, and what an import loads."""

import pathlib
import subprocess
import sys
import tomllib

import pytest

import core
from core.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
PUZZLE = (
  '4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.'
  '4......'
)


def run_python(code, cwd):
  return subprocess.run(
    [sys.executable, '-c', code],
    cwd=cwd,
    env={'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'HOME': str(cwd)},
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_trained_model_answers_lines(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # shipped weights are found from any folder
  trained = core.load('pretrained/rrn_sudoku')
  answer, error = trained.predict([PUZZLE, '12'])
  assert len(answer) == 81 and answer.startswith('4')
  assert all(a in ('.', b) for a, b in zip(PUZZLE, answer, strict=True))
  assert isinstance(error, UserError)
  assert trained.model is trained.model
  assert trained.task.make_model


def test_a_missing_folder_is_an_error():
  with pytest.raises(UserError) as caught:
    core.load('pretrained/rrn_sudokus')
  assert str(caught.value) == (
    'there is no folder pretrained/rrn_sudokus; did you mean'
    ' pretrained/rrn_sudoku?'
  )


@pytest.mark.slow
def test_imports_leave_large_libraries_out(tmp_path):
  code = """
import sys
import core, main, rrn.sudoku.task, seq2set.sorting.task, hinting.sorting.task
large = {'tensorflow_datasets', 'orbax.checkpoint', 'matplotlib', 'scipy',
         'tensorboardX'}
sys.exit(f'loaded: {found}' if (found := large & set(sys.modules)) else 0)
"""
  result = run_python(code, tmp_path)
  assert result.returncode == 0, result.stderr


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
  readme = (ROOT / 'README.md').read_text()
  code = readme.split('```python\n')[1].split('```')[0]
  assert len(code.splitlines()) <= 10
  monkeypatch.chdir(tmp_path)  # from any folder
  names = {}
  exec(compile(code, 'README.md', 'exec'), names)
  (answer,) = capsys.readouterr().out.splitlines()
  assert len(answer) == 81
  assert type(names['network']).__name__ == 'SudokuCandidates'


def test_the_wheel_holds_all_packages():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  wheel = project['tool']['hatch']['build']['targets']['wheel']
  packages = {path.parent.name for path in ROOT.glob('*/__init__.py')}
  assert set(wheel['only-include']) == packages | {'main.py'}
