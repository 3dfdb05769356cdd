"""Cards of weights state correct commands and sizes, and their code runs."""

import math
import pathlib
import re

import pytest
from safetensors import safe_open

ROOT = pathlib.Path(__file__).parents[2]
WEIGHTS = sorted(ROOT.glob('pretrained/*/weights.safetensors'))
FOLDERS = [path.parent.name for path in WEIGHTS]
# The correct answer to the example of each card.
ANSWERS = {
  'hinting_sorting': '1 3 7 7 100',
  'hinting_sorting_unhinted': '5 5 12 30 41 77 93',
  'rrn_ages': '57',
  'rrn_babi': 'garden',
  'rrn_mazes': (
    '#######\n#S..# #\n###.# #\n#...  #\n#.#####\n#....G#\n#######'
  ),
  'rrn_pretty_clevr': 'cross',
  'rrn_pretty_clevr_8_steps': 'cross',
  'rrn_sudoku': (
    '417369825632158947958724316825437169791586432346912758289643571573291684'
    '164875293'
  ),
  'rrn_sudoku_12x12': (
    '417369825632158947958724316825437169791586432346912758289643571573291684'
    '164875293'
  ),
  'rrn_sudoku_hard': (
    '417369825632158947958724316825437169791586432346912758289643571573291684'
    '164875293'
  ),
  'rrn_sudoku_cells': (
    '534678912672195348198342567859761423426853791713924856961537284287419635'
    '345286179'
  ),
  'seq2set_convex_hull': '1 2 4 5 1',
  'seq2set_delaunay': '1 3 5 1 2 3 3 4 5 2 3 4',
  'seq2set_parsing': (
    '(S (NP (DT dt-1) (NN nn-160)) (VP (VB vb-object-7) (NP (PRP prp-0)))'
    ' (. .))'
  ),
  'seq2set_sorting': '0.5 1 2 3 4 5 6 7 8 9',
}


def card(name):
  return (ROOT / 'pretrained' / name / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('name', FOLDERS)
def test_the_command_is_that_of_the_queue(name):
  queue = (ROOT / 'results/queue.txt').read_text().splitlines()
  command = re.search(r'^uv run main\.py --config=.*$', card(name), re.M)
  assert command and command[0] in queue
  assert command[0].endswith(f' --workdir=runs/{name}')


@pytest.mark.parametrize('name', FOLDERS)
def test_the_number_of_parameters_is_that_of_the_weights(name):
  path = ROOT / 'pretrained' / name / 'weights.safetensors'
  with safe_open(path, 'numpy') as file:
    shapes = [file.get_slice(key).get_shape() for key in file.keys()]
  assert f'{sum(map(math.prod, shapes)):,} parameters' in ' '.join(
    card(name).split()
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', FOLDERS)
def test_the_python_prints_the_answer(name, capsys):
  (code,) = re.findall(r'```python\n(.*?)```', card(name), re.DOTALL)
  exec(compile(code, name, 'exec'), {})
  assert capsys.readouterr().out.strip() == ANSWERS[name]
