"""Compare the speed of our networks with plain forms, PyTorch, and public code.

uv run python -m benchmarks NAME

Names:
"""

import importlib
import sys
from collections.abc import Sequence

from benchmarks import harness
from core.errors import UserError

BENCHMARKS = {
  'rrn_sudoku': 'updates of both networks on Sudoku',
  'rrn_graphs': 'forward and backward passes on graphs of other experiments',
  'seq2set': 'passes of the Process block, and updates of sorting',
  'hinting': 'updates of the transformer of task hinting, and decoding',
  'startup': 'the time from a command to its first result',
}


def main(arguments: Sequence[str]) -> int:
  """Run the benchmark that the first argument names; return the exit status."""
  if not arguments or arguments[0] in ('-h', '--help'):
    lines = (f'  {name:<11} {text}' for name, text in BENCHMARKS.items())
    print(__doc__, *lines, sep='\n')
    print('\nuv run python -m benchmarks NAME --help lists the flags of NAME.')
    return 0
  name, *flags = arguments
  try:
    if name not in BENCHMARKS:
      known = ', '.join(BENCHMARKS)
      raise UserError(f'no benchmark {name!r}; expected one of {known}')
    benchmark = importlib.import_module(f'benchmarks.{name}')
    harness.run(name, benchmark, flags)
  except (UserError, ArithmeticError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2 if isinstance(error, UserError) else 1
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
