"""Folders of earlier versions load with renamed settings and layers."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from core import checkpoints, inference, sharding, step
from core.io import weights
from core.run import run_config

PRETRAINED = pathlib.Path(__file__).parents[2] / 'pretrained'


@pytest.mark.parametrize(
  ('folder', 'section', 'old', 'new'),
  [
    ('rrn_babi', 'data', 'renaming', 'augmentation'),
    ('rrn_babi', 'model', 'pre_layers', 'input_layers'),
    ('rrn_ages', 'model', 'num_waves', 'fourier_init'),
    ('rrn_ages', 'model', 'pre_layers', 'input_layers'),
    ('rrn_sudoku_cells', 'model', 'pre_layers', 'input_layers'),
  ],
)
def test_renamed_settings(folder, section, old, new):
  saved = json.loads((PRETRAINED / folder / 'config.json').read_text())
  config = run_config.read(PRETRAINED / folder)
  assert config[section][new] == saved[section][old]
  assert old not in config[section]


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ('(pre|message|node)/.*kernel', '(input_mlp|message|node)/.*kernel'),
    (r'^pre/|/pre/layers/\d+', r'^input_mlp/|/input_mlp/layers/\d+'),
    (r'\bpre\b', r'\binput_mlp\b'),
    ('(input_mlp|pres|my_pre)/.*', '(input_mlp|pres|my_pre)/.*'),
  ],
)
def test_renamed_layers_in_regexes(tmp_path, old, new):
  saved = {
    'task': 'rrn.sudoku',
    'init_missing_regex': old,
    'optim': {'l2_paths': old, 'muon_paths': old},
  }
  (tmp_path / run_config.NAME).write_text(json.dumps(saved))
  config = run_config.read(tmp_path)
  assert config.init_missing_regex == new
  assert config.optim.l2_paths == config.optim.muon_paths == new


@pytest.mark.parametrize(
  'name',
  ['rrn_ages', 'rrn_babi', 'rrn_pretty_clevr', 'rrn_sudoku_cells'],
)
def test_renamed_layers(name, tmp_path):
  """The weights are those of the file, and a checkpoint is restored exactly."""
  config = run_config.read(PRETRAINED / name)
  rename = run_config.layer_renamer(config.task)
  task, mesh = inference.make_task(config), sharding.make_mesh(config.mesh)
  abstract_state = step.make_init(task, config, mesh).eval_shape()

  loaded = weights.load_weights(
    PRETRAINED / name, abstract_state.params, rename=rename
  )
  old = safetensors.numpy.load_file(PRETRAINED / name / weights.NAME)
  assert any('pre' in path.split('/') for path in old)
  new = weights.flatten(loaded)
  assert {rename(path) for path in old} == new.keys()
  for path, array in old.items():
    np.testing.assert_array_equal(new[rename(path)], array)

  # Each leaf has different values, so that no two can be confused.
  rng = np.random.default_rng(0)
  state = jax.tree.map(
    lambda x: jax.device_put(
      rng.integers(0, 100, x.shape).astype(x.dtype), x.sharding
    ),
    abstract_state,
  )
  with checkpoints.Checkpointer(
    tmp_path, keep_last=1, keep_every=0
  ) as checkpointer:
    checkpointer.save(1, _with_old_names(state))
  restored = checkpoints.restore(tmp_path, abstract_state, rename)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, restored, state)
  # Muon has a moment of the layer only if the regex of the config matches it.
  moments = weights.flatten(restored.opt_state)
  assert any(
    'muon' in path and 'input_mlp/layers/0/kernel' in path for path in moments
  )


def _with_old_names(tree):
  """Return a state with the layer names of earlier versions."""

  def is_renamed(x):
    return isinstance(x, dict) and 'input_mlp' in x

  return jax.tree.map(
    lambda x: (
      {'pre' if k == 'input_mlp' else k: v for k, v in x.items()}
      if is_renamed(x)
      else x
    ),
    tree,
    is_leaf=is_renamed,
  )
