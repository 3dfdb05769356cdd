"""The notebooks run from top to bottom, and show what they say."""

import json
import pathlib

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from rrn.sudoku import data

ROOT = pathlib.Path(__file__).parents[2]


def run(name):
  """Run the code cells, and return the names that they define."""
  notebook = json.loads((ROOT / 'notebooks' / name).read_text('utf-8'))
  names = {}
  for cell in notebook['cells']:
    if cell['cell_type'] == 'code':
      assert not cell['outputs'], 'clear the outputs before a commit'
      exec(''.join(cell['source']), names)
  return names


@pytest.mark.slow
def test_quickstart(monkeypatch):
  monkeypatch.chdir(ROOT / 'notebooks')
  with jax.numpy_dtype_promotion('standard'):  # Optax mixes types
    names = run('quickstart.ipynb')
  puzzle, answer = names['board'][None], names['solution'][None]
  assert data.is_solution(answer, puzzle).all()
  np.testing.assert_array_equal(names['digits'][-1].argmax(-1), answer[0])
  assert isinstance(names['figure'], Figure)
  assert names['sorter'].step == names['config'].total_steps
  accuracy = names['accuracy']  # each step, one edge further
  assert accuracy[0] < 0.8 and (np.diff(accuracy) >= 0).all()
  assert accuracy[-1] > 0.99
