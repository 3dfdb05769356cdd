"""Result files of measurements that are not runs, such as timings.

They have the format of `core.report.results`, without a config: the rows need
only 'metrics', and the provenance is at the top.
"""

import pathlib
import platform
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from core import metrics
from core.io import atomic_files
from core.report import results
from core.run import run_folder

# Flag of Linux -> vector instructions, the widest first.
_VECTORS = {'avx512f': 'AVX-512', 'avx2': 'AVX2'}
_ORIGIN = 'git', 'date', 'device', 'num_devices', 'num_processes'


def make_folders(paths: Iterable[pathlib.Path], flags: str = '--results'):
  """Create the folders of result files, before a long measurement.

  Args:
    paths: the result files.
    flags: the flags that name them, for the error.

  Raises:
    UserError: a folder cannot be created.
  """
  for path in paths:
    with atomic_files.reported_writes(path.parent, flags):
      path.parent.mkdir(parents=True, exist_ok=True)


def write(
  path: pathlib.Path, table: Mapping[str, Any], flags: str = '--results'
):
  """Write a result file and print its name.

  Args:
    path: the file, in a folder that exists.
    table: 'command', 'rows', and the provenance; see `provenance`.
    flags: the flags that name it, for the error.

  Raises:
    UserError: the file cannot be written.
  """
  with atomic_files.reported_writes(path.parent, flags):
    results.write_file(path, table)
  print(f'wrote {path}')


def provenance(command: Sequence[str]) -> dict[str, Any]:
  """Return the command, device, versions, revision, and date of a table."""
  versions = run_folder.versions()
  origin = {key: versions.pop(key) for key in _ORIGIN}
  is_cpu = jax.default_backend() == 'cpu'
  device = _cpu() if is_cpu else origin['device']
  return {
    'command': shlex.join(['uv', 'run', *command]),
    'device': f'{origin["num_devices"]} x {device}',
    'versions': versions,
    'revision': origin['git'],
    'date': origin['date'],
  }


def share(successes: int, count: int) -> dict[str, float]:
  """Return a share with its count and 95 % interval, as a metric of a row."""
  low, high = metrics.wilson_interval(successes, count)
  value = successes / count
  return {'value': value, 'count': count, 'low': low, 'high': high}


def _cpu() -> str:
  """Return the model of the CPU and, on Linux, its widest vector instructions.

  The instructions say more about the speed than the names of virtual CPUs.
  """
  path = pathlib.Path('/proc/cpuinfo')
  text = path.read_text(encoding='utf-8') if path.is_file() else ''
  found = re.search(r'^model name\s*:\s*(.+)', text, re.MULTILINE)
  if not found:
    return platform.processor() or platform.machine()
  flags = text.split()
  vectors = [name for flag, name in _VECTORS.items() if flag in flags]
  return ', '.join([found[1], *vectors[:1]])
