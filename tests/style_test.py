"""The linter, the formatter and the type checker have nothing to say."""

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
