"""The READMEs follow the rules for prose that a machine can check."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [
  'README.md',
  'rrn/README.md',
  'seq2set/README.md',
  'hinting/README.md',
  *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('*/*/README.md')),
]
MAX_WORDS = 25
# A sentence starts with its subject.
OPENINGS = re.compile(
  r'(Of|What|Where|Nor|Refused (is|are)|So (do|does|did|is|are))\b'
)
ENDINGS = re.compile(r'\b(as well|too|by itself)[.!]$')


def paragraphs(text):
  """Yield the text of each paragraph and list item, without markup.

  Headings, tables, code blocks, and HTML are no prose. An inline formula or
  code span counts as one word.
  """
  text = re.sub(r'<!--.*?-->', '', text, flags=re.DOTALL)
  text = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
  text = re.sub(r'^\$\$.*?\$\$', '', text, flags=re.DOTALL | re.MULTILINE)
  text = re.sub(r'`[^`]*`|\$[^$\n]+\$', 'code', text)
  text = re.sub(r'!\[[^\]]*\]\([^)]*\)|<[^>]*>', '', text)
  text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text)
  lines = []
  for line in [*text.splitlines(), '']:
    item = re.match(r'\s*([-*+]|\d+\.)\s+', line)
    is_prose = line.strip() and not re.match(r'\s*(\||#)', line)
    if lines and (item or not is_prose):
      yield ' '.join(lines)
      lines = []
    if is_prose:
      lines.append(line[item.end() if item else 0 :].strip())


def sentences(paragraph):
  """Return the sentences of a paragraph."""
  text = re.sub(r'\*\*|__', '', paragraph)
  text = re.sub(r'\b(e\.g|i\.e|et al|vs|Fig|Eq|Sec|No)\. ', r'\1 ', text)
  return re.split(r'(?<=[.!?])["\')]*\s+(?=\S)', text)


def complaints(text):
  """Return a line for each sentence that breaks a rule."""
  found = []
  for sentence in (s for p in paragraphs(text) for s in sentences(p)):
    words = re.findall(r'[^\s–—]*\w[^\s–—]*', sentence)
    if len(words) > MAX_WORDS:
      found.append(f'{len(words)} words: {sentence}')
    if OPENINGS.match(sentence) and not sentence.endswith('?'):
      found.append(f'forbidden opening: {sentence}')
    if ENDINGS.search(sentence):
      found.append(f'forbidden ending: {sentence}')
  return found


@pytest.mark.parametrize(
  'text, complaint',
  [
    ('Of Sudoku, the command draws the digits.', 'opening'),
    ('It works. What cannot be is refused.', 'opening'),
    ('- Where there is none,\n  nothing is drawn.', 'opening'),
    ('**Refused is** a config that differs.', 'opening'),
    ('So does the other.', 'opening'),
    ('The loop saves the state as well.', 'ending'),
    ('word ' * 25 + 'end.', '26 words'),
    ('word ' * 12 + '\n' + 'word ' * 13 + 'end.', '26 words'),
  ],
)
def test_violations_are_found(text, complaint):
  (found,) = complaints(text)
  assert complaint in found


@pytest.mark.parametrize(
  'text',
  [
    'word ' * 24 + 'end.',
    'word ' * 20 + 'end. ' + 'word ' * 20 + 'end.',
    'word ' * 20 + '\n\n' + 'word ' * 20,
    '- ' + 'word ' * 20 + '\n- ' + 'word ' * 20,
    '# Of graphs\n\n| Of | what |\n|---|---|\n\n```\nOf code\n```',
    'What does it print?',
    'Offsets are learned. Whatever it prints, `a b c`.',
  ],
)
def test_other_text_is_accepted(text):
  assert not complaints(text)


@pytest.mark.parametrize('path', DOCUMENTS)
def test_readmes_follow_the_rules(path):
  found = complaints((ROOT / path).read_text(encoding='utf-8'))
  assert not found, '\n'.join(found)
