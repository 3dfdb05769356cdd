"""Suggestions for names that do not exist."""

import pytest

from core.errors import nearest, suggest_path

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


PATHS = ['configs/hinting/sorting.py', 'configs/seq2set/sorting.py', 'runs/a.b']


@pytest.mark.parametrize(
  'path, expected',
  [
    ('seq2set/sorting', 'did you mean configs/seq2set/sorting.py?'),
    ('configs/hintin/sortin.py', 'did you mean configs/hinting/sorting.py?'),
    ('runs/a_b', 'did you mean runs/a.b?'),
    ('configs/seq2set/mazes.py', f'known: {", ".join(PATHS)}'),
  ],
)
def test_suggestions_of_paths(path, expected):
  assert suggest_path(path, PATHS) == expected


def test_without_a_similar_name_nearest_is_still_a_known_name():
  assert nearest('x', KEYS) in KEYS
