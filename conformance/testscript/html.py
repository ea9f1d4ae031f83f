"""What became of scripts as one page that needs nothing else: a picture of cells, and below it
what each cell found.

https://html.spec.whatwg.org
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from conformance.testscript.result import Action, Part, Run, totals

MARKS = {"pass": "✓", "fail": "✗", "error": "!", "skip": "–", "warning": "~"}
WORDS = {
    "pass": "passed",
    "fail": "failed",
    "error": "could not be judged",
    "skip": "skipped",
    "warning": "passed with a warning",
}
_STYLE = """
:root{color-scheme:light dark;--ink:#1b2530;--soft:#4a5866;--paper:#fff;--shade:#f2f5f8;
--line:#c9d2db;--pass:#1a7f4b;--fail:#b3261e;--error:#8e24aa;--skip:#66727e;--warning:#a35f00}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf2;--soft:#b4c0cc;--paper:#14191f;
--shade:#1f262e;--line:#3a4653;--pass:#1f7f4e;--fail:#c9443c;--error:#a04fc0;--skip:#5d6975;
--warning:#c98212}}
*{box-sizing:border-box}body{margin:0;font:100%/1.5 system-ui,"Segoe UI",Roboto,sans-serif;
color:var(--ink);background:var(--shade)}main{max-width:72rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:0 0 1rem;color:var(--soft)}.card{background:var(--paper);border:1px solid var(--line);
border-radius:.75rem;padding:1.25rem;margin:0 0 1rem}
.sum{display:flex;flex-wrap:wrap;gap:.5rem 2rem;font-size:1.05rem}.sum b{font-size:1.6rem}
.bar{display:flex;height:.6rem;border-radius:.3rem;overflow:hidden;margin:1rem 0 0}
.row{display:grid;grid-template-columns:minmax(9rem,18rem) 1fr;gap:.25rem 1rem;padding:.3rem 0;
border-top:1px solid var(--line);align-items:center}.row:first-child{border:0}
.row>span{overflow-wrap:anywhere}.cells{display:flex;flex-wrap:wrap;gap:.25rem}
.cell{width:1.5rem;height:1.5rem;border-radius:.3rem;color:#fff;text-decoration:none;
font:600 .95rem/1.5rem system-ui;text-align:center}.cell:hover,.cell:focus-visible
{outline:3px solid var(--ink);outline-offset:1px}
.pass{background:var(--pass)}.fail{background:var(--fail)}.error{background:var(--error)}
.skip{background:var(--skip)}.warning{background:var(--warning)}
details{border-top:1px solid var(--line);padding:.4rem 0}details:target{background:var(--shade)}
summary{cursor:pointer;overflow-wrap:anywhere}summary .cell{display:inline-block;margin-right:.5rem}
.took{color:var(--soft);font-size:.9rem;float:right}ol{margin:.5rem 0;padding-left:2.2rem}
li{overflow-wrap:anywhere;margin:.2rem 0}li small{color:var(--soft)}
.tag{color:#fff;border-radius:.25rem;padding:0 .35rem;font-size:.85rem}
@media(max-width:36rem){.row{grid-template-columns:1fr}.took{float:none;display:block}}
@media print{body{background:none}}
"""


def html(runs: Sequence[Run], title: str = "Conformance") -> str:
    """One page of all runs, without scripts and without anything from elsewhere."""
    body = "\n".join(_body(runs, title))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def cell(part: Part) -> str:
    """How a part is shown: its outcome, or that it warned."""
    return "warning" if part.outcome == "pass" and part.warned else part.outcome


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def _body(runs: Sequence[Run], title: str) -> Iterator[str]:
    counted = totals(list(runs))
    servers = ", ".join(dict.fromkeys(each.server for each in runs))
    when = f"{runs[0].began:%Y-%m-%d %H:%M} UTC" if runs else "nothing was run"
    yield f"<h1>{escape(title)}</h1><p>{escape(servers)} · {when}</p>"
    yield '<section class="card"><div class="sum">'
    for number, word in zip(counted, ("passed", "failed", "skipped"), strict=True):
        yield f"<span><b>{number:,}</b> {word}</span>"
    spent = sum(each.seconds for each in runs)
    yield f"<span><b>{milliseconds(spent)}</b> in {len(runs):,} scripts</span></div>"
    yield f'<div class="bar" aria-hidden="true">{_bar(counted)}</div></section>'
    yield '<section class="card" aria-label="All tests">'
    for number, run in enumerate(runs):
        cells = "".join(_cell(run, number, at) for at in range(len(run.parts)))
        name = "/".join(filter(None, (run.script.group, run.script.title)))
        row = f'<span>{escape(name)}</span><span class="cells">{cells}</span>'
        yield f'<div class="row">{row}</div>'
    yield "</section>"
    for number, run in enumerate(runs):
        yield from _details(run, number)


def _bar(counted: Sequence[int]) -> str:
    every = sum(counted) or 1
    return "".join(
        f'<span class="{kind}" style="width:{100 * number / every:.2f}%"></span>'
        for number, kind in zip(counted, ("pass", "fail", "skip"), strict=True)
    )


def _shown(part: Part) -> bool:
    """Setup and teardown have a cell only where something is amiss."""
    return part.kind == "test" or part.outcome not in ("pass", "skip")


def _cell(run: Run, number: int, at: int) -> str:
    part = run.parts[at]
    if not _shown(part):
        return ""
    kind = cell(part)
    said = f"{part.name}: {WORDS[kind]}, {milliseconds(part.seconds)}"
    return (
        f'<a class="cell {kind}" href="#p{number}-{at}" title="{escape(said)}" '
        f'aria-label="{escape(said)}">{MARKS[kind]}</a>'
    )


def _details(run: Run, number: int) -> Iterator[str]:
    script = run.script.resource
    yield f'<section class="card"><h2>{escape(run.script.title)}</h2>'
    for text in (script.get("description", ""), run.note):
        if text:
            yield f"<p>{escape(text)}</p>"
    for at, part in enumerate(run.parts):
        kind = cell(part)
        opened = " open" if part.outcome in ("fail", "error") else ""
        yield (
            f'<details id="p{number}-{at}"{opened}><summary><span class="cell {kind}" '
            f'aria-hidden="true">{MARKS[kind]}</span>{escape(part.name)} '
            f'<span class="took">{WORDS[kind]}, {milliseconds(part.seconds)}</span></summary>'
        )
        if part.about:
            yield f"<p>{escape(part.about)}</p>"
        yield "<ol>" + "".join(map(_line, part.actions)) + "</ol></details>"
    yield "</section>"


def _line(action: Action) -> str:
    about = f"{escape(action.about)}<br>" if action.about else ""
    return (
        f'<li><span class="tag {action.outcome}">{WORDS[action.outcome]}</span> {about}'
        f"<small>{escape(action.message)} ({milliseconds(action.seconds)})</small></li>"
    )
