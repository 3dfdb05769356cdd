"""Passes and causal tests on small models, and the command."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.hinting import sorting
from core import experiment, plots, sharding, step, storage, weights
from hinting import analysis, analysis_plots
from hinting import analysis_causes as causes
from hinting import analysis_measures as measures
from hinting import analysis_passes as passes

LENGTH = 5


def make_config():
  config = sorting.get_config('smoke,hint=successor+count,temperature=T1')
  config.model.width = 32
  config.model.num_heads = 2
  config.model.feed_forward_width = 32
  return config.copy_and_resolve_references()


@pytest.fixture(scope='module')
def subject():
  """A small model whose every parameter matters, but head 2 of layer 1."""
  config = make_config()
  task = experiment.make_task(config)
  mesh = sharding.make_mesh(config.mesh)
  state = step.make_init(task, config, mesh)()
  leaves, structure = jax.tree.flatten(jax.device_get(state.params))
  rng = np.random.default_rng(0)
  leaves = [x + 0.2 * rng.normal(size=x.shape).astype(x.dtype) for x in leaves]
  params = jax.tree.unflatten(structure, leaves)
  params['blocks'][0]['out']['kernel'][16:] = 0
  params = jax.tree.map(jnp.asarray, params)
  return causes.Subject(task, step.make_merge(task), params, 50)


def no_edit(subject):
  return passes.no_edit(subject.task.model_config)


def test_roles():
  np.testing.assert_array_equal(passes.roles(3, 9), [0, 1, 1, 1, 2, 3, 3, 3, 3])


@pytest.mark.parametrize('is_whole', [False, True])
def test_no_edit_changes_nothing(subject, is_whole):
  model = subject.merge(subject.params)
  tokens = measures.sort_rows(subject.lists(LENGTH))[:, :-1]
  logits, seen = passes.run(
    model, tokens, no_edit(subject), length=LENGTH, is_whole=is_whole
  )
  np.testing.assert_allclose(
    logits, model(tokens)[:, LENGTH + 1 :], rtol=1e-4, atol=1e-4
  )
  assert len(seen) == 2


def test_ablation_of_an_unused_head_does_nothing(subject):
  rows = causes.sort_rows(subject, LENGTH)
  result = causes.ablate(subject, rows, LENGTH)
  damage = result['loss'] - result['whole']['loss']
  np.testing.assert_allclose(damage[0, 1], 0, atol=1e-5)
  others = np.delete(damage.ravel(), 1)
  assert (abs(others) > 3e-5).all()


def test_head_means(subject):
  """Of two rows alike, the means are the outputs of their tokens by role."""
  rows = measures.sort_rows(subject.lists(LENGTH))[:1].repeat(2, 0)[:, :-1]
  means = passes.head_means(subject.merge, subject.params, rows, length=LENGTH)
  _, seen = passes.run(
    subject.merge(subject.params),
    rows,
    no_edit(subject),
    length=LENGTH,
    is_whole=True,
  )
  for layer in (0, 1):
    heads = seen[layer]['heads'][0]
    parts = [heads[:1], heads[1:6], heads[6:7], heads[7:]]
    expected = jnp.stack([x.mean(0) for x in parts])
    np.testing.assert_allclose(means[layer], expected, rtol=1e-4, atol=1e-5)


def test_scores_agree_with_decoding(subject):
  """A whole answer is right where decoding gives it."""
  rows = causes.sort_rows(subject, 1)  # one value: some answers are right
  answers = passes.decode(subject.merge, subject.params, subject.lists(1))
  is_right = (answers == rows[0][:, 3:]).all(1).mean()
  assert subject.score(rows, no_edit(subject), 1)['accuracy'] == is_right


def test_entropies_are_matched(subject):
  """The entropies of a known scale are found again, in both layers."""
  values = subject.lists(LENGTH)
  known = jnp.array([[0.5, 2.0], [1.5, 0.8]])
  edit = dataclasses.replace(no_edit(subject), scales=known)
  tokens = measures.sort_rows(values)[:, :-1]
  _, seen = passes.run(
    subject.merge(subject.params), tokens, edit, length=LENGTH
  )
  wanted = jnp.stack(
    [measures.entropy(x['logits'][:, :, -LENGTH - 1 :]) for x in seen]
  )
  found = passes.match_entropies(subject.merge, subject.params, values, wanted)
  np.testing.assert_allclose(found, known, rtol=0.02)


def test_observed_means(subject):
  """The same for lists one by one, whose maps are weights."""
  values = subject.lists(LENGTH)[:4]
  whole, stream = passes.observe(subject.merge, subject.params, values)
  single = [
    passes.observe(subject.merge, subject.params, values[i : i + 1])[0]
    for i in range(4)
  ]
  for name in ('mass', 'gap', 'entropy', 'maps'):
    mean = jnp.stack([x[name] for x in single]).mean(0)
    np.testing.assert_allclose(whole[name], mean, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(whole['maps'].sum(-1), 1, rtol=1e-5)
  np.testing.assert_allclose(whole['lens'][0].sum(-1), 1, rtol=1e-5)
  assert stream.shape == (4, 3, 2 * LENGTH + 2, 32)
  again = passes.residuals(subject.merge, subject.params, values)
  np.testing.assert_allclose(stream, again, rtol=1e-4, atol=1e-5)


def test_patches_of_an_oracle(subject, monkeypatch):
  """One that sorts what it sees follows both changes."""
  length = 8

  def sort(merge, params, tokens, at):
    del merge, params
    said = []
    for row, place in zip(np.asarray(tokens), np.asarray(at), strict=True):
      start = int((row == passes.Token.SORT).argmax())
      values, answer = row[1:start], row[start + 1 : place + 1]
      left = list(values)
      for value in answer:
        left.remove(value)
      said.append(min(left))
    return jnp.array(said)

  monkeypatch.setattr(passes, 'predictions', sort)
  result = causes.patch(subject, length)
  assert result.pop('count') > 30
  assert list(result.values()) == [1, 1, 0, 1, 0]


def test_predictions(subject):
  tokens = measures.sort_rows(subject.lists(LENGTH))[:, :-1]
  at = jnp.arange(50) % 12
  expected = subject.merge(subject.params)(tokens).argmax(-1)
  np.testing.assert_array_equal(
    passes.predictions(subject.merge, subject.params, tokens, at),
    expected[jnp.arange(50), at],
  )


def run(*args):
  return subprocess.run(
    [sys.executable, '-m', 'hinting.analysis', *args],
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_everything_is_written(subject, tmp_path):
  """Two models, one of them without a hint, on short lists."""
  result = analysis.analyse(subject, lengths=(3, 6), shown=(3, 6))
  plain = dict(result, shared={})
  made = analysis_plots.figures({'a': result, 'b': plain})
  assert {'lens', 'probes', 'errors', 'shared', 'attention_6'} <= made.keys()
  plots.save(made, tmp_path)
  text = json.dumps(analysis.to_json({'a': result}), allow_nan=False)
  saved = json.loads(text)['a']
  assert saved['shared'].keys() == {'successor', 'count'}
  assert 'maps' not in saved['observed']['3']
  assert 'shared' not in analysis_plots.figures({'b': plain})


def test_of_several_seeds_the_first(subject, tmp_path):
  config = make_config()
  config.num_seeds = 2
  storage.write_json(tmp_path / 'config.json', config.to_dict())
  two = jax.tree.map(lambda x: np.stack([x, 0 * x]), subject.params)
  weights.save_weights(tmp_path, two, step=7)
  loaded = analysis.load(str(tmp_path), 50)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, subject.params)


def test_mistakes_are_one_clear_line(tmp_path):
  for args, word in [
    ((), '--weights'),
    ((f'--weights={tmp_path}/none',), 'config.json'),
    (('--weights=pretrained/seq2set_sorting',), 'seq2set.sorting'),
  ]:
    result = run(*args, f'--output={tmp_path}/out')
    assert result.returncode == 2 and result.stdout == ''
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: ') and word in last
