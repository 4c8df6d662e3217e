"""The measured part of docs/performance.md: on what machine, beside the targets and the peers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .adapters import ENGINES
from .figures import Figure, micro, milli, short, spread

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
CLASSES = ((True, "Synced each step"), (False, "Not synced"))
OPERATIONS = {"put": "enqueue", "work": "take + finish"}


def write(page: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the two marks; raises `ValueError` when they are not there."""
    before = page.read_text()
    block = f"{BEGIN}\n{text(results)}\n{END}"
    after, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda match: block, before, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{page}: must have {BEGIN} and {END} once each, has {count} pairs")
    page.write_text(after)


def text(results: dict[str, Any]) -> str:
    """The whole block, in Markdown."""
    parts = [
        _preface(results),
        _targets(results["targets"]),
        *(_matrix(results, synced, title) for synced, title in CLASSES),
        _notes(results),
        _others(results),
        growth(results["growth"]) if "growth" in results else "",
        control(results["control"]) if "control" in results else "",
        _verdict(results),
    ]
    return "\n\n".join(part for part in parts if part)


def growth(found: dict[str, Any]) -> str:
    """What growth.py has measured."""
    kinds = {
        "look_up": ("`get_job`, any job, µs", micro),
        "new_key": ("a new key (`job_id=`), ms", milli),
        "cold": ("a cold worker's first job, ms", milli),
        "turn": ("take + finish, µs", micro),
    }
    head = ["rows", *(title for title, _ in kinds.values())]
    rows = [
        [f"{int(size):,}", *(spread(unit(each[name])) for name, (_, unit) in kinds.items())]
        for size, each in found.items()
    ]
    return f"### As the table grows\n\n{table(head, rows)}"


def control(found: dict[str, Figure]) -> str:
    """What policies.py has measured."""
    first, *others = found.items()
    plain = first[1]["median"]
    rows = [[first[0], spread(micro(first[1])), "–"]]
    rows += [
        [name, spread(micro(each)), f"{(each['median'] - plain) * 1e6:+.1f}"]
        for name, each in others
    ]
    head = ("finish one and claim the next, in memory", "processor time, µs", "more than the first")
    return f"### What control costs\n\n{table(head, rows)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _preface(results: dict[str, Any]) -> str:
    machine, pace = results["machine"], results["targets"]["pace"]["seconds"]
    return (
        f"Measured on {machine['date']} by `make bench` in {results['seconds'] / 60:.0f} minutes:"
        f" {machine['cores']} cores ({machine['processor']}), {machine['kernel']},"
        f" {machine['file system']}, Python {machine['Python']}, SQLite {machine['SQLite']};"
        f" {machine['packages']}. Load before: {machine['load']}. The engines take"
        f" turns; median (least–most) of {results['rounds']} rounds ({pace['rounds']} of the"
        f" figures with a target). A loop of Python took {spread(milli(pace))} ms meanwhile: so"
        " steady was the machine."
    )


def _targets(found: dict[str, Any]) -> str:
    head = ("ours, with the target", "target", "measured")
    rows = (_enqueue_rows, _take_rows, _least_rows, _other_rows)
    return table(head, [row for part in rows for row in part(found)])


def _us(found: Figure) -> str:
    return f"{spread(micro(found))} µs"


def _enqueue_rows(found: dict[str, Any]) -> Iterator[Sequence[str]]:
    for rows in ("0", "100000"):
        seconds = found[f"enqueue_normal/{rows}"]["seconds"]
        yield f"enqueue, normal, at {int(rows):,} rows", "≤ 15 µs", _us(seconds)
    for rows in ("0", "100000"):
        yield _full_row(
            f"enqueue, full, at {int(rows):,} rows",
            "≤ 1.4 × lock + append + fdatasync alone",
            found[f"enqueue_full/{rows}"],
        )


def _full_row(name: str, target: str, kinds: dict[str, Figure]) -> Sequence[str]:
    ratio, took = spread(kinds["ratio"]), _us(kinds["seconds"])
    return name, target, f"{ratio} ×; {took}, alone {_us(kinds['alone'])}"


def _take_rows(found: dict[str, Any]) -> Iterator[Sequence[str]]:
    name = "finish one and claim the next"
    few, many = found["take_normal/1000"]["seconds"], found["take_normal/100000"]["seconds"]
    yield f"{name}, normal, at 1,000 rows", "≤ 40 µs", _us(few)
    growth = f"{_us(many)}, {many['median'] / few['median']:.2f} ×"
    yield f"{name}, normal, at 100,000 rows", "≤ 1.3 × that at 1,000", growth
    for rows in ("1000", "100000"):
        yield _full_row(
            f"{name}, full, at {int(rows):,} rows",
            "≤ 1.5 × fdatasync alone",
            found[f"take_full/{rows}"],
        )


def _least_rows(found: dict[str, Any]) -> Iterator[Sequence[str]]:
    """What no queue of this design can go below: least.py."""
    name = "the system calls of an enqueue in one function, unchecked, normal"
    yield name, "–", _us(found["least_enqueue/0"]["seconds"])
    name = "those of finish and claim in one function, unchecked"
    yield f"{name}, normal", "–", _us(found["least_normal/0"]["seconds"])
    yield _full_row(f"{name}, full", "–", found["least_full/0"])


def _other_rows(found: dict[str, Any]) -> Iterator[Sequence[str]]:
    yield (
        "`enqueue_many`, normal",
        "≥ 150,000 jobs/s",
        f"{spread(found['enqueue_many/0']['rate'])} jobs/s",
    )
    worst = found["get_unknown/100000"]["worst"]
    usual = found["get_unknown/100000"]["seconds"]
    yield (
        "`get_job` of an unknown id at 100,000 rows",
        "≤ 8 ms",
        f"{spread(milli(usual))} ms; worst of a round {spread(milli(worst))} ms",
    )
    cold = found["cold"]
    worker, alone = cold["worker"], cold["tsv"]
    yield (
        "cold `dbq work` on an empty queue",
        "≤ 100 ms, ≤ 2.5 × importing dbbasic.tsv",
        f"{spread(milli(worker))} ms, {worker['median'] / alone['median']:.2f} × (least"
        f" {worker['low'] / alone['low']:.2f} ×); importing {spread(milli(alone))} ms,"
        f" of which Python itself {spread(milli(cold['python']))} ms",
    )
    memory = found["memory"]
    yield (
        f"memory of a worker with {memory['rows']:,} pending",
        "≤ 250 bytes a job above its base",
        f"{memory['a_job']:.0f} bytes a job; base {memory['base'] / 1e6:.0f} MB",
    )


def _matrix(results: dict[str, Any], synced: bool, title: str) -> str:
    """Engines by backlog and number of processes, in microseconds a job."""
    backlogs = sorted({row["backlog"] for row in results["backlogs"]["costs"]})
    wide = [
        b for b in backlogs if any(r["backlog"] == b and r["processes"] > 1 for r in _rows(results))
    ]
    engines = [name for name, engine in ENGINES.items() if engine.synced == synced]
    parts = []
    for operation, words in OPERATIONS.items():
        columns = [(backlog, count) for count in (1, 4) for backlog in wide]
        who = "producers" if operation == "put" else "workers"
        head = [f"{title}: {words}, µs a job"]
        head += [f"{backlog:,} waiting, {n} {who if n > 1 else who[:-1]}" for backlog, n in columns]
        rows = [
            [ENGINES[engine].name]
            + [_cell(results, engine, operation, backlog, count) for backlog, count in columns]
            for engine in engines
        ]
        parts.append(table(head, rows))
    sync = results["targets"]["take_full/1000"]["alone"]
    if synced:
        parts.append(f"`fdatasync` alone in the same run: {_us(sync)}.")
    return "\n\n".join(parts)


def _rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = results["backlogs"]["costs"]
    return rows


def _find(
    results: dict[str, Any], engine: str, operation: str, backlog: int, processes: int
) -> dict[str, Any] | None:
    wanted = engine, operation, backlog, processes
    for row in _rows(results):
        if (row["engine"], row["operation"], row["backlog"], row["processes"]) == wanted:
            return row
    return None


def _cell(results: dict[str, Any], engine: str, operation: str, backlog: int, count: int) -> str:
    row = _find(results, engine, operation, backlog, count)
    if row is None:
        unsafe = count > 1 and operation == "work" and ENGINES[engine].one_worker
        return "unsafe" if unsafe else "–"
    if row["seconds"] is None:
        return "none done"
    repeated = f", {row['repeats']} run twice" if row["repeats"] else ""
    return spread(micro(row["seconds"])) + repeated


def _notes(results: dict[str, Any]) -> str:
    """Who could not bear what, and what cannot be compared."""
    lines = [
        f"- {ENGINES[note['engine']].name} at {note['backlog']:,}: {_portable(note['note'])}."
        for note in results["backlogs"]["notes"]
    ]
    lines += [
        f"- {engine.name}: {engine.one_worker}." for engine in ENGINES.values() if engine.one_worker
    ]
    return "\n".join(lines)


def _portable(note: str) -> str:
    """A peer's own words without the folders of this machine."""
    return re.sub(r"/\S*/", "", note)


def _others(results: dict[str, Any]) -> str:
    small, pick_up = results["small"], results["pick_up"]
    backlog = str(small["rows"])
    head = (
        "",
        "pick-up, ms (p50, p99)",
        f"look the youngest job up among {small['rows']:,}, ms",
        "worker's cold start, ms",
        f"worker's memory, MB (empty, {small['rows']:,} waiting)",
        "bytes on disk a job",
        f"opening to first handler, {small['rows']:,} waiting, ms",
    )
    rows = []
    for name, engine in ENGINES.items():
        late, found = pick_up.get(name), small["find"].get(name)
        at_work = _find(results, name, "work", small["rows"], 1)
        size = results["backlogs"]["sizes"].get(backlog, {}).get(name)
        peak = small["peak"][name]["median"]
        rows.append(
            (
                engine.name,
                f"{short(late['p50'] * 1e3)}, {short(late['p99'] * 1e3)}" if late else "–",
                spread(milli(found)) if found else "–",
                spread(milli(small["cold"][name])),
                f"{peak / 1e6:.0f}, " + (f"{at_work['peak'] / 1e6:.0f}" if at_work else "–"),
                f"{size:.0f}" if size else "–",
                short(at_work["opening"] * 1e3) if at_work else "–",
            )
        )
    return table(head, rows)


def _verdict(results: dict[str, Any]) -> str:
    """Against the best peer, cell by cell: where we are ahead, and where not."""
    lines = []
    for synced, title in CLASSES:
        ours = "ours-full" if synced else "ours-normal"
        for operation, words in OPERATIONS.items():
            rivals = [n for n in PEERS if ENGINES[n].synced == synced]
            against = list(_ratios(results, ours, rivals, operation))
            lines.append(_line(f"{title}, {words}", against, "the best peer"))
    for operation, words in OPERATIONS.items():
        against = list(_ratios(results, "ours-normal", ["released"], operation))
        lines.append(_line(f"Not synced, {words}", against, "1.0.0"))
    lines += _growth(results)
    lines += _behind_elsewhere(results)
    return "Where we stand, by the medians above:\n\n" + "\n".join(lines)


def _growth(results: dict[str, Any]) -> Iterator[str]:
    """What a job costs us in the smallest table and in the largest of the curve."""
    backlogs = sorted({row["backlog"] for row in _rows(results) if row["backlog"]})
    if len(backlogs) < 2:
        return
    small, large = backlogs[0], backlogs[-1]
    for ours in ("ours-normal", "ours-full"):
        parts = []
        for operation, words in OPERATIONS.items():
            cells = (_cell(results, ours, operation, rows, 1) for rows in (small, large))
            before, after = (cell.split(" (")[0] for cell in cells)  # without the spread
            parts.append(f"{words} {before} and {after} µs")
        yield f"- {ENGINES[ours].name}, {small:,} and {large:,} waiting: {', '.join(parts)}."


PEERS = [name for name in ENGINES if not name.startswith("ours") and name != "released"]


def _line(what: str, ratios: list[tuple[float, str]], whom: str) -> str:
    if not ratios:
        return f"- {what}: nothing to compare with {whom}."
    line = f"- {what}: {short(min(ratios)[0])} to {short(max(ratios)[0])} × as fast as {whom}"
    behind = [f"{where} ({ratio:.2f} ×)" for ratio, where in ratios if ratio < 1]
    return line + ("; **behind** " + ", ".join(behind) if behind else "") + "."


def _behind_elsewhere(results: dict[str, Any]) -> Iterator[str]:
    """What else a peer does faster: each kind of figure, with theirs and ours."""
    small, sizes = results["small"], results["backlogs"]["sizes"][str(results["small"]["rows"])]
    medians = {
        "looking the youngest job up": (
            {n: f["median"] * 1e3 for n, f in small["find"].items()},
            "ms",
        ),
        "a worker's cold start": ({n: f["median"] * 1e3 for n, f in small["cold"].items()}, "ms"),
        "pick-up (p50)": ({n: f["p50"] * 1e3 for n, f in results["pick_up"].items()}, "ms"),
        "bytes on disk a job": (sizes, ""),
    }
    for what, (found, unit) in medians.items():
        mine = min(value for name, value in found.items() if name.startswith("ours"))
        ahead = [
            f"{ENGINES[name].name} ({short(found[name])} {unit}".rstrip() + ")"
            for name in PEERS
            if name in found and found[name] < mine
        ]
        if ahead:
            ours = f"{short(mine)} {unit}".rstrip()
            yield f"- Of {what}, **ahead of us** (we: {ours}): {', '.join(ahead)}."


def _ratios(
    results: dict[str, Any], ours: str, rivals: list[str], operation: str
) -> Iterator[tuple[float, str]]:
    """How many times as fast as the best of the rivals, at each backlog that one of them bore."""
    for row in _rows(results):
        if (row["engine"], row["operation"]) != (ours, operation) or not row["seconds"]:
            continue
        backlog, count = row["backlog"], row["processes"]
        others = [_find(results, name, operation, backlog, count) for name in rivals]
        known = [
            (other["seconds"]["median"], ENGINES[other["engine"]].name)
            for other in others
            if other and other["seconds"]
        ]
        if known:
            best, name = min(known)
            where = f"{name} at {backlog:,} with {count} process{'es' if count > 1 else ''}"
            yield best / row["seconds"]["median"], where
