"""Set up JAX and the C library before a run: devices, types, and memory."""

import contextlib
import ctypes
import os

import jax
from absl import logging

from core.errors import UserError, one_line

_M_ARENA_MAX = -8  # from malloc.h
# On a busy machine, a CPU device may have to wait long for the others. It waits
# up to an hour; by default, XLA ends the program after 40 seconds. All devices
# run their collectives in the same order; otherwise, two of them could wait for
# each other forever.
_XLA_FLAGS = {
  '--xla_cpu_collective_call_terminate_timeout_seconds': '3600',
  '--xla_cpu_enable_concurrency_optimized_scheduler': 'false',
}


def use_float32():
  """Disable JAX_ENABLE_X64: models and their weights are float32.

  Otherwise, parameters, random draws, and checkpoints would depend on it.
  """
  if jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
    logging.warning(
      'JAX_ENABLE_X64 is ignored: models compute in float32 (config.dtype)'
    )
    jax.config.update('jax_enable_x64', False)


def check_devices():
  """Initialize the devices of JAX.

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
      ' JAX_PLATFORMS, or install support with `uv sync --extra cuda` or'
      ' `--extra tpu`'
    ) from error


def use_cpu_cores(batch_size: int):
  """Use CPU cores as JAX devices, as many as evenly divide the batch size.

  Two devices with one core each train 1.5 times faster than one device with two
  threads. The number of devices does not change if devices are already in use,
  if there are several processes, or if the user has set JAX_NUM_CPU_DEVICES.

  Raises:
    UserError: see `check_devices`.
  """
  # pyrefly: ignore[missing-attribute]
  is_set = jax.config.jax_num_cpu_devices > 0
  _set_xla_flags()
  if not is_set and not jax.distributed.is_initialized():
    _split_cpu(batch_size)
  check_devices()


def _set_xla_flags():
  """Add our flags to those of the user, before JAX starts its devices."""
  given = os.environ.get('XLA_FLAGS', '')
  ours = [f'{k}={v}' for k, v in _XLA_FLAGS.items() if k not in given]
  os.environ['XLA_FLAGS'] = ' '.join([*filter(None, [given]), *ours])


def _split_cpu(batch_size: int):
  if hasattr(os, 'sched_getaffinity'):
    cores = len(os.sched_getaffinity(0))  # respects taskset and Slurm
  else:
    cores = os.cpu_count() or 1
  num_devices = max(n for n in range(1, cores + 1) if batch_size % n == 0)
  with contextlib.suppress(RuntimeError):  # devices are in use
    jax.config.update('jax_num_cpu_devices', num_devices)


def limit_malloc_arenas():
  """Make all threads allocate from two arenas of the GNU C library.

  By default, each of the many threads that save and compile has its own arena,
  which never returns memory. docs/reliability.md has measurements.
  """
  with contextlib.suppress(AttributeError, OSError, TypeError):  # not GNU
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
