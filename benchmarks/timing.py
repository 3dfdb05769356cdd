"""Shared code of the benchmarks: setup, timing in turns, and errors."""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping

from absl import logging

from core.errors import UserError
from core.run import devices

median = statistics.median


def start(output: str | None, batch_size: int) -> pathlib.Path:
  """Set up JAX for a batch size, and return the path of the JSON file.

  Raises:
    UserError: the folder of the file does not exist. This is checked before the
      measurement, not after it.
  """
  logging.set_verbosity(logging.WARNING)
  path = pathlib.Path(output or '')
  if not path.parent.is_dir():
    raise UserError(f'--output={path}: {path.parent} is not a folder')
  devices.use_cpu_cores(batch_size)
  return path


def measure(
  calls: Mapping[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
  """Return the seconds of each call in each round, after a warm-up round."""
  seconds = {name: [] for name in calls}
  for number in range(1 + rounds):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if number:
        seconds[name].append(time.perf_counter() - start)
  return seconds


def guarded(main: Callable) -> Callable[[list[str]], int]:
  """Wrap `main` so that a UserError ends with one line and status 2."""

  def run(argv) -> int:
    try:
      main(argv)
    except UserError as error:
      print(f'error: {error}', file=sys.stderr)
      return 2
    return 0

  return run
