"""A command that fails is not timed."""

import subprocess

import pytest

from benchmarks import startup

pytestmark = pytest.mark.slow


def test_a_failed_command_is_an_error(monkeypatch):
  startup.predict()
  monkeypatch.setattr(startup, '_PUZZLE', '1')
  with pytest.raises(subprocess.CalledProcessError):
    startup.predict()
