"""The arguments of `file.py:`."""

import pytest

from configs import common
from core.errors import UserError


def parse(arg):
  return common.parse_arg(
    arg, steps=32, rate=0.1, source='file', shuffle=False
  ).to_dict()


DEFAULTS = {
  'size': 'paper',
  'steps': 32,
  'rate': 0.1,
  'source': 'file',
  'shuffle': False,
}


@pytest.mark.parametrize(
  'arg, changes',
  [
    (None, {}),
    ('', {}),
    ('cpu', {'size': 'cpu'}),
    ('steps=1e3', {'steps': 1000}),
    ('smoke,steps=64', {'size': 'smoke', 'steps': 64}),
    ('rate=1,source=other', {'rate': 1.0, 'source': 'other'}),
    ('shuffle', {'shuffle': True}),
    ('shuffle=False', {'shuffle': False}),
    ('shuffle=TRUE', {'shuffle': True}),
  ],
)
def test_values_keep_their_types(arg, changes):
  parsed, expected = parse(arg), DEFAULTS | changes
  assert parsed == expected
  assert {k: type(v) for k, v in parsed.items()} == {
    k: type(v) for k, v in expected.items()
  }


@pytest.mark.parametrize(
  'arg, message',
  [
    ('smok', "unknown config argument 'smok'; did you mean 'smoke'"),
    ('stepz=3', "'stepz'; did you mean 'steps'.*rate, source, shuffle"),
    ('cpu=1', "unknown config argument 'cpu=1'; did you mean 'cpu'"),
    ('steps=1e9', 'steps=1e9: expected int'),
    ('steps=1.5', 'steps=1.5: expected int, for example steps=32'),
    ('steps', 'steps=True: expected int'),
    ('rate=high', 'rate=high: expected float'),
    ('shuffle=yes', 'shuffle=yes: expected bool'),
  ],
)
def test_mistakes_are_named(arg, message):
  with pytest.raises(UserError, match=message):
    parse(arg)
