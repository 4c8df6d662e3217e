"""What is shipped for Prometheus, Grafana, Nagios and Icinga fits the check, as do the READMEs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from tables import write

from dbbasic_queue.cli import health as cli_health
from dbbasic_queue.health.formats import nagios
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.measures import METRICS, RANGED

PACKAGING = Path(__file__).parents[2] / "packaging"
PROMETHEUS = PACKAGING / "prometheus"
NAGIOS = PACKAGING / "nagios"
ROW = re.compile(r"^\| (.+?) \|$", re.MULTILINE)


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its two first rows."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")] for row in ROW.findall(section)[1:]]
    return [row for row in rows if not row[0].startswith("-")]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bdbq_\w+", expression))


METRIC_NAMES = {measure.metric for measure in METRICS}


def test_the_readme_names_every_metric_with_its_help() -> None:
    """The table of metrics is the list in the code, in its order and words."""
    rows = table((PROMETHEUS / "README.md").read_text(), "Metrics")
    assert [(row[0].strip("`"), row[1]) for row in rows] == [(it.metric, it.help) for it in METRICS]


def test_the_readme_names_every_alert_with_its_severity() -> None:
    """The table of alerts is that of the rules, in their order."""
    rules = (PROMETHEUS / "dbq-alerts.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", rules, re.DOTALL)
    rows = table((PROMETHEUS / "README.md").read_text(), "Alerts")
    assert [(row[0].strip("`"), row[1]) for row in rows] == alerts
    tested = (PROMETHEUS / "dbq-alerts.test.yml").read_text()
    for name, _ in alerts:
        assert re.search(rf"alertname: {name}\n +exp_alerts:\n", tested), f"no test fires {name}"


def test_the_rules_use_metrics_that_are_there() -> None:
    """An alert on a metric that is not written would never fire."""
    rules = (PROMETHEUS / "dbq-alerts.yml").read_text()
    expressions = re.findall(r"expr: (.*)", rules)
    assert len(expressions) == rules.count("- alert:")
    for expression in expressions:
        assert names_in(expression)
        assert names_in(expression) <= METRIC_NAMES


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PROMETHEUS / "dbq-dashboard.json").read_text())
    return loaded


def test_the_dashboard_shows_every_metric() -> None:
    """Each query asks for metrics that are there, of the instances and queues that were chosen."""
    shown: set[str] = set()
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            names = names_in(target["expr"])
            assert names <= METRIC_NAMES, panel["title"]
            assert target["expr"].count('{instance=~"$instance",queue=~"$queue"') == len(names)
            shown |= names
    assert shown == METRIC_NAMES


def test_the_dashboard_s_panels_stand_side_by_side() -> None:
    """No two panels lie on one another or reach beyond the 24 columns; each says what it shows."""
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        columns, lines = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        cells = {(x, y) for x in columns for y in lines}
        assert not cells & taken, panel["title"]
        assert max(columns) < 24
        assert panel["description"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_dashboard_works_with_any_data_source() -> None:
    """No data source of the machine where it was made is left in it."""
    sources = re.findall(r'"uid": "(\$\{datasource\}|[^"]*)"', json.dumps(dashboard()))
    assert set(sources) == {"${datasource}", "dbbasic-queue"}
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "instance", "queue"}


def test_the_commands_for_nagios_are_ones_that_the_plugin_takes() -> None:
    """Every command line, with its arguments filled in, is one that check_dbq understands."""
    commands = (NAGIOS / "dbq-command.cfg").read_text()
    lines = dict(re.findall(r"command_name +(\S+)\n +command_line +(.*)", commands))
    services = (NAGIOS / "dbq-service.cfg").read_text()
    used = re.findall(r"check_command +(.*)", services)
    assert {call.split("!")[0] for call in used} == set(lines) == {"check_dbq", "check_dbq_file"}
    for call in used:
        name, *arguments = call.split("!")
        line = lines[name]
        for number, argument in enumerate([*arguments, ""][:2], 1):
            line = line.replace(f"$ARG{number}$", argument)
        plugin, *words = shlex.split(line)
        assert plugin == "$USER1$/check_dbq"
        cli_health._parser().parse_args(words)


def test_the_command_for_icinga_has_every_option() -> None:
    """Each option that Icinga may pass is one of the plugin's, and no threshold is left out."""
    options = set(
        re.findall(r'^    "(--[a-z-]+)"', (NAGIOS / "dbq-icinga2.conf").read_text(), re.M)
    )
    known = set(cli_health._parser()._option_string_actions)
    assert options <= known
    levels = ("warning", "critical")
    assert {f"--{name}-{level}" for name in RANGED for level in levels} <= options
    assert {option for option in known if option.endswith(("-after", "-within"))} <= options


def test_the_readme_names_all_performance_data(path: Path) -> None:
    """The table of labels is what the plugin writes."""
    write(path)
    path.with_suffix(".claims").touch()
    rows = table((NAGIOS / "README.md").read_text(), "Performance data")
    told = [label for row in rows for label in re.findall(r"`(\w+)`", row[0])]
    written = re.findall(r"'(\w+)'=\d+(s|B|);", nagios(check_health(path)))
    assert sorted(told) == sorted(label for label, _ in written)
    units = dict(written)
    assert all(units[row[0].strip("`")] == row[1] for row in rows if "," not in row[0])
