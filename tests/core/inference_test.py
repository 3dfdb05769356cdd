"""Errors of configs, loading of folders, evaluation, and predict."""

import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import ml_collections
import pytest

from configs.rrn import sudoku
from core import inference, loop
from core.errors import UserError
from core.io import weights
from core.run import console, run_config
from tests.core import toy_task

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('task', 'rrn.sudok', 'rrn.sudoku'),
    ('task', 'pretrained.mine', 'rrn.sudoku'),
    ('batch_size', 0, 'batch_size=0: expected a whole number from 1'),
    ('model.width', 0, 'model.width=0: expected a whole number'),
    ('evals.max_steps', 0, 'max_steps=0: expected a whole number from 1'),
    ('microbatch_size', -1, 'number from 0'),
    ('total_steps', -3, 'number from 0'),
    ('steps_per_call', 0, 'number from 1'),
    ('seed', 2**70, 'config.seed'),
    ('checkpoint.keep_last', 0, 'keep_last=0'),
    ('model.message_layers', -1, 'message_layers=-1'),
    ('model.message_layers', 0, 'message_layers=0'),
    ('model.num_steps', 0, 'num_steps=0'),
    ('evals.batch_size', 0, 'evals.batch_size=0'),
    ('evals.num_steps', (), 'at least one number'),
    ('evals.num_steps', (8, 0), 'numbers of at least 1'),
    ('evals.num_steps', ('a',), 'numbers of at least 1'),
    ('evals.givens', (-3, 4), 'numbers of at least 1'),
    ('evals.givens', (4,), 'expected 2 numbers'),
    ('evals.givens', (5, 4), 'the fewest givens'),
    ('dtype', 'float23', 'float32, bfloat16'),
    ('optim.muon_paths', '(', 'not a regular expression'),
    ('init_missing_regex', '(', 'not a regular expression'),
  ],
)
def test_invalid_settings_are_errors(name, value, message):
  config = sudoku.get_config('smoke')
  config.update_from_flattened_dict({name: value})
  with pytest.raises(UserError, match=message):
    inference.make_task(config)


@pytest.mark.parametrize(
  'change',
  [{'dtype': 'float23'}, {'microbatch_size': 3}, {'optim.name': 'adm'}],
)
def test_a_refused_start_leaves_no_config(tmp_path, change):
  config = sudoku.get_config('smoke')
  config.update_from_flattened_dict(change)
  with pytest.raises(UserError):
    loop.run(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failed_start_can_be_corrected(tmp_path):
  """A failed start leaves no config that a later start would have to match."""
  for name, message in ('init_weights', 'no weights in'), ('data.dir', 'add'):
    config = sudoku.get_config('smoke')
    config.update_from_flattened_dict({name: str(tmp_path / 'none')})
    with pytest.raises(UserError, match=message):
      loop.run(config, str(tmp_path / 'run'))
  corrected = sudoku.get_config('smoke,network=cells')
  corrected.model.num_steps = 2
  corrected.total_steps, corrected.steps_per_call = 1, 1
  corrected.seed = 1
  assert loop.run(corrected, str(tmp_path / 'run'))
  corrected.seed = 2
  with pytest.raises(UserError, match='seed'):
    loop.run(corrected, str(tmp_path / 'run'))


def test_an_unknown_setting(tmp_path):
  config = sudoku.get_config('smoke')
  config.data.note = 'mine'
  with pytest.raises(UserError, match=r'data\.note, which configs/rrn/sudoku'):
    loop.run(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


def test_a_missing_setting(tmp_path):
  config = sudoku.get_config('smoke')
  del config.model.width
  del config.batch_size
  with pytest.raises(UserError, match='lacks batch_size, model.width, which'):
    loop.run(config, str(tmp_path))
  del config.task
  with pytest.raises(
    UserError, match="config.task='': expected one of .*rrn.ages"
  ):
    loop.run(config, str(tmp_path))


@pytest.mark.parametrize(
  'name, value, kind',
  [
    ('batch_size', '32', 'int'),
    ('batch_size', 32.0, 'int'),
    ('batch_size', True, 'int'),
    ('optim.learning_rate', '1e-3', 'float'),
    ('model.remat', 1, 'bool'),
    ('evals.num_steps', 8, 'tuple'),
    ('data.dir', 3, 'str'),
  ],
)
def test_a_setting_of_another_type(tmp_path, name, value, kind):
  config = sudoku.get_config('smoke').to_dict()
  section, _, key = name.rpartition('.')
  (config[section] if section else config)[key] = value
  with pytest.raises(UserError, match=f'config.{name}=.* of type {kind}'):
    loop.run(ml_collections.ConfigDict(config), str(tmp_path))


@pytest.mark.parametrize('task', run_config.tasks())
@pytest.mark.parametrize('arg', [None, 'cpu', 'smoke'])
def test_shipped_configs_have_all_settings(task, arg):
  module = importlib.import_module(f'configs.{task}')
  run_config.check_against_defaults(module.get_config(arg))


def test_a_missing_folder_suggests_what_exists(tmp_path):
  for name in ('sudoku', 'ages'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').touch()
  with pytest.raises(UserError) as caught:
    inference.load(str(tmp_path / 'sudko'), {})
  assert str(caught.value) == (
    f'there is no folder {tmp_path}/sudko; did you mean {tmp_path}/sudoku?'
  )
  with pytest.raises(UserError) as caught:
    inference.load(str(tmp_path / 'unlike'), {})
  text = str(caught.value)
  assert f'known: {tmp_path}/ages, {tmp_path}/sudoku, pretrained/' in text
  with pytest.raises(UserError, match='it has no config.json; known: '):
    inference.load(str(tmp_path), {})


@pytest.mark.parametrize(
  'mark', ['run.json', 'weights.safetensors', 'checkpoints', 'point']
)
def test_results_do_not_go_to_another_run(tmp_path, monkeypatch, mark):
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())
  assert loop.run(toy_task.make_config(), str(tmp_path / 'run'))
  trained = inference.load(str(tmp_path / 'run'), {})
  other = tmp_path / 'other'
  for _ in range(2):  # results may be measured again
    inference.evaluate(trained, str(other))
  results = (other / 'results.json').read_text()
  (other / mark).touch()
  with pytest.raises(UserError, match='other is in use'):
    inference.evaluate(trained, str(other))
  assert (other / 'results.json').read_text() == results


def test_evaluation_shows_progress_and_a_table(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())
  assert loop.run(toy_task.make_config(), str(tmp_path / 'run'))
  trained = inference.load(str(tmp_path / 'run'), {})
  capsys.readouterr()
  values = inference.evaluate(trained, str(tmp_path / 'run'))
  shown = capsys.readouterr()
  assert shown.err.splitlines() == [
    'evaluating test',
    f'test/error  {values["test/error"]:.4g}',
  ]
  assert not shown.out


def test_a_folder_of_weights_runs_no_code(tmp_path, monkeypatch):
  """Loading imports neither a task nor a config from the folder."""
  (tmp_path / 'payload.py').write_text('raise SystemExit("it runs")')
  (tmp_path / 'task.py').write_text('raise SystemExit("it runs")')
  monkeypatch.syspath_prepend(tmp_path.parent)
  for task in str(tmp_path / 'payload'), tmp_path.name, '../payload', 3, None:
    (tmp_path / 'config.json').write_text(json.dumps({'task': task}))
    assert run_config.config_file_of(str(tmp_path), 'default') == 'default'
    with pytest.raises(UserError, match='config.task=|task is missing'):
      inference.load(str(tmp_path), {})
  assert not any(tmp_path.name in name for name in sys.modules)


def test_settings_that_are_newer_than_a_folder_have_their_defaults(tmp_path):
  saved = {
    'task': 'rrn.sudoku',
    'model': {'width': 32},
    'evals': {'givens': [4, 10]},
    'report': {'validation/cells': ''},
  }
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  config = run_config.read(tmp_path)
  bare = sudoku.get_config()
  assert config.model.width == 32 and config.evals.givens == (4, 10)
  assert config.model.burn_in == bare.model.burn_in
  assert config.log == bare.log and config.num_seeds == 1
  assert config.report.to_dict() == saved['report']


def test_settings_that_an_experiment_removed_are_dropped(tmp_path):
  saved = {'task': 'seq2set.sorting', 'model': {'process_form': 'A'}}
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  assert 'process_form' not in run_config.read(tmp_path).model
  saved['model']['process_form'] = 'B'  # another network
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  with pytest.raises(UserError, match=r'does not know: model\.process_form'):
    run_config.read(tmp_path)


def test_settings_with_names_of_an_earlier_version_are_read(tmp_path):
  saved = {'task': 'rrn.sudoku', 'microbatch': 3, 'init_new': 'kernel'}
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  config = run_config.read(tmp_path)
  assert config.microbatch_size == 3 and config.init_missing_regex == 'kernel'


def test_settings_of_a_later_version(tmp_path):
  saved = {'task': 'rrn.sudoku', 'model': {'width': 32, 'later': 1}}
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  with pytest.raises(UserError, match=r'does not know: model\.later;'):
    inference.load(str(tmp_path), {})


@pytest.mark.parametrize(
  'saved',
  [
    {'model': 3},
    {'model': {'width': 'wide'}},
    {'total_steps': [2]},
    {'report': {'test/solved': 0.5}},
    {'seed': None},
  ],
)
def test_a_saved_setting_of_another_type(tmp_path, saved):
  saved = json.dumps(saved | {'task': 'rrn.sudoku'})
  (tmp_path / 'config.json').write_text(saved)
  with pytest.raises(UserError, match='setting with the wrong type'):
    inference.load(str(tmp_path), {})


def test_weights_record_their_number_of_updates(tmp_path, monkeypatch):
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())
  assert loop.run(toy_task.make_config(), str(tmp_path))
  with pytest.raises(UserError, match='already has 6 updates'):
    loop.run(toy_task.make_config(total_steps=4), str(tmp_path))
  assert run_config.read(tmp_path).total_steps == 6  # unchanged
  assert weights.read_step(tmp_path) == 6
  assert inference.load(str(tmp_path), {}).step == 6


@pytest.mark.parametrize('name', ['weights.safetensors', 'results.json'])
def test_training_refuses_a_folder_with_only_weights_or_results(
  tmp_path, monkeypatch, name
):
  monkeypatch.setattr(inference, 'make_task', lambda _: toy_task.ToyTask())
  (tmp_path / name).write_text('kept')
  with pytest.raises(UserError, match='no checkpoint to resume from'):
    loop.run(toy_task.make_config(), str(tmp_path))
  assert (tmp_path / name).read_text() == 'kept'


class Echo:
  """A task that answers each line with itself, and some with an error."""

  def predict(self, model, lines):
    for line in lines:
      if line.startswith('bad'):
        number = int(line[4:]) if line[4:] else None
        yield UserError('of\ntwo lines', line=number)
      else:
        yield None if line == 'none' else line


TEXT = 'a\r\n\nbad\nnone\nbad 7\nb\rc\x0bd\u2028e\n\u00e9'
ANSWERS = ['a', '', '', '', '', 'b\rc\x0bd\u2028e', '\u00e9', '']


@pytest.mark.parametrize('is_file', [True, False])
def test_predict_prints_a_line_for_each_answer(
  tmp_path, monkeypatch, capsys, is_file
):
  path = tmp_path / 'lines'
  path.write_bytes(TEXT.encode('utf-8-sig'))
  trained = types.SimpleNamespace(task=Echo(), model=None)
  with path.open() as stdin:
    monkeypatch.setattr(sys, 'stdin', stdin)
    assert not inference.predict(trained, str(path) if is_file else '-')
    assert not stdin.closed
  output = capsys.readouterr()
  assert output.out.split('\n') == ANSWERS
  assert output.err.splitlines() == [
    'error: line 3: of two lines',
    'error: line 7: of two lines',
  ]


def test_predict_succeeds_without_errors(tmp_path, capsys):
  (tmp_path / 'lines').write_bytes(b'a\n\n')
  trained = types.SimpleNamespace(task=Echo(), model=None)
  assert inference.predict(trained, str(tmp_path / 'lines'))
  assert capsys.readouterr() == ('a\n\n', '')


class Grid(Echo):
  """A task that answers the first two lines at once, as those of a grid."""

  def predict(self, model, lines):
    _, _, *rest = lines
    yield from ('grid', *rest)


def test_lines_that_are_not_utf8_are_named(tmp_path, capsys):
  path = tmp_path / 'lines'
  path.write_bytes(b'a\ncaf\xe9\nb\n')
  trained = types.SimpleNamespace(task=Echo(), model=None)
  assert not inference.predict(trained, str(path))
  output = capsys.readouterr()
  assert output.out == 'a\n\nb\n'
  assert output.err.startswith('error: line 2: not UTF-8 text')
  assert output.err.count('\n') == 1
  trained.task = Grid()  # its second answer is not that to line 2
  assert not inference.predict(trained, str(path))
  output = capsys.readouterr()
  assert output.out == 'grid\nb\n'
  assert output.err.startswith('error: line 2: not UTF-8 text')


def test_input_that_cannot_be_read(monkeypatch):
  trained = types.SimpleNamespace(task=Echo(), model=None)
  with open(os.devnull, 'wb') as stdin:  # as if it was closed at the start
    monkeypatch.setattr(sys, 'stdin', stdin)
    with pytest.raises(console.StreamError, match='--input=FILE'):
      inference.predict(trained, '-')


INTERRUPTED = """
import sys, types
import numpy as np
from core import answers, inference
from core.run import command_line

class Task:
  def predict(self, model, texts):
    problems = answers.map_lines(texts, str)
    yield from answers.answer_problems(
      problems, encode=None, solve=None, finish=None
    )

trained = types.SimpleNamespace(task=Task(), model=None)
main = lambda argv: 0 if inference.predict(trained, '-') else 2
sys.exit(command_line.run(main, []))
"""


@pytest.mark.slow
def test_interrupt_while_predict_waits_for_a_line():
  with subprocess.Popen(
    [sys.executable, '-c', INTERRUPTED],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  ) as process:
    process.stdin.write('\n')
    process.stdin.flush()
    assert process.stdout.readline() == '\n'
    process.send_signal(signal.SIGINT)
    status = process.wait(timeout=300)
    errors = process.stderr.read()
  assert status == 1
  assert errors.startswith('error: interrupted') and errors.count('\n') == 1


def test_predict_with_a_missing_file():
  trained = types.SimpleNamespace(task=Echo(), model=None)
  with pytest.raises(UserError, match='--input=none: No such file'):
    inference.predict(trained, 'none')
