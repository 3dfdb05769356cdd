"""Signals that stop training, in one process and in several."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from core.run import signals

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_to_stop(number, monkeypatch):
  before = signal.signal(number, signal.SIG_DFL)
  try:
    with signals.StopSignal() as stop:
      assert not stop()
      os.kill(os.getpid(), number)
      assert stop() and stop()
    assert signal.getsignal(number) == signal.SIG_DFL
  finally:
    signal.signal(number, before)


def test_nohup_ignores_the_loss_of_the_terminal():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop()
  finally:
    signal.signal(signal.SIGHUP, before)


def test_second_interrupt_interrupts(capfd):
  before = signal.getsignal(signal.SIGINT)  # ignored in background jobs
  with signals.StopSignal() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop()
    assert capfd.readouterr().err == (
      'SIGINT: stopping after the current call; Ctrl-C now stops at once,'
      ' without saving\n'
    )
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is before


def start_python(code, *args):
  return subprocess.Popen(
    [sys.executable, '-c', code, *args],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_processes_stop_at_the_same_call():
  code = """
import os, signal, sys, time
from core.run import devices, distributed, run_folder, signals
port, index = sys.argv[1:]
distributed.start(f'localhost:{port}', 2, int(index), timeout=60)
with signals.StopSignal() as stop:
  for call in range(1000):
    if call == 5 and index == '1':
      os.kill(os.getpid(), signal.SIGTERM)
    if stop():
      print('stopped at', call, file=sys.__stdout__)
      break
    time.sleep(0.02)
"""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  processes = [start_python(code, port, index) for index in '01']
  first, second = [p.communicate(timeout=120)[0] for p in processes]
  assert first.startswith('stopped at ')
  assert first == second
