"""Figures of an analysis.

Each row of panels shows one model, except in `shared`. `results` maps names of
models to results of `analyze.analyze`. Head 1.1 is the first head of the first
layer.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from core.report import plots
from hinting.sorting import error_types
from hinting.sorting.analysis import measures, probes

Results = Mapping[str, Mapping[str, Any]]
_GRAY = '#BBBBBB'


def figures(results: Results) -> dict[str, Figure]:
  """Return all figures by name."""
  made = {
    'lens': lens(results),
    'probes': probe_scores(results),
    'dilution': dilution(results),
    'circuits': circuits(results),
    'errors': errors(results),
    'causes': causes(results),
  }
  made |= {
    f'attention_{n}': attention(results, n)
    for n in _lengths(results, 'ablation')
  }
  if any(result['shared'] for result in results.values()):
    made['shared'] = shared(results)
  return made


def _lengths(results: Results, part: str) -> list[int]:
  """Return the lengths of a part of the analysis; all models share them."""
  return list(next(iter(results.values()))[part])


def head_names(table: np.ndarray) -> list[str]:
  """Return the names 'layer.head', from 1.1, of an array [K, H, ...]."""
  layers, heads = table.shape[:2]
  return [f'{k + 1}.{h + 1}' for k in range(layers) for h in range(heads)]


def _grid(rows: int, columns: int, width=2.4, height=2.3, **options):
  figure = Figure(figsize=(width * columns + 1.2, height * rows + 0.3))
  axes = figure.subplots(rows, columns, squeeze=False, **options)
  return figure, axes


def _title(figure: Figure, text: str):
  figure.suptitle(text, x=0.01, ha='left', fontsize=9, color=plots.INK)


def _name_rows(grid, results: Results, suffix: str = ''):
  """Label the rows of panels with the models' names."""
  repeats = len(grid) // len(results)
  for row, axes in enumerate(grid[:, 0]):
    name = list(results)[row // repeats].replace('_', ' ')
    axes.set_ylabel(name + suffix, color=plots.INK)


def _stack(axes, x, shares: np.ndarray, names, palette):
  """Draw stacked bars [bars, parts] at x."""
  base = np.zeros(len(shares))
  for part, name in enumerate(names):
    axes.bar(
      x, shares[:, part], 0.8, bottom=base, color=palette[part], label=name
    )
    base += shares[:, part]


@plots.style()
def lens(results: Results) -> Figure:
  """Plot the logit lens: shares of `measures.BUCKETS` by layer and length.

  Each model has four rows: two with the last norm, and two without it.
  """
  shown = _lengths(results, 'changed_lists')
  figure, grid = _grid(4 * len(results), len(shown), 3, sharey=True)
  palette = [*plots.PALETTE[:4], _GRAY]
  rows = itertools.product(
    results.values(),
    (('lens', ''), ('lens_without_norm', ', without norm')),
    enumerate(('probability', 'top token')),
  )
  for axes_row, (result, (part, note), (kind, title)) in zip(
    grid, rows, strict=True
  ):
    for axes, length in zip(axes_row, shown, strict=True):
      shares = result['observed'][length][part][:, kind]
      ticks = ['input', *map(str, range(1, len(shares)))]
      _stack(axes, ticks, shares, measures.BUCKETS, palette)
      axes.set_title(f'{title}{note}, n = {length}')
      plots.show_percent(axes)
  for axes in grid[-1]:
    axes.set_xlabel('after layer')
  grid[0, -1].legend(loc='center left', bbox_to_anchor=(1, 0.5))
  _name_rows(grid, results)
  return figure


@plots.style()
def probe_scores(results: Results) -> Figure:
  """Plot the scores of probes against length, one line per layer."""
  figure, grid = _grid(len(results), len(probes.PROBES), sharey=True)
  for axes_row, result in zip(grid, results.values(), strict=True):
    observed = result['observed']
    num_layers = len(next(iter(observed.values()))['probes'][probes.PROBES[0]])
    palette = plots.colors([str(layer) for layer in range(num_layers)])
    for axes, name in zip(axes_row, probes.PROBES, strict=True):
      for layer in range(num_layers):
        scores = [seen['probes'][name][layer] for seen in observed.values()]
        label = f'after layer {layer}' if layer else 'input'
        axes.plot(
          list(observed),
          scores,
          color=palette[str(layer)],
          # Lines may coincide, so earlier layers have wider lines below.
          lw=1.5 * (num_layers - layer),
          label=label,
        )
      axes.set_title(name)
      axes.set_ylim(-0.35, 1.05)
  for axes in grid[-1]:
    axes.set_xlabel('list length')
  score_names = 'accuracy', 'accuracy', 'ROC AUC', 'R²', 'ROC AUC'
  for axes, name, score_name in zip(
    grid[0], probes.PROBES, score_names, strict=True
  ):
    axes.set_title(f'{name} ({score_name})')
  grid[0, -1].legend(loc='center left', bbox_to_anchor=(1, 0.5))
  _name_rows(grid, results)
  return figure


@plots.style()
def attention(results: Results, length: int) -> Figure:
  """Plot mean attention per head: answer steps by keys in order of value."""
  tables = {
    name: result['observed'][length]['maps'] for name, result in results.items()
  }
  return _maps(
    results,
    tables,
    {
      # A weight of 0.001 is relevant among 200 keys.
      'norm': colors.LogNorm(1e-3, 1),
      'cmap': 'viridis',
    },
    'Attention of answer steps (rows) to keys (columns): BOS, the sorted list,'
    ' SORT, the answer so far',
    marks=(0.5, length + 0.5, length + 1.5),
  )


@plots.style()
def circuits(results: Results) -> Figure:
  """Plot logits of pairs of embeddings, query value by key value."""
  tables = {name: result['circuits'] for name, result in results.items()}
  centered = {
    name: maps - maps.mean(-1, keepdims=True) for name, maps in tables.items()
  }
  limit = max(np.quantile(abs(maps), 0.995) for maps in centered.values())
  return _maps(
    results,
    centered,
    {'vmin': -limit, 'vmax': limit, 'cmap': 'RdBu_r'},
    'Attention logits of embeddings, queries (rows) by keys (columns): BOS,'
    ' SORT, values; minus the mean of each query',
    marks=(1.5,),
  )


def _maps(results, tables, options, title, marks) -> Figure:
  num_layers, num_heads = next(iter(tables.values())).shape[:2]
  figure, grid = _grid(
    len(tables) * num_layers, num_heads, sharex=True, sharey=True
  )
  panels = [maps for table in tables.values() for maps in table]
  heads = head_names(next(iter(tables.values()))) * len(tables)
  for axes, table, head in zip(
    grid.flat, np.concatenate(panels), heads, strict=True
  ):
    axes.imshow(table, aspect='auto', interpolation='nearest', **options)
    axes.grid(False)
    axes.set_title(f'head {head}')
    for mark in marks:
      axes.axvline(mark, color=plots.MUTED, lw=0.5)
  figure.colorbar(grid.flat[-1].images[0], ax=grid, shrink=0.5)
  _title(figure, title)
  _name_rows(grid, results)
  return figure


@plots.style()
def dilution(results: Results) -> Figure:
  """Plot the attention to relevant keys against length, one panel per head."""
  observed = next(iter(results.values()))['observed']
  num_layers, num_heads, _ = next(iter(observed.values()))['mass'].shape
  figure, grid = _grid(len(results) * num_layers, num_heads, sharey=True)
  panels = [
    (result, layer)
    for result in results.values()
    for layer in range(num_layers)
  ]
  for axes_row, (result, layer) in zip(grid, panels, strict=True):
    observed = result['observed']
    for head, axes in enumerate(axes_row):
      masses = np.array([x['mass'][layer, head] for x in observed.values()])
      axes.stackplot(
        list(observed),
        masses.T,
        labels=measures.GROUPS,
        colors=plots.PALETTE,
        alpha=0.85,
      )
      gap = [float(x['gap'][layer, head]) for x in observed.values()]
      axes.set_title(
        f'head {layer + 1}.{head + 1}, gap {gap[0]:.1f} to {gap[-1]:.1f}'
      )
      plots.show_percent(axes)
  for axes in grid[-1]:
    axes.set_xlabel('list length')
  grid[0, -1].legend(loc='center left', bbox_to_anchor=(1, 0.5))
  _title(
    figure,
    'Attention on relevant keys. Gap: their largest logit minus the largest'
    ' other logit, for the shortest and the longest lists',
  )
  _name_rows(grid, results)
  return figure


@plots.style()
def errors(results: Results) -> Figure:
  """Plot first errors by length, and accuracy by multiplicity and density."""
  figure, grid = _grid(len(results), 3, 3.1, 2.6)
  palette = [*plots.PALETTE, _GRAY]
  top = max(
    1 - table['shares']['right']
    for result in results.values()
    for table in result['errors'].values()
  )
  for (left, middle, right), result in zip(grid, results.values(), strict=True):
    tables = result['errors']
    shares = np.array(
      [
        [t['shares'][name] for name in error_types.ERRORS]
        for t in tables.values()
      ]
    )
    _stack(left, list(map(str, tables)), shares, error_types.ERRORS, palette)
    left.set_title('first error of wrong answers')
    plots.show_percent(left)
    left.set_ylim(0, max(top, 0.01) * 1.05)
    left.set_xlabel('list length')
    last = max(tables)
    for axes, kind in ((middle, 'multiplicity'), (right, 'density')):
      _intervals(axes, tables[last][kind])
      axes.set_title(f'accuracy by {kind}, n = {last}')
      plots.show_percent(axes)
  grid[0, 0].legend(fontsize=7)
  _name_rows(grid, results)
  return figure


def _intervals(axes, table):
  labels = [f'{name}\n(n = {x["count"]})' for name, x in table.items()]
  middle = np.array([x['accuracy'] for x in table.values()])
  ends = np.array([[x['low'], x['high']] for x in table.values()]).T
  axes.errorbar(
    labels,
    middle,
    abs(ends - middle),
    fmt='o',
    color=plots.PALETTE[0],
    capsize=3,
  )
  axes.margins(x=0.2)


@plots.style()
def causes(results: Results) -> Figure:
  """Plot the effect of ablated heads, sharpened heads, and scaled logits."""
  figure, grid = _grid(len(results), 3, 3.7, 2.6)
  for (left, middle, right), result in zip(grid, results.values(), strict=True):
    _ablation(left, result['ablation'])
    _sharpening(middle, result)
    _scaling(right, result['scaling'])
  _name_rows(grid, results)
  return figure


def _ablation(axes, table):
  for index, (length, scores) in enumerate(table.items()):
    rise = scores['loss'] - scores['whole']['loss']
    x = np.arange(rise.size) + 0.4 * index - 0.2
    color = plots.PALETTE[index]
    axes.bar(x, rise.ravel(), 0.4, color=color, label=f'n = {length}')
    axes.set_xticks(np.arange(rise.size), head_names(rise))
  axes.set_title('loss increase, head ablated')
  axes.set_xlabel('head')
  axes.set_ylabel('nats per token')
  axes.legend()


def _sharpening(axes, result):
  table, length = result['sharpening'], max(result['ablation'])
  whole = result['ablation'][length]['whole']['accuracy']
  shape = next(iter(table.values()))['accuracy'].shape
  curves = {1.0: np.full(shape, whole)}
  curves |= {factor: scores['accuracy'] for factor, scores in table.items()}
  factors = sorted(curves)
  lines = np.stack([curves[factor] for factor in factors], -1)
  for layer, head in np.ndindex(*shape):
    axes.plot(
      factors,
      lines[layer, head],
      # Colors distinguish heads, and dashes distinguish layers.
      color=plots.PALETTE[head % len(plots.PALETTE)],
      ls=('-', '--', ':', '-.')[layer % 4],
      label=f'{layer + 1}.{head + 1}',
    )
  axes.set_title(f'accuracy, one head scaled, n = {length}')
  axes.set_xlabel('factor of its logits')
  plots.show_percent(axes)
  axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))


def _scaling(axes, table):
  kinds = 'unscaled', 'matched', 'oracle'
  for index, kind in enumerate(kinds):
    x = np.arange(len(table)) + 0.25 * (index - 1)
    y = [scores[kind] for scores in table.values()]
    axes.bar(x, y, 0.25, color=plots.PALETTE[index], label=kind)
  axes.set_xticks(np.arange(len(table)), [f'n = {n}' for n in table])
  axes.set_title('accuracy, logits scaled at inference')
  plots.show_percent(axes)
  axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))


@plots.style()
def shared(results: Results) -> Figure:
  """Plot the loss increase of each hint against that of sorting, by head.

  An increase is the effect of ablating one head.
  """
  pairs = [
    (name, hint, table)
    for name, result in results.items()
    for hint, table in result['shared'].items()
  ]
  figure, grid = _grid(1, len(pairs), 3.3, 3)
  for axes, (name, hint, table) in zip(grid[0], pairs, strict=True):
    sorting = next(iter(results[name]['ablation'].values()))
    x, y = (t['loss'] - t['whole']['loss'] for t in (sorting, table))
    axes.scatter(x, y, s=12, color=plots.PALETTE[0])
    for head, *place in zip(head_names(x), x.ravel(), y.ravel(), strict=True):
      axes.annotate(
        head, place, xytext=(3, 3), textcoords='offset points', fontsize=7
      )
    axes.set_title(f'{name}, {hint}: r = {table["pearson"]:.2f}')
    axes.set_xlabel('loss increase of sorting, head ablated (nats)')
    axes.set_ylabel('loss increase of the hint (nats)')
  return figure
