"""The page's style and script. Both are XML as they stand, so that the page is."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  --ground: #ffffff; --raised: #f6f7f9; --ink: #1b1f24; --muted: #59626d; --rule: #dfe3e8; --link: #0b5cad;
  --bar: #4a76a8; --pass: #14713d; --fail: #b8261f; --undecided: #855b00; --second: #b4561a;
  --k1: #fff2d1; --k2: #ffe09e; --k3: #ffc46b; --k4: #f6974a; --k5: #ea6440; --on-hot: #1b1f24;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --raised: #1c2026; --ink: #e6e9ed; --muted: #9aa4b0; --rule: #303740; --link: #79b8ff;
    --bar: #7ba6d6; --pass: #56c98a; --fail: #ff8177; --undecided: #e0b04a; --second: #eb9a5c;
    --k1: #3b3220; --k2: #574321; --k3: #78561f; --k4: #9c5b1c; --k5: #b8401f; --on-hot: #ffffff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 56px 0 12px; padding-top: 20px; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 32px 0 8px; }
h4 { font-size: 1rem; margin: 0 0 8px; }
h5 { font-size: .8125rem; font-weight: 600; margin: 0 0 4px; color: var(--muted); }
h2 small, h4 small { font-weight: 400; font-size: .875rem; color: var(--muted); margin: 0 12px;
  overflow-wrap: anywhere; }
h4 small { margin-left: 8px; }
p { margin: 8px 0; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
code, pre, .tokens, .where span { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: .8125rem; }
code { overflow-wrap: anywhere; unicode-bidi: isolate; }
data, .told, td, .value { font-variant-numeric: tabular-nums; }
.verdict { font-size: 1.125rem; max-width: 70ch; padding-left: 14px; border-left: 4px solid var(--muted);
  overflow-wrap: anywhere; }
.file .verdict { font-size: 1rem; }
.verdict.is-pass { border-color: var(--pass); } .verdict.is-fail { border-color: var(--fail); }
.verdict.is-undecided { border-color: var(--undecided); }
nav { display: flex; flex-wrap: wrap; gap: 8px 12px; margin-top: 20px; }
nav a { text-decoration: none; color: inherit; border: 1px solid var(--rule); border-radius: 6px; padding: 4px 12px; }
nav a:hover { border-color: var(--muted); }
.status { font-weight: 600; white-space: nowrap; font-size: .875rem; }
.status.pass { color: var(--pass); } .status.fail { color: var(--fail); }
.status.undecided { color: var(--undecided); }
.status.skipped { color: var(--muted); font-weight: 400; }
.wide { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid var(--rule); white-space: nowrap;
  font-weight: 400; }
thead th { color: var(--muted); font-size: .8125rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 500; }
#overview table { width: 100%; }
.ladder td, .ladder th { border: 0; padding: 1px 16px 1px 0; text-align: left; vertical-align: top; }
.ladder th { color: var(--muted); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 24px 40px;
  margin: 20px 0; }
.pictures.three { grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 560px; }
figcaption { font-size: .8125rem; color: var(--muted); margin-bottom: 8px; min-height: 2.6em; }
figcaption strong { color: var(--ink); font-size: .875rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font-size: 14px; }
svg text.value { text-anchor: end; }
svg text.tick { fill: var(--muted); font-size: 12px; } svg text.file-name { font-size: 12px; }
.grid { stroke: var(--rule); } .bar { fill: var(--bar); } .limit { stroke: var(--ink); stroke-width: 2; }
.interval { stroke-width: 3; stroke-opacity: .45; }
.interval.pass { stroke: var(--pass); } .interval.fail { stroke: var(--fail); }
.interval.undecided { stroke: var(--undecided); }
.dot.pass { fill: var(--pass); } .dot.fail { fill: var(--fail); } .dot.undecided { fill: var(--undecided); }
.reach { stroke: var(--bar); stroke-opacity: .45; stroke-width: 1.5; } .mean { fill: var(--bar); }
a:hover .mean { fill: var(--second); } a:hover .reach { stroke: var(--second); stroke-opacity: 1; }
.curve { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.curve.training { stroke: var(--bar); } .curve.evaluation { stroke: var(--second); stroke-width: 2; }
.point.evaluation { fill: var(--second); }
.key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin: 0 6px 3px 10px;
  background: var(--bar); }
.key.evaluation::before { background: var(--second); }
.key.fixed::before, .key.fitted::before { width: 9px; height: 9px; border-radius: 50%; margin-bottom: 0; }
.key.fixed::before { background: var(--second); }
.file-dot.fixed { fill: var(--second); } .file-dot.fitted { fill: var(--bar); }
.ladder { list-style: none; padding: 0; margin: 20px 0; border-top: 1px solid var(--rule); font-size: .9375rem; }
.ladder li { border-bottom: 1px solid var(--rule); padding: 8px 0; }
.rung { display: grid; grid-template-columns: 6.5rem 8.5rem 1fr 1rem; gap: 0 8px; align-items: baseline; }
.name { font-weight: 600; } .told { color: var(--muted); }
.is-skipped .name { font-weight: 400; color: var(--muted); }
summary { cursor: pointer; }
summary.rung { list-style: none; } summary.rung::-webkit-details-marker { display: none; }
summary.rung::after { content: "+"; color: var(--muted); text-align: right; }
details[open] summary.rung::after { content: "\\2212"; }
summary.rung:hover .name { text-decoration: underline; text-underline-offset: 3px; }
.ladder .wide, .failure { margin-left: calc(15rem + 16px); }
article summary { color: var(--muted); font-size: .8125rem; width: max-content; padding: 2px 0; }
.records summary h3 { display: inline; } .records { margin-top: 28px; }
.failure { margin-left: calc(15rem + 16px); }
.failure { border-left: 3px solid var(--fail); padding: 2px 0 2px 12px; margin-top: 8px; margin-bottom: 8px; }
.is-undecided .failure, .failure.warning { border-color: var(--undecided); }
.failure p { margin: 2px 0; overflow-wrap: anywhere; } .cause { font-weight: 600; }
article { border: 1px solid var(--rule); border-radius: 8px; padding: 16px 20px; margin: 16px 0; }
article:target { border-color: var(--link); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--raised); border-radius: 6px;
  padding: 10px 12px;
  margin: 6px 0; max-height: 18em; overflow-y: auto; unicode-bidi: isolate; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 12px 28px; margin-top: 10px; }
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9; margin: 0; font-size: .875rem; }
.t { border-radius: 3px; padding: 2px 0; unicode-bidi: isolate; }
.tokens .t { cursor: pointer; }
.legend .t { padding: 1px 6px; white-space: nowrap; border: 1px solid var(--rule); }
.k1 { background: var(--k1); } .k2 { background: var(--k2); } .k3 { background: var(--k3); }
.k4 { background: var(--k4); color: var(--on-hot); } .k5 { background: var(--k5); color: var(--on-hot); }
.other { text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; font-weight: 700; }
.off { font-style: italic; }
.chosen { outline: 2px solid var(--link); }
.legend { font-size: .8125rem; color: var(--muted); line-height: 2; }
.legend .t { color: var(--ink); } .legend .k4, .legend .k5 { color: var(--on-hot); }
.told-token { display: block; font-size: .875rem; min-height: 1.5em; margin: 8px 0; overflow-wrap: anywhere; }
.told-token:empty { display: none; }
article .wide { margin: 4px 0 0; }
dl { margin: 12px 0; font-size: .875rem; }
dl div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 12px; padding: 4px 0;
  border-bottom: 1px solid var(--rule); }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 700px) {
  main { padding: 24px 16px 56px; }
  h2 { margin-top: 40px; }
  .rung { grid-template-columns: 6.5rem 1fr 1rem; } .told { grid-column: 1 / -1; grid-row: 2; }
  .ladder .wide, .failure { margin-left: 0; }
  .sides { grid-template-columns: 1fr; }
  article { padding: 12px 14px; }
  dl div { grid-template-columns: 1fr; }
  figcaption { min-height: 0; }
}
@media print {
  main { max-width: none; padding: 0; } article, figure, .ladder li { break-inside: avoid; }
}
"""

SCRIPT: Final = """
document.addEventListener("click", function (event) {
  const token = event.target.closest(".tokens .t");
  if (token === null) { return; }
  const article = token.closest("article");
  article.querySelectorAll(".chosen").forEach(function (one) { one.classList.remove("chosen"); });
  const twins = article.querySelectorAll('[data-token="' + token.dataset.token + '"]');
  twins.forEach(function (one) { one.classList.add("chosen"); });
  article.querySelector(".told-token").textContent = token.title;
});
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target === null) { return; }
  const folded = target.closest("details");
  if (folded !== null) { folded.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
"""
