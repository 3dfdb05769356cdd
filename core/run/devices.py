"""Set up JAX and the C library before a run: devices, types, and memory."""

import contextlib
import ctypes
import os

import jax
from absl import logging

from core.errors import UserError, one_line

_M_ARENA_MAX = -8  # from malloc.h
_XLA_FLAGS = {
  # A device waits up to an hour for the others, which may be slow on a busy
  # machine. By default, XLA ends the program after 40 seconds.
  '--xla_cpu_collective_call_terminate_timeout_seconds': '3600',
  # All devices run their collectives in the same order. By default, two devices
  # may run them in different orders, and then wait for each other forever.
  '--xla_cpu_enable_concurrency_optimized_scheduler': 'false',
}


def use_float32():
  """Disable JAX_ENABLE_X64: parameters are float32.

  Otherwise, parameters, random draws, and checkpoints would depend on it.
  """
  if jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
    logging.warning(
      'JAX_ENABLE_X64 is ignored: parameters are float32, and config.dtype sets'
      ' the type of matrix products'
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
  """Split the CPU into several JAX devices.

  JAX gets as many CPU devices as the largest number of cores that divides the
  batch size. Two devices with one core each train 1.5 times as fast as one
  device with two threads. The number of devices does not change if devices are
  already in use, if there are several processes, or if the user has set
  JAX_NUM_CPU_DEVICES.

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
