"""The example of docs/rrn.md runs as it stands, and learns."""

import pathlib
import re

import jax
import pytest

DOCUMENT = pathlib.Path(__file__).parents[2] / 'docs' / 'rrn.md'


@pytest.mark.slow
def test_the_example_learns_shortest_paths():
  (code,) = re.findall(r'```python\n(.*?)```', DOCUMENT.read_text(), re.DOTALL)
  names = {}
  with jax.numpy_dtype_promotion('standard'):  # Optax mixes types
    exec(compile(code, str(DOCUMENT), 'exec'), names)
  accuracy = names['accuracy']
  often = (names['test']['target'] == names['FAR']) & names['test']['exists']
  assert often.sum() / names['test']['exists'].sum() < 0.6
  assert accuracy[-1] > 0.9
  assert accuracy[-1] > accuracy[0] + 0.1  # one step sees one edge
