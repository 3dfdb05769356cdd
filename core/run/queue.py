"""Run the commands of a text file, several at a time with a CPU core each.

  uv run python -m core.run.queue results/queue.txt --processes=2

Each line is a command. Blank lines and lines that start with # are skipped. The
commands after a line `wait` start once all commands before it have succeeded.
Each command has a log in `runs/queue`. A command that ends with status 0 is
added to `done.txt` there, and later runs of the queue skip it. Run the queue
again after an interruption: training and sweeps resume where they stopped.
"""

import argparse
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_WAIT, _STOP = 'wait', ''  # entries of the queue that are not commands


def run(lines: Sequence[str], folder: pathlib.Path, processes: int) -> int:
  """Run the unfinished commands; return 0 if all of them succeed."""
  folder.mkdir(parents=True, exist_ok=True)
  done = folder / 'done.txt'
  finished = done.read_text('utf-8').splitlines() if done.exists() else []
  commands = [line.strip() for line in lines]
  waiting = [x for x in commands if x and x[0] != '#' and x not in finished]
  failed, running = 0, {}  # slot -> command, process

  def stop(number, _):
    waiting[:] = [_STOP]
    for _, process in running.values():
      # Signal the whole group, because wrappers may not pass signals on.
      os.killpg(process.pid, signal.SIGTERM)

  for number in signal.SIGTERM, signal.SIGINT:
    signal.signal(number, stop)
  while True:
    for slot, (command, process) in list(running.items()):
      if process.poll() is not None:
        del running[slot]
        print(f'status {process.returncode}: {command}', file=sys.stderr)
        # Stopped training is unfinished, although it ends with status 0.
        if process.returncode or waiting == [_STOP]:
          failed += 1
        else:
          with done.open('a', encoding='utf-8') as file:
            file.write(f'{command}\n')
    while waiting[:1] == [_WAIT] and not running and not failed:
      del waiting[0]
    if not running and waiting[:1] in ([], [_WAIT], [_STOP]):
      return failed or int(waiting == [_STOP])
    for slot in set(range(processes)) - set(running):
      if waiting and waiting[0] not in (_WAIT, _STOP):
        command = waiting.pop(0)
        print(f'start: {command}', file=sys.stderr)
        try:
          running[slot] = command, _start(command, folder, slot)
        except (OSError, ValueError) as error:
          print(f'cannot start {command}: {error}', file=sys.stderr)
          failed += 1
    time.sleep(0.2)


def _start(command: str, folder: pathlib.Path, slot: int) -> subprocess.Popen:
  """Start a command, on its own core if the system supports this."""
  name = re.sub(r'[^a-zA-Z0-9.]+', '_', command)[-150:]
  cores = sorted(getattr(os, 'sched_getaffinity', lambda _: [])(0))

  def pin():
    if cores:
      os.sched_setaffinity(0, {cores[slot % len(cores)]})

  with (folder / f'{name}.log').open('ab') as log:
    return subprocess.Popen(
      shlex.split(command),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,  # Ctrl-C reaches it only through `stop`
      preexec_fn=pin,
    )


def main() -> int:
  """Run a queue file; return the exit status."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('file', type=pathlib.Path)
  parser.add_argument('--processes', type=int, default=2)
  args = parser.parse_args()
  if args.processes < 1:
    parser.error(f'--processes={args.processes}: expected at least 1')
  if not args.file.is_file():
    parser.error(f'{args.file} is not a file; name a text file of commands')
  lines = args.file.read_text('utf-8').splitlines()
  return 1 if run(lines, pathlib.Path('runs/queue'), args.processes) else 0


if __name__ == '__main__':
  sys.exit(main())
