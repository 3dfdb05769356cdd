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
  ],
)
def test_nearest(name, expected):
  assert nearest(name, KEYS) == expected


def test_without_a_similar_name_nearest_is_still_a_known_name():
  assert nearest('x', KEYS) in KEYS
