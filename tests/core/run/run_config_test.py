"""The config of a run: how it differs from the paper's, and its folder."""

from configs.seq2set import sorting
from core.run import run_config

FILE = str(run_config.ROOT / 'configs/seq2set/sorting.py')


def test_two_arguments_of_the_config_are_joined():
  given = 'main.py --config a.py:cpu --config.seed=1 --config=b.py'.split()
  assert run_config.join_config_flag(given) == [
    'main.py',
    '--config=a.py:cpu',
    '--config.seed=1',
    '--config=b.py',
  ]
  assert run_config.join_config_flag(['--config']) == ['--config=']


def test_settings_show_the_values_of_the_paper():
  config = sorting.get_config('cpu,set_size=7')
  config.seed = 3
  lines = run_config.describe(config, f'{FILE}:cpu,set_size=7').splitlines()
  assert 'config.data.set_size = 7' in lines  # it is an argument of both
  assert "config.seed = 3  # paper's size: 0" in lines
  rate = config.optim.learning_rate
  expected = sorting.get_config('set_size=7').optim.learning_rate
  assert (
    f"config.optim.learning_rate = {rate}  # paper's size: {expected}" in lines
  )
  assert not any(line.startswith('config.report') for line in lines)


def test_the_config_of_the_paper_has_no_differences():
  text = run_config.describe(sorting.get_config(), FILE)
  assert 'paper' not in text


def test_folders_of_the_repository_are_found(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  shipped = str(run_config.ROOT / 'pretrained')
  assert run_config.find_folder('pretrained') == shipped
  assert run_config.find_folder('none') == 'none'
  (tmp_path / 'pretrained').mkdir()  # the working folder comes first
  assert run_config.find_folder('pretrained') == 'pretrained'
