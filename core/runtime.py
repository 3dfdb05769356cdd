"""The world around a run: processes, devices, signals, the folder, versions."""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import flax
import jax
import jaxlib
import ml_collections
import optax
from absl import logging
from jax.experimental import multihost_utils

from core.errors import UserError

# What may differ between a run and its resumption; the rest defines the run.
_FREE_KEYS = (
  *('total_steps', 'steps_per_call', 'microbatch'),
  *('mesh', 'evals', 'log', 'checkpoint', 'report'),
)


def start_distributed(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  *,
  timeout: int = 300,
):
  """Joins this process to a run of several; call it before any use of a device.

  Args:
    coordinator: `host:port` of process 0. None, like the other two: what the
      cluster says, which TPU pods and Slurm do.
    num_processes: of the run.
    process_id: of this process, in [0, num_processes).
    timeout: seconds to wait for the others.

  Raises:
    UserError: no connection. (It must not be ignored: N processes that do not
      find each other would be N separate runs in one folder.) Where the
      coordinator is only late, JAX ends the process itself, with a message.
  """
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      initialization_timeout=timeout,
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'cannot start the distributed run: {_one_line(error)}; give all'
      ' processes the same coordinator and number of processes, and each its'
      ' own id'
    ) from error
  if jax.process_index() != 0:
    sys.stdout = open(os.devnull, 'w')  # process 0 speaks for all


def use_cpu_cores(batch_size: int):
  """Makes one CPU device a core; call it before any use of a device.

  Two devices with a core each train 1.5 times faster than one with two threads.
  The number is the largest that divides the batch. It has no effect where the
  default devices are GPUs or TPUs, where the devices are in use already, in a
  run of several processes, or where the user has set JAX_NUM_CPU_DEVICES.

  Args:
    batch_size: examples an update, over all devices.
  """
  # pyrefly: ignore[missing-attribute]
  if jax.config.jax_num_cpu_devices > 0 or jax.distributed.is_initialized():
    return
  if hasattr(os, 'sched_getaffinity'):
    cores = len(os.sched_getaffinity(0))  # respects taskset and Slurm
  else:
    cores = os.cpu_count() or 1
  num_devices = max(n for n in range(1, cores + 1) if batch_size % n == 0)
  with contextlib.suppress(RuntimeError):  # in use already
    jax.config.update('jax_num_cpu_devices', num_devices)


class StopSignal:
  """Whether the run was asked to stop: by SIGTERM, or by Ctrl-C once.

  A second Ctrl-C interrupts as usual. With several processes only SIGTERM
  counts, to any of them, and all stop at the same call:

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
    # With several processes JAX itself listens for SIGTERM.
    if jax.process_count() == 1:
      for number in (signal.SIGTERM, signal.SIGINT):
        self._previous[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler or signal.SIG_DFL)

  def _handle(self, number, _):
    self._is_asked = True
    signal.signal(signal.SIGINT, signal.default_int_handler)

  def __call__(self) -> bool:
    """Whether to save and stop now. All processes call it equally often."""
    if jax.process_count() == 1:
      return self._is_asked
    # Counts calls, not steps: JAX agrees on the number after the highest that
    # it was given, which the steps of a call of many updates would jump over.
    self._calls += 1
    return multihost_utils.reached_preemption_sync_point(self._calls)


@contextlib.contextmanager
def open_run_folder(
  path: str | os.PathLike, config: ml_collections.ConfigDict
) -> Iterator[pathlib.Path]:
  """Creates or reopens a run folder, which stays locked until the block ends.

  Process 0 writes the config to `config.json`, and to `run.json` what
  `versions` returns and the command line; both are of the latest start.

  Args:
    path: the folder, on a file system that all processes see.
    config: resolved.

  Raises:
    UserError: the folder cannot be written, is in use, or holds another run.
  """
  folder = pathlib.Path(path)
  if '://' in str(path):
    raise UserError(
      f'--workdir={path} is a URL; mount the bucket and give the folder'
    )
  if jax.process_index() != 0:
    yield folder
    return
  with reported_writes(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / 'lock').open('a')
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f'{folder} is in use by another run; wait until that has ended or'
        ' choose another --workdir'
      ) from None
    plain = json.loads(config.to_json())  # tuples become lists, as in the file
    _check_same_run(folder, plain)
    run = versions() | {'command': shlex.join(sys.argv)}
    with reported_writes(folder):
      write_json(folder / 'config.json', plain)
      write_json(folder / 'run.json', run)
    yield folder


def _check_same_run(folder: pathlib.Path, config: dict[str, Any]):
  """Raises UserError if the folder holds a run of a config that differs."""
  try:
    saved = json.loads((folder / 'config.json').read_text())
  except FileNotFoundError:
    return
  except (OSError, ValueError) as error:
    raise UserError(
      f'{folder}/config.json cannot be read: {_one_line(error)}; choose another'
      ' --workdir'
    ) from error
  old, new = _leaves(saved), _leaves(config)
  differing = [
    f'{key} ({json.dumps(old.get(key))} there, {json.dumps(new.get(key))} now)'
    for key in sorted({*old, *new})
    if key.split('.')[0] not in _FREE_KEYS
    and key != 'data.dir'
    and old.get(key) != new.get(key)
  ]
  if differing:
    raise UserError(
      f'{folder} holds a run of another config: {", ".join(differing)}; give'
      ' the same config to resume it, or another --workdir'
    )
  if saved['total_steps'] != config['total_steps']:
    logging.warning(
      'total_steps was %d and is %d now; so is the end of the schedule',
      saved['total_steps'],
      config['total_steps'],
    )


def _leaves(config: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  leaves = {}
  for key, value in config.items():
    if isinstance(value, dict):
      leaves |= _leaves(value, f'{prefix}{key}.')
    else:
      leaves[prefix + key] = value
  return leaves


def versions() -> dict[str, Any]:
  """Versions, devices and git revision: what a result depends on, for JSON."""
  return {
    'python': platform.python_version(),
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
    'flax': flax.__version__,
    'optax': optax.__version__,
    'device': jax.devices()[0].device_kind,
    'num_devices': jax.device_count(),
    'num_processes': jax.process_count(),
    'git': _git_revision(),
  }


def _git_revision() -> str:
  """The commit of this code, '+dirty' if files differ from it, or 'unknown'."""
  command = ['git', 'describe', '--always', '--exclude=*', '--abbrev=12']
  try:
    result = subprocess.run(
      [*command, '--dirty=+dirty'],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      text=True,
    )
  except OSError:  # no git
    return 'unknown'
  return result.stdout.strip() or 'unknown'


def write_json(path: pathlib.Path, value: Any):
  """Replaces the file as a whole, so that a kill leaves the old or the new."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(json.dumps(value, indent=2) + '\n')
  temporary.replace(path)


@contextlib.contextmanager
def reported_writes(folder: str | os.PathLike):
  """Turns an OSError of the block (a full disk) into a UserError."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'cannot write to {folder}: {error.strerror or _one_line(error)}; free'
      ' space or choose another --workdir'
    ) from error


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())[:200]
