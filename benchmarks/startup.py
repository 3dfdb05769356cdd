"""Time commands, each in a new process, from their start to their first result.

The commands are `--mode=predict` with one Sudoku puzzle, and the default
training until its first update, with compilation. The lower bound of both is a
process that only imports JAX and Flax. JAX's compilation cache is off.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness

FLAGS = {'rounds': (5, 1, 'Turns of each contender.')}
PEERS = ()
UNIT = 'commands'
_ROOT = Path(__file__).parents[1]
_PUZZLE = (
  '4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4'
  '......'
)


def make_cases(args) -> Iterator[harness.Case]:
  """Yield the commands; see the module."""
  del args
  bound = harness.Contender(lambda: _run('-c', 'import jax, flax.nnx'))
  for name, call in (('one puzzle', predict), ('first update', update)):
    contenders = {'ours': harness.Contender(call), 'JAX and Flax alone': bound}
    yield harness.Case(name, contenders, num_items=1)


def predict():
  """Solve one puzzle."""
  weights = f'--weights={_ROOT}/pretrained/rrn_sudoku'
  _run('main.py', '--mode=predict', weights, text=_PUZZLE)


def update():
  """Start the default training, and stop it after its first update."""
  with tempfile.TemporaryDirectory() as folder:
    command = [f'--workdir={folder}', '--config.log.every=1']
    command += ['--config.steps_per_call=1', '--config.total_steps=2']
    with _start('main.py', *command, stderr=subprocess.PIPE) as process:
      for line in process.stderr:
        if 'loss' in line:
          process.kill()
          return
    raise subprocess.CalledProcessError(process.returncode, command)


def _run(*arguments: str, text: str = ''):
  with _start(*arguments, stdin=subprocess.PIPE) as process:
    process.communicate(text)
  if process.returncode:
    raise subprocess.CalledProcessError(process.returncode, arguments)


def _start(*arguments: str, **streams) -> subprocess.Popen:
  environment = os.environ | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=_ROOT,
    env=environment,
    text=True,
    stdout=subprocess.DEVNULL,
    **streams,
  )
