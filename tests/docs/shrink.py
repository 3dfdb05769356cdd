"""Rewrite the commands of the documents, so that each one runs for seconds.

A rewritten command keeps its mode, its config with all arguments but the size,
and its overrides, except for those of sizes.
"""

import os
import runpy
from collections.abc import Sequence

from ml_collections import ConfigDict

from core.run import run_config
from tests.docs import documents

# Largest values of settings that only make a run longer.
TINY = {
  'total_steps': 2,
  'steps_per_call': 2,
  'data.num_generated': 200,
  'data.num_hard_puzzles': 75,  # of four solutions
  'data.num_puzzles': 20,
  'data.num_sets': 64,
  'evals.batch_size': 8,
  'evals.boards_per_difficulty': 1,
  'evals.boards_per_givens': 1,
  'evals.num_draws': 2,
  'evals.num_examples': 8,
  'evals.num_lists': 8,
  'evals.num_mazes': 8,
  'evals.num_scenes': 8,
  'evals.num_sets': 8,
  'evals.num_test_lists': 8,
  'evals.num_trees': 8,
  'evals.num_validation': 8,
}
# Settings whose values in the documents do not fit a smoke run.
FIXED = {
  'config.evals.test_lengths': '(4, 8)',  # at most `data.max_predict_length`
  'config.evals.within_steps': '(4,)',
  'config.log.profile': '1',
  'config.mesh.data': '1',  # of two devices
  'config.mesh.fsdp': '2',
  'config.microbatch_size': '2',
}
# Arguments that a config needs at the size `smoke` with another argument.
NEEDED = {'puzzles=hard': ('box=3x3',)}
# Few puzzles are hard enough; more of them take minutes to generate.
_EASY = {'data.least_difficulty': 0}
_PLACEHOLDERS = '...', '--config=...'
_DEFAULT = 'configs/seq2set/sorting.py'


def shrink(arguments: Sequence[str]) -> list[str]:
  """Return the arguments of main.py for a run of seconds."""
  flags = {}
  for argument in arguments:
    if argument not in _PLACEHOLDERS:
      name, has_value, value = argument.removeprefix('--').partition('=')
      flags[name] = value if has_value else None
  mode = flags.get('mode', 'train')
  if 'workdir' in flags:  # such as /mnt/runs/sudoku
    flags['workdir'] = flags['workdir'].lstrip('/')
  if mode == 'sweep':
    flags['index'] = '0'
  weights = flags.get('weights') or ''
  if mode in ('train', 'sweep', 'compile'):
    flags['config'] = _smoke(flags.get('config', _DEFAULT))
    config = _load(flags['config'], mode)
    flags |= _settings(config, flags)
    flags |= _model_of(flags.get('config.init_weights'), config)
  elif mode == 'eval' and weights.startswith('pretrained/'):
    config = run_config.read(documents.ROOT / weights)
    flags |= _settings(config, flags)
    del flags['config.total_steps'], flags['config.steps_per_call']
  if mode != 'compile':  # which has the devices of its topology
    flags |= {name: value for name, value in FIXED.items() if name in flags}
  return [f'--{k}' if v is None else f'--{k}={v}' for k, v in flags.items()]


def _smoke(config: str) -> str:
  path, _, arg = config.partition(':')
  kept = [x for x in arg.split(',') if x not in ('', 'cpu', 'smoke')]
  needed = [x for name in kept for x in NEEDED.get(name, ())]
  return f'{path}:{",".join(["smoke", *needed, *kept])}'


def _load(flag: str, mode: str) -> ConfigDict:
  """Return a config; for a sweep, return the config of its first run."""
  path, _, arg = os.path.expandvars(flag).partition(':')
  if not os.path.exists(path):
    path = str(documents.ROOT / path)
  names = runpy.run_path(path)
  config = names['get_config'](arg)
  if mode == 'sweep':
    config = next(iter(names['sweep'](arg).values()))
  return config if isinstance(config, ConfigDict) else config['stage_1']


def _settings(config: ConfigDict, flags: dict) -> dict[str, str]:
  """Return the overrides that shorten a run with given flags."""
  settings = {}
  for name, most in (TINY | _EASY).items():
    section, _, leaf = name.rpartition('.')
    values = config[section] if section else config
    if leaf in values:
      given = flags.get(f'config.{name}', values[leaf])
      settings[f'config.{name}'] = str(min(int(float(given)), most))
  if config.evals.get('within_steps'):
    settings['config.evals.within_steps'] = ''
  return settings


def _model_of(weights: str | None, config: ConfigDict) -> dict[str, str]:
  """Return overrides that give the model the layers of initial weights."""
  weights = weights or config.init_weights
  if not weights:
    return {}
  trained = run_config.read(documents.ROOT / weights)
  return {
    f'config.model.{name}': str(value)
    for name, value in trained.model.items()
    if not name.startswith('box_') and value != config.model[name]
  }
