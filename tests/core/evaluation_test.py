"""Evaluation: padding does not change the mean, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import evaluation, sharding
from core.errors import UserError
from core.metrics import Metric
from core.task import Evaluator


def make_mesh(num_devices):
  return sharding.make_mesh(
    {'data': num_devices, 'fsdp': 1, 'tensor': 1}, jax.devices()[:num_devices]
  )


def evaluate(columns, *, batch_size=4, num_devices=1, factor=1.0):
  def measure(scale, batch):
    values = scale * batch['value'].astype(jnp.float32)
    weight = batch['weight']
    metrics = {'curve': Metric.mean(values, weight[:, None], axis=0)}
    metrics['mean'] = Metric.mean(values, weight[:, None])
    metrics['weight'] = Metric(weight.sum(), jnp.ones(()))
    return metrics

  run = evaluation.make_evaluation(
    Evaluator(lambda: columns, measure, batch_size, 0),
    lambda params: params['scale'],
    make_mesh(num_devices),
  )
  return run({'scale': jnp.float32(factor)})


@pytest.mark.parametrize('count', [1, 3, 4, 8, 13, 530])
@pytest.mark.parametrize('num_devices', [1, 8])
def test_padded_set_gives_the_plain_mean(count, num_devices):
  # Integers, so that no order of the sum rounds.
  values = np.random.default_rng(count).integers(1, 99, (count, 3))
  measured = evaluate({'value': values}, num_devices=num_devices)
  assert measured['weight'].total == count
  mean, curve = values.sum() / values.size, values.sum(0) / count
  assert measured['mean'].result() == np.float32(mean)
  np.testing.assert_array_equal(
    measured['curve'].result(), curve.astype(np.float32)
  )


def test_set_without_examples():
  with pytest.raises(UserError, match='an evaluation set has no examples'):
    evaluate({'value': np.zeros((0, 3))})


def test_padding_does_not_consist_of_zeros():
  columns = {'value': np.full((5, 1), 2.0)}
  run = evaluation.make_evaluation(
    Evaluator(
      lambda: columns,
      lambda _, batch: {'least': Metric.mean(batch['value'].min())},
      4,
      0,
    ),
    lambda params: params,
    make_mesh(1),
  )
  assert run(())['least'].result() == 2


def test_parameters_are_arguments():
  columns = {'value': np.ones((5, 1))}
  assert evaluate(columns, factor=3.0)['mean'].result() == 3


def test_values_are_numbers_and_lists():
  values = evaluation.values(
    {
      'number': Metric(jnp.asarray(1.0), jnp.asarray(3.0)),
      'small': Metric(jnp.asarray(3e-7), jnp.asarray(1.0)),
      'curve': Metric(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])),
      'nothing': Metric(jnp.zeros(()), jnp.zeros(())),
    }
  )
  assert np.isnan(values.pop('nothing'))
  assert values == {'number': 0.333333, 'small': 3e-7, 'curve': [0.5, 2.0]}
  assert isinstance(values['number'], float)
