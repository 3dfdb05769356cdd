"""Killing a run at any moment loses nothing that was saved."""

import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from configs.rrn import sudoku
from core import loop
from core.errors import UserError
from core.run import run_folder
from tests.core.loop_test import WEIGHTS, read_lines

ROOT = pathlib.Path(__file__).parents[2]
CHANGES = {
  'model.num_steps': 2,
  'steps_per_call': 5,
  'checkpoint.every': 20,
  'evals.every': 50,
  'evals.boards_per_givens': 8,
}


def start_child(folder, total_steps):
  """Start a real run of several seconds that saves often."""
  return subprocess.Popen(
    [
      sys.executable,
      'main.py',
      f'--workdir={folder}',
      '--config=configs/rrn/sudoku.py:smoke',
      *(f'--config.{name}={value}' for name, value in CHANGES.items()),
      f'--config.total_steps={total_steps}',
    ],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8'},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def half_saves(folder):
  return list(folder.glob('checkpoints/*.orbax-checkpoint-tmp'))


def newest(folder):
  """Return the step of the newest complete checkpoint, or 0."""
  names = (path.name for path in folder.glob('checkpoints/*'))
  return max((int(name) for name in names if name.isdigit()), default=0)


def kept_lines(folder):
  """Return the lines of metrics.jsonl that a resumed run must not rewrite."""
  # The last line may be incomplete.
  *lines, _ = (folder / 'metrics.jsonl').read_text().split('\n')
  return [line for line in lines if json.loads(line)['step'] <= newest(folder)]


def kill(child, folder, moment, rng):
  """Kill a run at once, soon after its next save, or during the one after."""
  before, deadline = newest(folder), time.monotonic() + 600

  def wait_until(condition):
    while not condition():
      assert child.poll() is None and time.monotonic() < deadline
      time.sleep(0.001)

  if moment == 'at once':
    time.sleep(rng.uniform(0, 10))
  else:
    wait_until(lambda: newest(folder) > before)
    with pytest.raises(UserError, match='in use by another run'):
      with run_folder.open_folder(folder, sudoku.get_config('smoke')):
        pass
    if moment == 'in a save':
      wait_until(lambda: half_saves(folder))
    else:
      time.sleep(rng.uniform(0, 0.5))
  child.kill()
  child.communicate()
  assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
  'kills',
  [
    pytest.param(1, marks=pytest.mark.slow),
    pytest.param(20, marks=pytest.mark.campaign),
  ],
)
def test_killed_process_resumes_exactly(tmp_path, kills):
  killed, whole = tmp_path / 'killed', tmp_path / 'whole'
  total_steps, rng, num_half = 100 * kills, random.Random(0), 0
  moments = itertools.cycle(['in a save', 'after a save', 'at once'])
  kept = []
  for moment in itertools.islice(moments, kills):
    with start_child(killed, total_steps) as child:
      kill(child, killed, moment, rng)
    assert not (killed / WEIGHTS).exists()
    num_half += bool(half_saves(killed))
    # The run never writes lines again that precede its last save.
    now = kept_lines(killed)
    assert now[: len(kept)] == kept
    kept = now
  assert num_half > 0 or kills == 1  # a save may be faster than a kill
  with start_child(killed, total_steps) as child:
    _, errors = child.communicate(timeout=600)
  assert child.returncode == 0, errors
  assert kept_lines(killed)[: len(kept)] == kept
  config = sudoku.get_config('smoke')
  config.update_from_flattened_dict(CHANGES | {'total_steps': total_steps})
  assert loop.run(config, str(whole))
  assert read_lines(killed) == read_lines(whole)
  assert (killed / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
