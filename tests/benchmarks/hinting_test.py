"""The contenders agree; a difference between outputs is an error."""

import numpy as np
import pytest

from benchmarks import harness, hinting

pytestmark = pytest.mark.slow


def make_config():
  config = hinting.make_config(batch_size=16)
  config.model.width, config.model.num_heads = 16, 2
  config.model.feed_forward_width = 32
  config.data.max_train_length = 5
  return config


def test_contenders_agree_and_run():
  config = make_config()
  updates, *model = hinting.make_updates(config)
  decoders = hinting.make_decoders(config, *model, num_lists=8, length=4)
  assert {'plain form', 'ours'} <= set(updates)
  assert 'ours' in decoders
  harness.measure(harness.Case('update', updates, 16), 1, 'lists')
  harness.measure(harness.Case('decoding', decoders, 8), 1, 'lists')


def test_a_difference_is_an_error(monkeypatch):
  unpack = hinting.unpack

  def other_tokens(*args):
    tokens, *others = unpack(*args)
    return np.maximum(tokens - 1, 0), *others

  monkeypatch.setattr(hinting, 'unpack', other_tokens)
  updates, *_ = hinting.make_updates(make_config())
  with pytest.raises(ArithmeticError, match='plain form'):
    harness.measure(harness.Case('update', updates, 16), 1, 'lists')
