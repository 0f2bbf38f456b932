"""The style sheet of the report: colours as variables, so light and dark differ in one place."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1c1d1f; --muted: #62656b; --rule: #e2e2dd;
  --s0: #2563b8; --s1: #c2571a; --s2: #2f855a; --s3: #8b4bb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #151618; --card: #1e2023; --ink: #e8e8e6; --muted: #9da1a8; --rule: #34373c;
    --s0: #6ea8f2; --s1: #f0955a; --s2: #68c592; --s3: #c493e4;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 44px 0 14px; }
h3 { font-size: 16px; margin: 0 0 12px; white-space: pre-line; overflow-wrap: anywhere; }
header p { color: var(--muted); font-size: 18px; margin: 0; max-width: 48em; }
.lead { color: var(--muted); margin: -6px 0 14px; max-width: 60em; }
.small { color: var(--muted); font-size: 13px; margin: 8px 0 0; }
.tiles, .charts { display: grid; gap: 14px; margin-top: 26px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.parts { display: grid; gap: 14px; align-items: start; }
.parts { grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); }
.tile, .chart, article, table {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
.tile { padding: 14px 16px; display: flex; flex-direction: column; }
.tile .name, .tile .note { color: var(--muted); font-size: 13px; }
.tile .value {
  font-size: 25px; font-weight: 650; letter-spacing: -0.02em; white-space: nowrap;
}
.chart { margin: 0; padding: 14px 16px 10px; }
.chart figcaption { font-weight: 600; margin-bottom: 6px; }
.chart svg { display: block; width: 100%; height: auto; }
.chart .empty { color: var(--muted); margin: 30px 0; text-align: center; }
.key { color: var(--muted); font-weight: 400; font-size: 13px; margin-left: 14px; }
.key i {
  display: inline-block; width: 14px; height: 3px; vertical-align: middle; margin-right: 5px;
}
.key .s0 { background: var(--s0); } .key .s1 { background: var(--s1); }
.key .s2 { background: var(--s2); } .key .s3 { background: var(--s3); }
svg text { fill: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .reference { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
svg polyline { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .s0 { stroke: var(--s0); } svg .s1 { stroke: var(--s1); }
svg .s2 { stroke: var(--s2); } svg .s3 { stroke: var(--s3); }
svg .dot { fill: var(--card); stroke-width: 2.2; }
svg .point { stroke: none; fill-opacity: 0.5; }
svg .point.s0 { fill: var(--s0); } svg .point.s1 { fill: var(--s1); }
svg .point.s2 { fill: var(--s2); } svg .point.s3 { fill: var(--s3); }
svg .diagonal { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
svg .hit { fill: transparent; }
svg .hit:hover { fill: var(--muted); fill-opacity: 0.35; }
article { padding: 16px 18px; margin-bottom: 14px; }
.answers { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); }
.answer { border-left: 3px solid var(--rule); padding-left: 12px; min-width: 0; }
.who { display: flex; justify-content: space-between; gap: 10px; font-size: 14px; }
.score { white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar {
  display: inline-block; width: 64px; height: 6px; border-radius: 3px; background: var(--rule);
  margin-right: 8px; vertical-align: middle; overflow: hidden;
}
.bar i { display: block; height: 100%; background: var(--s0); }
pre {
  margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
pre em { color: var(--muted); }
table { border-collapse: separate; border-spacing: 0; width: 100%; overflow: hidden; }
th, td {
  padding: 7px 16px; text-align: left; vertical-align: top; font-size: 14px;
  border-top: 1px solid var(--rule); overflow-wrap: anywhere;
}
tr:first-child th, tr:first-child td { border-top: 0; }
th { font-weight: 500; color: var(--muted); width: 34%; }
@media (max-width: 480px) {
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile .value { font-size: 21px; }
  th { width: 42%; }
}
@media print { body { background: none; } .tile, .chart, article { break-inside: avoid; } }
"""
