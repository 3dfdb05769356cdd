"""Set up a run: processes, devices, signals, its folder, and versions."""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from core import console, run_config, storage
from core.errors import UserError, one_line

# Errors of JAX that mean that another process is gone.
_LOST = re.compile('Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED')
_M_ARENA_MAX = -8  # of malloc.h


def start_distributed(
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  *,
  timeout: int = 300,
):
  """Join this process to a run of several; call it before any use of a device.

  Args:
    coordinator: `host:port` of process 0. None, as for the two numbers, takes
      what the cluster says; TPU pods and Slurm do.
    num_processes: the number of processes.
    process_id: the number of this process, from 0.
    timeout: seconds to wait for the others; then JAX ends the process.

  Raises:
    UserError: no connection. Alone, each process would be a run of its own.
  """
  try:
    jax.distributed.initialize(
      coordinator, num_processes, process_id, initialization_timeout=timeout
    )
    check_devices()
  except (RuntimeError, ValueError, IndexError) as error:
    raise UserError(
      f'cannot start the distributed run: {one_line(error)}; give all'
      ' processes the same --coordinator=host:port and --num_processes, and'
      ' each its own --process_id'
    ) from error
  if jax.process_index() != 0:
    # Process 0 speaks for all.
    sys.stdout = open(os.devnull, 'w', encoding='utf-8')


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Make all processes fail if one fails in the block, so that none waits."""
  failure = None
  try:
    yield
  except Exception as error:
    failure = error
  if multihost_utils.process_allgather(np.array(failure is not None)).any():
    raise failure or UserError('another process failed and says why')


@contextlib.contextmanager
def ended_with_others() -> Iterator[None]:
  """End this process with status 1 if it fails in a run of several.

  The message is one line if another process is gone. Mistakes of the user and
  losses that are not finite are raised, for `leave`.
  """
  try:
    yield
  except Exception as error:  # JAX's own, or a ValueError, of a collective
    told = UserError | FloatingPointError | console.StreamError
    told |= console.OutputClosed
    if isinstance(error, told) or jax.process_count() == 1:
      raise
    if _LOST.search(str(error)):
      print(
        f'error: another process was lost ({one_line(error)}); start all of'
        ' them again, and the run goes on from its last checkpoint',
        file=sys.stderr,
      )
    else:
      traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # at any other end JAX waits for the others, and aborts


def use_float32():
  """Switch off JAX_ENABLE_X64: models and their weights are float32.

  With it, parameters, random draws, and checkpoints would differ from those of
  a run without it.
  """
  if jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
    logging.warning(
      'JAX_ENABLE_X64 is ignored: models compute in float32 (config.dtype)'
    )
    jax.config.update('jax_enable_x64', False)


def check_devices():
  """Start the devices of JAX.

  Raises:
    UserError: JAX has no device of the kind that JAX_PLATFORMS names.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    # pyrefly: ignore[missing-attribute]
    platforms = jax.config.jax_platforms
    why = f' ({one_line(error)})' if str(error) else ''
    raise UserError(
      f'JAX cannot use its devices: JAX_PLATFORMS={platforms or ""}{why}; unset'
      ' JAX_PLATFORMS, or install the support: `uv sync --extra cuda` or'
      ' `--extra tpu`'
    ) from error


def use_cpu_cores(batch_size: int):
  """Make each CPU core a device, as far as their number divides the batch.

  Two devices with a core each train 1.5 times faster than one with two threads.
  No effect once devices are in use, in a run of several processes, or where the
  user has set JAX_NUM_CPU_DEVICES.

  Raises:
    UserError: see `check_devices`.
  """
  # pyrefly: ignore[missing-attribute]
  is_set = jax.config.jax_num_cpu_devices > 0
  if not is_set and not jax.distributed.is_initialized():
    _split_cpu(batch_size)
  check_devices()


def _split_cpu(batch_size: int):
  if hasattr(os, 'sched_getaffinity'):
    cores = len(os.sched_getaffinity(0))  # respects taskset and Slurm
  else:
    cores = os.cpu_count() or 1
  num_devices = max(n for n in range(1, cores + 1) if batch_size % n == 0)
  with contextlib.suppress(RuntimeError):  # devices are in use
    jax.config.update('jax_num_cpu_devices', num_devices)


def leave(status: int, grace: float = 3.0) -> int:
  """Return `status`; in a run of several processes, end this one with it.

  A process that fails alone calls it: at any other end JAX waits for the other
  processes, which wait for this one. `grace` is the number of seconds in which
  the others can report the same failure.
  """
  if jax.distributed.is_initialized() and jax.process_count() > 1:
    sys.stderr.flush()
    time.sleep(grace)
    os._exit(status)
  return status


def share_heaps():
  """Let all threads allocate from two heaps if the C library is GNU's.

  Otherwise each of the many threads that save and compile gets its own heap,
  and keeps the memory that it once took; docs/reliability.md has measurements.
  """
  with contextlib.suppress(AttributeError, OSError, TypeError):  # not GNU
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


class StopSignal:
  """Whether the run was asked to stop: by SIGTERM, SIGHUP, or Ctrl-C once.

  A second Ctrl-C interrupts at once. A process that ignores SIGHUP, as `nohup`
  makes it, goes on ignoring it. With several processes only SIGTERM and SIGHUP
  count, to any of them, and all stop at the same call:

    with StopSignal() as stop:
      while ...:
        if stop():
          ...
  """

  def __init__(self):
    self._is_asked = False
    self._calls = 0
    self._previous = {}

  def __enter__(self) -> 'StopSignal':
    if jax.process_count() == 1:
      numbers, handler = [signal.SIGTERM, signal.SIGINT], self._handle
    else:  # JAX itself listens for SIGTERM
      numbers, handler = [], _pass_as_sigterm
    hang_up = getattr(signal, 'SIGHUP', None)  # Windows has none
    if hang_up and signal.getsignal(hang_up) != signal.SIG_IGN:
      numbers.append(hang_up)
    for number in numbers:
      self._previous[number] = signal.signal(number, handler)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number, _):
    self._is_asked = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(OSError):  # print may not be called in a handler
      name = signal.Signals(number).name
      os.write(2, f'{name}: saving after the current call\n'.encode())

  def __call__(self) -> bool:
    """Return whether to save and stop now; all processes call it together."""
    if jax.process_count() == 1:
      return self._is_asked
    # This counts calls, not steps: the processes agree on the number after the
    # highest that JAX was given, and a call of many updates would skip it.
    self._calls += 1
    return multihost_utils.reached_preemption_sync_point(self._calls)


def _pass_as_sigterm(number, _):
  del number
  signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def open_run_folder(
  path: str | os.PathLike, config: ConfigDict
) -> Iterator[pathlib.Path]:
  """Create or reopen a run folder, which stays locked until the block ends.

  All processes see the folder. This writes only the lock; see `record_start`.

  Raises:
    UserError: the folder cannot be written, is in use, or holds another run.
  """
  folder = pathlib.Path(path)
  if '://' in str(path):
    raise UserError(
      f'--workdir={path} is a URL; mount the bucket and give the folder'
    )
  _check_same_for_all(config)
  with contextlib.ExitStack() as stack:
    with together(), storage.reported_writes(folder):
      if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(open(folder / 'lock', 'ab'))
        try:
          fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
          raise UserError(
            f'{folder} is in use by another run; wait until that has ended or'
            ' choose another --workdir'
          ) from None
        run_config.check_same(folder, config)
    console.keep_in(folder)
    yield folder


def _check_same_for_all(config: ConfigDict):
  """Raise UserError on all processes unless all have the same config."""
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
  """Write `config.json`, and `run.json`: what the latest start depends on."""
  with together(), storage.reported_writes(folder):
    if jax.process_index() == 0:
      path = folder / run_config.NAME
      total = storage.read_json(path).get('total_steps', config.total_steps)
      if total != config.total_steps:
        logging.warning(
          'total_steps was %d and is %d now; the learning-rate schedule ends'
          ' there',
          *(total, config.total_steps),
        )
      storage.write_json(path, config.to_dict())
      run = versions() | {'command': shlex.join(sys.argv)}
      storage.write_json(folder / 'run.json', run)


def versions() -> dict[str, Any]:
  """Return versions, devices, and git revision, which results depend on."""
  packages = 'jax', 'jaxlib', 'flax', 'optax'
  here = shlex.quote(str(pathlib.Path(__file__).parent))
  status, revision = subprocess.getstatusoutput(
    f"git -C {here} describe --always --exclude='*' --abbrev=12 --dirty=+dirty"
  )
  return {
    'python': platform.python_version(),
    **{package: metadata.version(package) for package in packages},
    'device': jax.devices()[0].device_kind,
    'num_devices': jax.device_count(),
    'num_processes': jax.process_count(),
    'git': revision if status == 0 else 'unknown',
  }
