"""The figures as tables: what was measured, and what was expected."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from salus.bench.calibration import QUIET
from salus.bench.shapes import Shape

# Requests a second (or resources) that this release is expected to reach without authorization.
EXPECTED = {
    "import": 2_000,
    "read_32": 8_000,
    "create": 1_800,
    "crud_even": 2_500,
}
SLOWEST_SHAPE = 300
VOID = (
    "void: the load generator was at its limit, or others had more than 5 % of the machine; "
    "CPU ms a request is the steadier figure then"
)
SPEED = (
    "slower: how many times as long a fixed loop in Python and a fixed JSON decode took just "
    "before the phase as on one quiet core of 2.5 GHz "
    f"({QUIET.loop_ns:g} ns an iteration, {QUIET.decode_us:g} us); figures of unlike minutes "
    "cannot be compared, and no figure here is multiplied by it"
)
WIDTH = 140  # columns where no terminal tells its own
NAMED = (
    ("read, 1 client", "read_1"),
    ("read, 32 clients", "read_32"),
    ("search blend, 32 clients", "blend"),
    ("create, 32 clients", "create"),
    ("update, 32 clients", "update"),
    ("CRUD 10:60:25:5, 32 clients", "crud_mix"),
    ("CRUD 1:1:1:1, 32 clients", "crud_even"),
)


def report(figures: dict[str, Any], shapes: list[Shape], console: Console) -> None:
    """Print what bench.json holds."""
    if not console.is_terminal:
        console = Console(width=WIDTH)
    _machine(figures, console)
    _gate(figures, shapes, console)
    console.print(_phases(figures))
    console.print(_shapes(figures, shapes))
    console.print(VOID)
    console.print(SPEED)


def _machine(figures: dict[str, Any], console: Console) -> None:
    about, start = figures["machine"], figures["start"]
    table = Table("Measured", "", title=f"Salus bench: {figures['tier']}", show_header=False)
    loaded = figures["import"]
    rows = (
        ("processor", f"{about['processor']}, {figures['pinned']}"),
        ("authentication, audit", _guarded(figures)),
        ("kernel, Python", f"{about['kernel']}, {about['python']}"),
        ("file system, syncs a second", f"{about['filesystem']}, {about['syncs_a_second']:,}"),
        ("load average before", f"{about['load']:.2f}"),
        ("cold start", _with(start["cold_start_seconds"], "{:.2f} s")),
        ("idle memory", _with(start["idle_memory_mib"], "{:.0f} MiB")),
        (
            "import",
            f"{loaded['resources']:,} resources, {loaded['resources_a_second']:,.0f}/s, "
            f"{loaded['bundles_refused']} bundles refused, {loaded['entries_failed']} failed",
        ),
        ("disk a resource", _with(figures["disk_bytes_a_resource"], "{:,.0f} bytes")),
        (
            "disk a read's AuditEvent",
            _with(figures.get("disk_bytes_a_read_event"), "{:,.0f} bytes"),
        ),
        (
            "an AuditEvent in the engine",
            _with(figures.get("audit", {}).get("cpu_us_an_event"), "{:.1f} us")
            + ", "
            + _with(figures.get("audit", {}).get("bytes_an_event"), "{:,.0f} bytes"),
        ),
        ("memory at the end", _with(figures["memory_mib_at_end"], "{:.0f} MiB")),
    )
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def _guarded(figures: dict[str, Any]) -> str:
    """What the server did for every request beside answering it."""
    shown = "on: every request shows an access token" if figures["authenticated"] else "off"
    ours = "audit on: every request durably recorded" if "audit" in figures else "audit unknown"
    return f"{shown}; {ours}"


def _gate(figures: dict[str, Any], shapes: list[Shape], console: Console) -> None:
    gate = figures["gate"]
    timed = [each for each in shapes if each.timed]
    right = sum(gate["verdicts"][each.id]["judged"] == "right" for each in timed)
    console.print(
        f"[bold]Correctness gate: {right} of {len(timed)} timed shapes right, "
        f"{gate['wrong']} wrong[/]"
    )
    for shape in shapes:
        verdict = gate["verdicts"][shape.id]
        if verdict["judged"] != "right":
            colour = "red" if verdict["judged"] == "wrong" else "yellow"
            meaning = {"refused": "not offered", "unproven": "answered, not judged"}
            said = meaning.get(verdict["judged"], verdict["judged"])
            console.print(f"  [{colour}]{shape.id} {said}[/]: {verdict['why']}", highlight=False)


def _phases(figures: dict[str, Any]) -> Table:
    table = Table(
        "Phase",
        "per second",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU ms",
        "errors",
        "slower",
        "expected",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    loaded = figures["import"]
    table.add_row(
        "import, resources",
        f"{loaded['resources_a_second']:,.0f}",
        *("",) * 3,
        _with(loaded["cpu_ms_a_resource"], "{:.3f}"),
        f"{loaded['entries_failed']}",
        _slower(loaded),
        f"{EXPECTED['import']:,}",
    )
    for name, key in NAMED:
        each = figures[key]
        table.add_row(name, *_row(each), _with(EXPECTED.get(key), "{:,}", ""))
    return table


def _shapes(figures: dict[str, Any], shapes: list[Shape]) -> Table:
    table = Table(
        "Shape, 8 clients", "per second", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "errors", "slower"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for shape in shapes:
        if shape.id in figures["shapes"]:
            each = figures["shapes"][shape.id]
            slow = each["rate"] < SLOWEST_SHAPE
            name = f"{shape.id} {shape.url[:58]}"
            table.add_row(name, *_row(each), style="red" if slow else "")
    mean = _with(figures["shapes_geometric_mean"], "{:,.0f}")
    table.add_section()
    table.add_row("geometric mean", mean)
    return table


def _row(each: dict[str, Any]) -> list[str]:
    void = " void" if each["void"] else ""
    return [
        f"{each['rate']:,.0f}{void}",
        f"{each['p50']:.2f}",
        f"{each['p95']:.2f}",
        f"{each['p99']:.2f}",
        _with(each["cpu_ms"], "{:.3f}"),
        str(each["errors"]),
        _slower(each),
    ]


def _slower(each: dict[str, Any]) -> str:
    return f"{each['calibration']['factor']:.2f}x"


def _with(value: Any, form: str, absent: str = "not measured") -> str:
    return absent if value is None else form.format(value)
