"""The example of docs/seq2set.md runs as it stands, and learns."""

import pathlib
import re

import jax

DOCUMENT = pathlib.Path(__file__).parents[2] / 'docs' / 'seq2set.md'


def test_the_example_learns_the_range_of_a_set():
  (code,) = re.findall(r'```python\n(.*?)```', DOCUMENT.read_text(), re.DOTALL)
  names = {}
  with jax.numpy_dtype_promotion('standard'):  # Optax mixes types
    exec(compile(code, str(DOCUMENT), 'exec'), names)
  assert names['error'] < names['test']['target'].std() / 2
