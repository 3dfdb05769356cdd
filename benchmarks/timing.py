"""What all benchmarks do alike: take turns, and complain in one line."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping

from core.errors import UserError

median = statistics.median


def measure(
  calls: Mapping[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
  """The seconds of each call, made once a round, after a round to warm up."""
  seconds = {name: [] for name in calls}
  for number in range(1 + rounds):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if number:
        seconds[name].append(time.perf_counter() - start)
  return seconds


def guarded(main: Callable) -> Callable[[list[str]], int]:
  """Wraps main: a mistake of the user's ends with one line and status 2."""

  def run(argv) -> int:
    try:
      main(argv)
    except UserError as error:
      print(f'error: {error}', file=sys.stderr)
      return 2
    return 0

  return run
