"""The folder of a run: its lock, its config, and its provenance."""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from core.errors import UserError
from core.io import atomic_files
from core.run import console, distributed, run_config

try:
  import fcntl
except ImportError:  # Windows, where folders are not locked
  fcntl = None


@contextlib.contextmanager
def open_folder(
  path: str | os.PathLike, config: ConfigDict
) -> Iterator[pathlib.Path]:
  """Create or reopen a run folder, and lock it until the block ends.

  All processes must have access to the folder. This function writes only the
  lock; `record_start` writes the other files.

  Raises:
    UserError: the folder cannot be written, is in use, or holds another run.
  """
  folder = pathlib.Path(path)
  if '://' in str(path):
    raise UserError(
      f'--workdir={path} is a URL; mount the bucket, and use the path of the'
      ' mounted folder'
    )
  _check_same_for_all(config)
  with contextlib.ExitStack() as stack:
    with distributed.fail_together(), atomic_files.reported_writes(folder):
      if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(open(folder / 'lock', 'ab'))
        try:
          if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
          raise UserError(
            f'{folder} is in use by another run; wait until that run ends, or'
            ' choose another --workdir'
          ) from None
        run_config.check_same(folder, config)
    console.set_fallback_folder(folder)
    yield folder


def _check_same_for_all(config: ConfigDict):
  """Raise UserError on all processes unless their configs are equal."""
  leaves = traverse_util.flatten_dict(config.to_dict(), sep='.')
  leaves.pop('data.dir', None)
  text = json.dumps(leaves, sort_keys=True)
  digest = hashlib.sha256(text.encode()).digest()
  mine = np.frombuffer(digest, np.uint8)
  if (multihost_utils.process_allgather(mine) != mine).any():
    raise UserError(
      'the processes have different configs; start all of them with the same'
      ' flags except --process_id'
    )


def record_start(folder: pathlib.Path, config: ConfigDict):
  """Write `config.json`, and the provenance of this start to `run.json`."""
  with distributed.fail_together(), atomic_files.reported_writes(folder):
    if jax.process_index() == 0:
      path = folder / run_config.NAME
      total = atomic_files.read_json(path).get(
        'total_steps', config.total_steps
      )
      if total != config.total_steps:
        logging.warning(
          'total_steps was %d and is now %d; the learning-rate schedule ends at'
          ' the new value',
          total,
          config.total_steps,
        )
      atomic_files.write_json(path, config.to_dict())
      run = versions() | {'command': shlex.join(sys.argv)}
      atomic_files.write_json(folder / 'run.json', run)


def versions() -> dict[str, Any]:
  """Return versions, devices, git revision, and today's date (UTC)."""
  packages = 'jax', 'jaxlib', 'flax', 'optax'
  return {
    'python': platform.python_version(),
    **{package: metadata.version(package) for package in packages},
    'device': jax.devices()[0].device_kind,
    'num_devices': jax.device_count(),
    'num_processes': jax.process_count(),
    'git': git_revision(pathlib.Path(__file__).parent),
    'date': time.strftime('%Y-%m-%d', time.gmtime()),
  }


def git_revision(folder: pathlib.Path) -> str:
  """Return the git revision of a folder's repository; 'unknown' without git.

  It ends in '+dirty' if a tracked file, other than a result file, differs from
  the revision.
  """
  git = f'git -C {shlex.quote(str(folder))}'
  status, revision = subprocess.getstatusoutput(
    f'{git} rev-parse --short=12 HEAD'
  )
  if status:
    return 'unknown'
  is_dirty, _ = subprocess.getstatusoutput(
    f"{git} diff --quiet HEAD -- :/ ':(top,exclude)results'"
  )
  return revision + ('+dirty' if is_dirty else '')
