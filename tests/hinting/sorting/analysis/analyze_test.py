"""Forward passes and causal tests on small models, and the command."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.hinting import sorting
from core import inference, sharding, step
from core.errors import UserError
from core.io import atomic_files, weights
from core.report import plots
from hinting.sorting import construction, hints
from hinting.sorting.analysis import analyze, causes, measures, passes
from hinting.sorting.analysis import plots as analysis_plots

LENGTH = 5


def make_config():
  config = sorting.get_config(
    'smoke,hint=successor+count,temperature=affine_log'
  )
  config.model.width = 32
  config.model.num_heads = 2
  config.model.feed_forward_width = 32
  return config.copy_and_resolve_references()


def init(config):
  task = inference.make_task(config)
  state = step.make_init(task, config, sharding.make_mesh(config.mesh))()
  return task, jax.device_get(state.params)


@pytest.fixture(scope='module')
def subject():
  """A small model in which all parameters matter, except those of head 1.2."""
  task, params = init(make_config())
  leaves, structure = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  leaves = [x + 0.2 * rng.normal(size=x.shape).astype(x.dtype) for x in leaves]
  params = jax.tree.unflatten(structure, leaves)
  params['blocks'][0]['out']['kernel'][16:] = 0
  params = jax.tree.map(jnp.asarray, params)
  return causes.Subject(task, step.make_merge(task), params, 50)


def construct(**options):
  """Return a subject with weights set by hand; it does not use head 2.2."""
  config = make_config()
  config.data.num_values = 12
  task = inference.make_task(config)
  model = construction.build(12, max_copies=30, margin=1, **options)
  task.model_config = model.config
  graphdef, params = nnx.split(model)
  return causes.Subject(
    task, functools.partial(nnx.merge, graphdef), params, 25
  )


def no_edit(subject):
  return passes.no_edit(subject.task.model_config)


def test_roles():
  np.testing.assert_array_equal(passes.roles(3, 9), [0, 1, 1, 1, 2, 3, 3, 3, 3])


@pytest.mark.slow
@pytest.mark.parametrize('all_tokens', [False, True])
def test_no_edit_changes_nothing(subject, all_tokens):
  model = subject.merge(subject.params)
  tokens = hints.sort_rows(subject.lists(LENGTH))[:, :-1]
  logits, seen = passes.run(
    model, tokens, no_edit(subject), length=LENGTH, all_tokens=all_tokens
  )
  np.testing.assert_allclose(
    logits, model(tokens)[:, LENGTH + 1 :], rtol=1e-4, atol=1e-4
  )
  assert len(seen) == 2


def test_rows_of_sorting(subject):
  tokens, is_answer = causes.make_rows(subject, 'sort', LENGTH)
  expected = hints.sort_rows(subject.lists(LENGTH))
  np.testing.assert_array_equal(tokens, expected)
  expected = np.broadcast_to(np.arange(13) > LENGTH + 1, is_answer.shape)
  np.testing.assert_array_equal(is_answer, expected)


def test_ablation_of_an_unused_head_does_nothing(subject):
  rows = causes.make_rows(subject, 'sort', LENGTH)
  result = causes.ablate(subject, rows, LENGTH)
  damage = result['loss'] - result['whole']['loss']
  np.testing.assert_allclose(damage[0, 1], 0, atol=1e-5)
  others = np.delete(damage.ravel(), 1)
  assert (abs(others) > 3e-5).all()


@pytest.mark.slow
def test_needed_heads_of_known_weights():
  """Ablation and scaled logits have the effects that the theory predicts.

  Head 1.1 tells the answer from the list, and its means by role suffice for
  that. Head 1.2 finds the successor even with half its logits, because there
  are few copies.
  """
  subject, length = construct(), 20
  rows = causes.make_rows(subject, 'sort', length)
  ablated = causes.ablate(subject, rows, length)
  assert ablated['whole']['accuracy'] == 1
  is_right = ablated['accuracy'] == 1
  np.testing.assert_array_equal(is_right, [[True, False], [False, True]])
  for factor, scores in causes.sharpen(subject, length).items():
    is_right = scores['accuracy'] == 1
    expected = True if factor > 1 else [[False, True], [False, True]]
    np.testing.assert_array_equal(is_right, expected, str(factor))


@pytest.mark.slow
def test_temperatures_fix_frozen_weights():
  """Temperatures for 20 values fail on 60 values; sharper ones do not."""
  subject = construct(frozen_length=20)
  short, _ = passes.observe(subject.merge, subject.params, subject.lists(20))
  result = causes.scale_softmax(subject, 60, short['entropy'])
  assert result['unscaled'] == 0
  assert result['oracle'] == result['matched'] == 1
  assert result['oracle_factor'] > 1


@pytest.mark.slow
def test_hints_and_sorting_share_heads(subject):
  """The correlation of a hint with itself is 1."""
  hint = causes.ablate(
    subject, causes.make_rows(subject, 'successor', LENGTH), LENGTH
  )
  result = causes.ablate_hints(subject, hint, LENGTH)
  assert result['successor']['pearson'] == pytest.approx(1)
  assert result['count']['pearson'] < 0.99
  np.testing.assert_array_equal(result['successor']['loss'], hint['loss'])


@pytest.mark.slow
def test_head_means(subject):
  """The means of two equal rows are the outputs of their tokens by role."""
  rows = hints.sort_rows(subject.lists(LENGTH))[:1].repeat(2, 0)[:, :-1]
  means = passes.head_means(subject.merge, subject.params, rows, length=LENGTH)
  _, seen = passes.run(
    subject.merge(subject.params),
    rows,
    no_edit(subject),
    length=LENGTH,
    all_tokens=True,
  )
  for layer in (0, 1):
    heads = seen[layer]['heads'][0]
    parts = [heads[:1], heads[1:6], heads[6:7], heads[7:]]
    expected = jnp.stack([x.mean(0) for x in parts])
    np.testing.assert_allclose(means[layer], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_scores_agree_with_decoding(subject):
  """Exact match agrees with decoding."""
  rows = causes.make_rows(subject, 'sort', 1)  # some answers are right
  answers = passes.decode(subject.merge, subject.params, subject.lists(1))
  is_right = (answers == rows[0][:, 3:]).all(1).mean()
  assert subject.score(rows, no_edit(subject), 1)['accuracy'] == is_right


@pytest.mark.slow
def test_entropies_are_matched(subject):
  """Matching the entropies of known scales recovers the scales."""
  values = subject.lists(LENGTH)
  known = jnp.array([[0.5, 2.0], [1.5, 0.8]])
  edit = dataclasses.replace(no_edit(subject), scales=known)
  tokens = hints.sort_rows(values)[:, :-1]
  _, seen = passes.run(
    subject.merge(subject.params), tokens, edit, length=LENGTH
  )
  wanted = jnp.stack(
    [measures.entropy(x['logits'][:, :, -LENGTH - 1 :]) for x in seen]
  )
  found = passes.match_entropies(subject.merge, subject.params, values, wanted)
  np.testing.assert_allclose(found, known, rtol=0.02)


@pytest.mark.slow
def test_observed_means(subject):
  """Means over chunks equal the means over single lists."""
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
  model, rows = subject.merge(subject.params), hints.sort_rows(values)
  logits = model(rows[:, :-1])[:, LENGTH + 1 :]
  shares = measures.bucket_shares(logits, measures.answer_steps(values))
  np.testing.assert_allclose(whole['lens'][-1], shares.mean((0, 1)), rtol=1e-3)
  np.testing.assert_allclose(whole['lens_without_norm'].sum(-1), 1, rtol=1e-5)
  assert not np.allclose(whole['lens_without_norm'], whole['lens'], atol=0.01)
  assert stream.shape == (4, 3, 2 * LENGTH + 2, 32)
  again = passes.residuals(subject.merge, subject.params, values)
  np.testing.assert_allclose(stream, again, rtol=1e-4, atol=1e-5)


def test_changed_lists_of_an_oracle(subject, monkeypatch):
  """A model that sorts follows both changes of the list."""
  length = 8

  def sort(merge, params, tokens, at):
    del merge, params
    predicted = []
    for row, place in zip(np.asarray(tokens), np.asarray(at), strict=True):
      start = int((row == passes.Token.SORT).argmax())
      values, answer = row[1:start], row[start + 1 : place + 1]
      left = list(values)
      for value in answer:
        left.remove(value)
      predicted.append(min(left))
    return jnp.array(predicted)

  monkeypatch.setattr(passes, 'predictions', sort)
  result = causes.change_lists(subject, length)
  assert result.pop('count') > 30
  assert list(result.values()) == [1, 1, 0, 1, 0]


@pytest.mark.slow
def test_predictions(subject):
  tokens = hints.sort_rows(subject.lists(LENGTH))[:, :-1]
  at = jnp.arange(50) % 12
  expected = subject.merge(subject.params)(tokens).argmax(-1)
  np.testing.assert_array_equal(
    passes.predictions(subject.merge, subject.params, tokens, at),
    expected[jnp.arange(50), at],
  )


def run(*args):
  return subprocess.run(
    [sys.executable, '-m', 'hinting.sorting.analysis', *args],
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.slow
def test_everything_is_written(subject, tmp_path):
  """The analysis of two models, one without a hint, gives all results."""
  result = analyze.analyze(subject, lengths=(3, 6), causal_lengths=(3, 6))
  plain = dict(result, shared={})
  made = analysis_plots.figures({'a': result, 'b': plain})
  assert {'lens', 'probes', 'errors', 'shared', 'attention_6'} <= made.keys()
  plots.save(made, tmp_path)
  text = json.dumps(analyze.to_json({'a': result}), allow_nan=False)
  saved = json.loads(text)['a']
  assert saved['shared'].keys() == {'successor', 'count'}
  assert 'maps' not in saved['observed']['3']
  learned = [np.array(layer['offset']) for layer in saved['temperatures']]
  for layer, offset in zip(
    subject.params['blocks'].values(), learned, strict=True
  ):
    np.testing.assert_allclose(
      offset, layer['temperature']['offset'], rtol=1e-4
    )
  assert 'shared' not in analysis_plots.figures({'b': plain})


@pytest.mark.slow
def test_the_first_seed_is_used(subject, tmp_path):
  config = make_config()
  config.num_seeds = 2
  atomic_files.write_json(tmp_path / 'config.json', config.to_dict())
  two = jax.tree.map(lambda x: np.stack([x, 0 * x]), subject.params)
  weights.save_weights(tmp_path, two, step=7)
  loaded = analyze.load(str(tmp_path), 50)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, subject.params)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    pytest.param(
      {'data.main': 'scratchpad', 'data.hint': 'successor'},
      "expected a model with 'sort'",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {'data.lists': 'distinct'},
      'expected at least 100',
      marks=pytest.mark.slow,
    ),
    ({'model.num_heads': 4}, '2 layers of 4 heads, .* 2 layers of 2 heads'),
  ],
)
def test_models_that_cannot_be_analyzed(subject, tmp_path, changes, words):
  config = make_config()
  config.update_from_flattened_dict(changes)
  atomic_files.write_json(tmp_path / 'config.json', config.to_dict())
  weights.save_weights(tmp_path, init(config)[1], step=7)
  with pytest.raises(UserError, match=words):
    analyze.load(str(tmp_path), 50, subject)


@pytest.mark.slow
def test_user_errors_take_one_line(tmp_path):
  for args, word in [
    ((), '--weights'),
    ((f'--weights={tmp_path}/none',), 'there is no folder'),
    (('--weights=pretrained/seq2set_sorting',), 'seq2set.sorting'),
  ]:
    result = run(*args, f'--output={tmp_path}/out')
    assert result.returncode == 2 and result.stdout == ''
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: ') and word in last
