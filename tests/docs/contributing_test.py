"""The experiment of CONTRIBUTING.md, as a package outside the repository."""

import pathlib
import re
import runpy
import sys

import pytest

from core import inference, loop
from core.errors import UserError
from core.report import report
from core.run import run_config

PAGE = pathlib.Path(__file__).parents[2] / 'CONTRIBUTING.md'


def test_two_files_are_an_experiment(tmp_path, monkeypatch, capsys):
  config_text, task_text = re.findall(
    r'^```python\n(.*?)^```', PAGE.read_text(), re.M | re.S
  )
  package = tmp_path / 'my_lab' / 'majority'
  package.mkdir(parents=True)
  (package / 'task.py').write_text(task_text)
  config_path = tmp_path / 'majority_config.py'
  config_path.write_text(
    config_text.replace("'examples.majority'", "'my_lab.majority'")
  )
  config = runpy.run_path(str(config_path))['get_config']('smoke')
  with pytest.raises(UserError, match='LEARNED_ALGORITHMS_TASKS has'):
    loop.run(config, str(tmp_path / 'run'))

  monkeypatch.setattr(sys, 'path', [*sys.path])
  monkeypatch.setenv(run_config.TASK_FOLDER, str(tmp_path))
  assert loop.run(config, str(tmp_path / 'run'))
  start = (
    'my_lab.majority, 10 parameters, seed 0, 8 x cpu, updates 0 to 200\n'
    'training data: drawn on the device\n'
  )
  assert start in capsys.readouterr().err
  assert loop.run(config, str(tmp_path / 'run'))  # finished
  assert capsys.readouterr().err.endswith('is finished, after 200 updates\n')
  trained = inference.load(str(tmp_path / 'run'), {})
  values = inference.evaluate(trained, str(tmp_path / 'run'))
  assert values['words/accuracy'] > 0.99
  assert trained.predict(['011010001', '111111110']) == ['0', '1']
  assert 'words/accuracy' in report.report(str(tmp_path / 'run'))


@pytest.mark.parametrize('task', ['os', '.tasks', 'rrn', '../rrn', '', 'rrn.'])
def test_names_that_are_no_task(tmp_path, monkeypatch, task):
  (tmp_path / 'task.py').touch()
  monkeypatch.setenv(run_config.TASK_FOLDER, str(tmp_path))
  with pytest.raises(UserError, match='config.task='):
    run_config.check_task(task)
