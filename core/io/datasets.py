"""Prepare data sets once with TFDS, and read them as NumPy columns.

A TFDS builder converts a source file to ArrayRecord files in a cache, and
`load` reads them as a whole, without TensorFlow. One record holds a block of
rows, because TFDS takes 0.1 ms to decode a record of any size.

    class Squares(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version('1.0.0')
      code_path = None  # otherwise, TFDS needs the package importlib_resources

      def _info(self):
        return datasets.info(self, {'root': ((), np.int64)})

      def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(np.arange(10))}

      def _generate_examples(self, roots):
        return datasets.blocks({'root': roots})
"""

import contextlib
import functools
import io
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python import array_record_data_source

from core.errors import UserError, one_line
from core.io import data_files

_BLOCK = 1024  # rows per record


def info(
  builder: tfds.core.DatasetBuilder,
  columns: Mapping[str, tuple[tuple[int, ...], type]],
) -> tfds.core.DatasetInfo:
  """Describe the data of a builder.

  Args:
    builder: the builder whose data is described.
    columns: name -> shape and type of one row.
  """
  features = {
    name: tfds.features.Tensor(shape=(None, *shape), dtype=dtype)
    for name, (shape, dtype) in columns.items()
  }
  return tfds.core.DatasetInfo(
    builder=builder,
    features=tfds.features.FeaturesDict(features),
    disable_shuffling=True,
  )


def blocks(
  columns: Mapping[str, np.ndarray],
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
  """Split columns of equal length into the numbered examples of a builder."""
  num_rows = len(next(iter(columns.values())))
  for start in range(0, num_rows, _BLOCK):
    rows = slice(start, start + _BLOCK)
    yield start, {name: column[rows] for name, column in columns.items()}


def load(
  builder_class: type[tfds.core.GeneratorBasedBuilder],
  split: str,
  *,
  name: str,
  **arguments,
) -> dict[str, np.ndarray]:
  """Read the columns of a split; prepare the data set first if necessary.

  Args:
    builder_class: the TFDS builder.
    split: name of the split.
    name: folder in the cache; each variant of the data needs its own.
    **arguments: passed to the builder; its errors propagate.

  Raises:
    UserError: the cache cannot be written.
  """
  default = '~/.cache/learned_algorithms'
  cache = os.environ.get('LEARNED_ALGORITHMS_CACHE', default)
  data_dir = pathlib.Path(data_files.expand(cache)) / name
  make_builder = functools.partial(
    builder_class, data_dir=data_dir, file_format='array_record', **arguments
  )
  folder = data_dir / builder_class.name / str(builder_class.VERSION)
  if folder.exists():
    try:
      return _read(make_builder(), split)
    except Exception as error:  # damaged files can raise any error
      logging.warning(
        '%s is damaged and is prepared again (%.200s)', folder, error
      )
      shutil.rmtree(folder, ignore_errors=True)
  try:
    # Standard output is reserved for results.
    with contextlib.redirect_stdout(io.StringIO()):
      tfds.disable_progress_bar()
      make_builder().download_and_prepare()
  except (OSError, RuntimeError) as error:
    # ArrayRecord raises a RuntimeError for a full disk.
    if isinstance(error, RuntimeError) and 'write() failed' not in str(error):
      raise
    # TFDS fills a temporary folder and renames it, which fails if another
    # process was faster.
    if not folder.exists():
      raise UserError(
        f'cannot prepare {folder}: {one_line(error)}; free disk space, or set'
        ' LEARNED_ALGORITHMS_CACHE to another folder'
      ) from error
  return _read(make_builder(), split)


def _read(
  builder: tfds.core.DatasetBuilder, split: str
) -> dict[str, np.ndarray]:
  """Read all blocks; ArrayRecord verifies their checksums."""
  source = builder.as_data_source(split)
  # dataset_info.json has no checksum, and one wrong digit would drop rows.
  files = [str(path) for path in builder.info.splits[split].filepaths]
  if len(array_record_data_source.ArrayRecordDataSource(files)) != len(source):
    raise ValueError('dataset_info.json has the wrong number of records')
  records = source.__getitems__(range(len(source)))
  return {
    name: np.concatenate([record[name] for record in records])
    for name in builder.info.features
  }
