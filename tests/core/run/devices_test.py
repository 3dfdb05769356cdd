"""Devices, and the environment that would change what models compute."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from core.errors import UserError
from core.run import devices

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize(
  'error', [RuntimeError("Unable to initialize backend 'x'"), AssertionError()]
)
def test_missing_devices_are_a_user_error(monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setattr(jax, 'devices', fail)
  with pytest.raises(UserError, match='JAX_PLATFORMS=cpu.*unset') as caught:
    devices.use_cpu_cores(4)
  assert '\n' not in str(caught.value)


def test_xla_flags_of_the_user_win(monkeypatch):
  jax.devices()  # later changes of the variable have no effect
  wait = '--xla_cpu_collective_call_terminate_timeout_seconds'
  scheduler = '--xla_cpu_enable_concurrency_optimized_scheduler'
  for given, expected in (
    ('', f'{wait}=3600 {scheduler}=false'),
    ('--xla_a=1', f'--xla_a=1 {wait}=3600 {scheduler}=false'),
    (f'{scheduler}=true {wait}=5', f'{scheduler}=true {wait}=5'),
  ):
    monkeypatch.setenv('XLA_FLAGS', given)
    devices.use_cpu_cores(4)
    assert os.environ['XLA_FLAGS'] == expected


def test_models_are_float32_whatever_the_environment(caplog):
  jax.config.update('jax_enable_x64', True)
  try:
    devices.use_float32()
    assert not jax.config.jax_enable_x64
    assert 'JAX_ENABLE_X64 is ignored' in caplog.text
  finally:
    jax.config.update('jax_enable_x64', False)


@pytest.mark.slow
def test_cpu_devices_divide_the_batch():
  code = """
import os, sys
os.sched_getaffinity = lambda _: range(6)
from core.run import devices, distributed, run_folder, signals
import jax
devices.use_cpu_cores(64)
devices.use_cpu_cores(5)  # the first choice stays
print(jax.device_count())
"""
  output = subprocess.check_output(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    text=True,
    timeout=120,
  )
  assert output == '4\n'
