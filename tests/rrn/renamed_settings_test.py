"""Tests that folders of earlier versions load with renamed settings."""

import json
import pathlib

import pytest

from core.run import run_config

PRETRAINED = pathlib.Path(__file__).parents[2] / 'pretrained'


@pytest.mark.parametrize(
  ('folder', 'section', 'old', 'new'),
  [
    ('rrn_babi', 'data', 'renaming', 'augmentation'),
    ('rrn_ages', 'model', 'num_waves', 'fourier_init'),
  ],
)
def test_shipped_weights_load(folder, section, old, new):
  saved = json.loads((PRETRAINED / folder / 'config.json').read_text())
  config = run_config.read(PRETRAINED / folder)
  assert config[section][new] == saved[section][old]
  assert old not in config[section]
