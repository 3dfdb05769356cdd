"""The weights of PyTorch Geometric's Set2Set load into Process."""

import jax
import numpy as np
import pytest
from flax import nnx

from seq2set import read_process_write as rpw

WIDTH, BATCH, COUNT = 8, 3, 5


def sets():
  return jax.random.normal(jax.random.key(0), (BATCH, COUNT, WIDTH))


def make_process(**options):
  return rpw.Process(WIDTH, rngs=nnx.Rngs(0), **options)


def torch_set2set(memories, weight_ih, weight_hh, bias_ih, bias_hh, num_steps):
  """Compute `torch_geometric.nn.Set2Set` for one set [N, D]."""
  width = memories.shape[1]
  sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
  hidden = cell = np.zeros(width)
  summary = np.zeros(2 * width)
  for _ in range(num_steps):
    gates = weight_ih @ summary + bias_ih + weight_hh @ hidden + bias_hh
    input_, forget, candidate, output = np.split(gates, 4)
    cell = sigmoid(forget) * cell + sigmoid(input_) * np.tanh(candidate)
    hidden = sigmoid(output) * np.tanh(cell)
    scores = memories @ hidden
    weights = np.exp(scores - scores.max())
    summary = np.concatenate([hidden, weights / weights.sum() @ memories])
  return summary


def test_weights_of_pytorch_geometric_load():
  rng = np.random.default_rng(0)
  shapes = (4 * WIDTH, 2 * WIDTH), (4 * WIDTH, WIDTH), 4 * WIDTH, 4 * WIDTH
  weights = [rng.normal(size=shape).astype(np.float32) / 2 for shape in shapes]
  process = make_process()
  rpw.load_set2set(process, *weights)
  memories = np.asarray(sets())
  expected = [torch_set2set(m, *weights, num_steps=5) for m in memories]
  np.testing.assert_allclose(process(sets(), num_steps=5), expected, atol=1e-5)


def test_the_layer_of_pytorch_geometric_agrees():
  torch = pytest.importorskip('torch')
  aggr = pytest.importorskip('torch_geometric.nn.aggr')
  layer = aggr.Set2Set(WIDTH, processing_steps=4)
  process = make_process()
  lstm = layer.lstm
  names = 'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'
  rpw.load_set2set(process, *(getattr(lstm, n).detach().numpy() for n in names))
  memories = torch.tensor(np.asarray(sets())).flatten(0, 1)
  index = torch.arange(BATCH).repeat_interleave(COUNT)
  expected = layer(memories, index).detach().numpy()
  np.testing.assert_allclose(process(sets(), num_steps=4), expected, atol=1e-5)


def test_weights_of_set2set_require_dot_attention():
  with pytest.raises(ValueError, match="Set2Set requires 'dot'"):
    process = make_process(attention='additive')
    rpw.load_set2set(process, *[np.zeros((1, 1))] * 4)
