"""A cache of shortest tours, which are slow to compute, as ArrayRecord."""

import hashlib

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from core.io import datasets
from seq2set.tsp import data

_SECONDS_PER_TOUR = 0.002  # on one CPU core, for up to 20 points


def load(points: np.ndarray) -> np.ndarray:
  """Return the tours [n, N] of sets of points [n, N, 2].

  The first call with these points computes the tours and caches them.

  Raises:
    UserError: the cache cannot be written.
  """
  count, num_points, _ = points.shape
  digest = hashlib.sha256(points.tobytes()).hexdigest()[:16]
  name = f'tours_{num_points}_{count}_{digest}'
  return datasets.load(Tours, 'tours', name=name, points=points)['tour']


class Tours(tfds.core.GeneratorBasedBuilder):
  """Stores the shortest tours of sets of points [n, N, 2]."""

  VERSION = tfds.core.Version('1.0.0')
  code_path = None  # see `core.io.datasets`

  def __init__(self, *, points: np.ndarray, **kwargs):
    self.points = points
    super().__init__(**kwargs)

  def _info(self):
    return datasets.info(self, {'tour': ((self.points.shape[1],), np.uint16)})

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    logging.warning(
      'computing %d tours once, about %.0f seconds on a CPU core',
      len(self.points),
      len(self.points) * _SECONDS_PER_TOUR,
    )
    tours = data.shortest_tours(self.points).astype(np.uint16)
    return {'tours': self._generate_examples({'tour': tours})}

  def _generate_examples(self, columns):
    return datasets.blocks(columns)
