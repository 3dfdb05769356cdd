"""Save the state and stop training after a signal."""

import contextlib
import os
import signal

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Tells whether SIGTERM, SIGHUP, or the first Ctrl-C arrived.

  A second Ctrl-C interrupts immediately. Under `nohup`, SIGHUP stays ignored.
  A run of several processes handles only SIGTERM and SIGHUP. Any process may
  receive them, and all processes stop at the same call:

    with StopSignal() as stop:
      while ...:
        if stop():
          ...
  """

  def __init__(self):
    self._is_requested = False
    self._calls = 0
    self._previous = {}

  def __enter__(self) -> 'StopSignal':
    if jax.process_count() == 1:
      numbers, handler = [signal.SIGTERM, signal.SIGINT], self._handle
    else:  # JAX itself listens for SIGTERM
      numbers, handler = [], _pass_as_sigterm
    hang_up = getattr(signal, 'SIGHUP', None)  # not on Windows
    if hang_up and signal.getsignal(hang_up) != signal.SIG_IGN:
      numbers.append(hang_up)
    for number in numbers:
      self._previous[number] = signal.signal(number, handler)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number, _):
    self._is_requested = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(OSError):  # print may not be called in a handler
      name = signal.Signals(number).name
      hint = 'Ctrl-C now stops at once, without saving'
      text = f'{name}: stopping after the current call; {hint}\n'
      os.write(2, text.encode())

  def __call__(self) -> bool:
    """Return whether to save and stop now; all processes call it together."""
    if jax.process_count() == 1:
      return self._is_requested
    # Count calls instead of steps: the processes agree on the number after the
    # highest one so far, which a jitted call of many updates would skip.
    self._calls += 1
    return multihost_utils.reached_preemption_sync_point(self._calls)


def _pass_as_sigterm(number, _):
  del number
  signal.raise_signal(signal.SIGTERM)
