"""The linter, formatter, and type checker find nothing; functions are short."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
  'command',
  ['ruff check', 'ruff format --check', 'pyrefly check'],
)
def test_code_is_clean(command):
  result = subprocess.run(
    [sys.executable, '-m', *command.split()],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 0, result.stdout + result.stderr


def test_functions_fit_on_a_screen():
  folders = 'core', 'configs', 'rrn', 'seq2set', 'hinting', 'benchmarks'
  paths = [p for name in folders for p in (ROOT / name).rglob('*.py')]
  long = [
    f'{path.relative_to(ROOT)}: {node.name}'
    for path in paths
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
    if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
  ]
  assert len(paths) > 100 and not long
