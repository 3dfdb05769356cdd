"""The PyTorch twins train, and need no compiler."""

import numpy as np
import pytest

from benchmarks import harness

torch = pytest.importorskip('torch')


@pytest.fixture
def twins():
  from benchmarks import torch_twins

  return torch_twins


def test_kernels_get_the_layout_of_pytorch(twins):
  kernel = np.arange(6.0).reshape(2, 3)
  params = {'layer': {'kernel': kernel, 'bias': np.ones(3)}}
  tensors = twins.to_tensors(params)
  x = torch.ones(4, 2, dtype=torch.float64)
  expected = np.ones((4, 2)) @ kernel + 1
  found = twins.linear(tensors['layer'], x).detach().numpy()
  np.testing.assert_allclose(found, expected)


def test_a_call_makes_updates(twins):
  x = torch.tensor([3.0], requires_grad=True)
  call = twins.make_call(
    lambda: [x.sum(), 2 * x.sum()],  # the gradient is 3, clipped to 1
    [x],
    optimizer=torch.optim.SGD([x], 0.5),
    clip_norm=1.0,
    repeats=2,
  )
  call()
  np.testing.assert_allclose(x.detach().numpy(), [2.0], rtol=1e-5)


def test_a_compiled_twin_is_a_contender(twins, monkeypatch):
  monkeypatch.setattr(torch, 'compile', lambda function, **options: function)
  found = twins.variants(lambda compiler: harness.Contender(compiler(int)))
  assert list(found) == ['PyTorch eager', 'PyTorch compiled']


def test_without_a_compiler_one_line_says_so(twins, monkeypatch, capsys):
  def fail():
    raise RuntimeError('no C++\ncompiler')

  monkeypatch.setattr(torch, 'compile', lambda function, **options: fail)
  found = twins.variants(lambda compiler: harness.Contender(compiler(int)))
  assert list(found) == ['PyTorch eager']
  printed = capsys.readouterr().out
  assert printed == 'skipping PyTorch compiled: no C++ compiler\n'
