"""Tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Return a table with a header."""
  return '\n'.join(lines(header, rows))


def lines(
  header: Sequence[str], rows: Iterable[Sequence[str]]
) -> Iterator[str]:
  """Yield the lines of a table as soon as their rows exist."""
  for cells in (header, ['---'] * len(header)):
    yield _line(cells)
  yield from map(_line, rows)


def number(value: float) -> str:
  """Return a number with four significant digits, or as a whole number."""
  return f'{value:,.0f}' if abs(value) > 999 else f'{value:.4g}'


def _line(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'
