"""Start a run of several processes, and end all of them after a failure."""

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from core.errors import UserError, one_line
from core.run import console, devices

# Errors that the caller of `exit_on_failure` handles.
_REPORTED = (
  UserError,
  FloatingPointError,
  console.StreamError,
  console.OutputClosed,
)
# Errors of JAX after the loss of another process.
_LOST = re.compile('Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED')


def start(
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  *,
  timeout: int = 300,
):
  """Join a run of several processes; call it before any use of a device.

  Args:
    coordinator: `host:port` of process 0. If this and the next two arguments
      are None, a TPU pod or Slurm provides their values.
    num_processes: number of processes.
    process_id: number of this process, from 0.
    timeout: seconds to wait for the other processes, after which JAX ends this
      process.

  Raises:
    UserError: the processes cannot connect.
  """
  try:
    jax.distributed.initialize(
      coordinator, num_processes, process_id, initialization_timeout=timeout
    )
    devices.check_devices()
  except (RuntimeError, ValueError, IndexError) as error:
    raise UserError(
      f'cannot start the distributed run: {one_line(error)}; give all'
      ' processes the same --coordinator=host:port and --num_processes, and'
      ' each its own --process_id'
    ) from error
  if jax.process_index() != 0:
    # Only process 0 prints results.
    sys.stdout = open(os.devnull, 'w', encoding='utf-8')


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
  """Make all processes fail if one fails in the block, so that none hangs."""
  failure = None
  try:
    yield
  except Exception as error:
    failure = error
  if multihost_utils.process_allgather(np.array(failure is not None)).any():
    raise failure or UserError('another process failed; see its error')


@contextlib.contextmanager
def exit_on_failure() -> Iterator[None]:
  """End this process with status 1 if it fails in a run of several processes.

  With one process, all errors are raised. With several processes, an error that
  is not listed below ends this process here. The message is then a traceback,
  or one line if another process was lost.

  Raises:
    UserError, FloatingPointError, StreamError: the caller reports them, and
      calls `exit_process`.
    OutputClosed: the reader of standard output has closed it.
  """
  try:
    yield
  except Exception as error:  # a failed collective can raise any error
    if isinstance(error, _REPORTED) or jax.process_count() == 1:
      raise
    if _LOST.search(str(error)):
      print(
        f'error: another process was lost ({one_line(error)}); restart all'
        ' processes to continue from the last checkpoint',
        file=sys.stderr,
      )
    else:
      traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # any other exit waits for the other processes and aborts


def exit_process(status: int, grace: float = 3.0) -> int:
  """Return `status`; in a run of several processes, end this one with it.

  A process that fails alone must call this, because any other exit waits for
  the other processes, which wait for this one. `grace` is the time in seconds
  for the others to report the same failure.
  """
  if jax.distributed.is_initialized() and jax.process_count() > 1:
    sys.stderr.flush()
    time.sleep(grace)
    os._exit(status)
  return status
