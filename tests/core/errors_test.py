"""Suggestions for names that do not exist."""

import pytest

from core.errors import nearest

KEYS = ['seed', 'batch_size', 'optim.l2', 'optim.learning_rate', 'optim.eps']


@pytest.mark.parametrize(
  'name, expected',
  [
    ('optim.lr', 'optim.learning_rate'),
    ('lr', 'optim.learning_rate'),
    ('bs', 'batch_size'),
    ('optim.learning_rat', 'optim.learning_rate'),
    ('optim.l1', 'optim.l2'),
    ('sed', 'seed'),
    ('x', 'optim.eps'),
  ],
)
def test_nearest(name, expected):
  if name == 'x':  # nothing is near: still a name that exists
    assert nearest(name, KEYS) in KEYS
  else:
    assert nearest(name, KEYS) == expected
