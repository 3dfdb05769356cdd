"""docs/reliability.md names tests that exist."""

import functools
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'reliability.md'
# `file::test`, `file`, or `test`, which is in the file that precedes it.
NAME = re.compile(r'`(?:([\w/]+_test\.py)(?:::)?)?(test_\w+\*?)?(\[\d+\])?`')


def names(text: str) -> Iterator[tuple[str, str]]:
  """Yield the file and the test of each name in a page, '' for no test."""
  for line in text.splitlines():
    file = ''
    for match in NAME.finditer(line):
      file = match[1] or file
      if match[1] or match[2]:
        yield file, match[2] or ''


@functools.cache
def find_tests(name: str) -> list[str]:
  """Return the tests of a file; without a folder, it is below tests/core."""
  pattern = name if '/' in name else f'tests/core/**/{name}'
  (path,) = ROOT.glob(pattern)
  return re.findall(r'^def (test_\w+)', path.read_text('utf-8'), re.MULTILINE)


def test_names_are_found():
  row = '| a `1.py` | `a_test.py::test_a[1]` (c), `test_b_*` | `b/c_test.py` |'
  assert list(names(f'{row}\n| `x` | `d_test.py::test_d`')) == [
    ('a_test.py', 'test_a'),
    ('a_test.py', 'test_b_*'),
    ('b/c_test.py', ''),
    ('d_test.py', 'test_d'),
  ]


def test_the_named_tests_exist():
  named = list(names(PAGE.read_text('utf-8')))
  assert len(named) > 80
  missing = []
  for file, test in named:
    tests = find_tests(file)
    is_there = any(re.fullmatch(test.replace('*', r'\w+'), x) for x in tests)
    if test and not is_there:
      missing.append(f'{file}::{test}')
  assert not missing
