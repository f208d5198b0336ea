# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Schedule triggers: fire times shown, events sent, fires missed while the engine was down, time zones."""

import datetime
import time
import zoneinfo

import pytest

from harness import until

SOURCE = """
def handler(ctx, event):
    tick = event.as_schedule_event()
    ctx.tables["{table}"].upsert(
        {{"id": event.id, "cron": tick.cron_schedule, "at": str(tick.timer_elapsed_timestamp), "type": event.type,
          "colour": event.extensions.get("colour", "")}}, key=["id"])
"""


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(datetime.timezone.utc)


def ticks(engine, table: str) -> list[datetime.datetime]:
    return sorted(utc(value) for value in engine.column(table, '"at"'))


def deploy(engine, name: str, *options: str) -> None:
    engine.function(name, SOURCE.format(table=name))
    engine.cli("triggers", "create", "schedule", "-n", name, *options)
    engine.pipeline(
        name, {name + "-f": {"function_vrn": name}}, [{"source": name, "destination": name + "-f"}], triggers=[name]
    )


def test_a_schedule_fires_every_second_once(shared):
    deploy(shared, "second", "--cron-schedule", "* * * * * ?", "--custom-extension", "colour=red")
    until(lambda: len(ticks(shared, "second")) >= 4, "four fires", 10)
    found = ticks(shared, "second")
    assert [(after - before).total_seconds() for before, after in zip(found, found[1:])] == [1.0] * (len(found) - 1)
    assert all(moment.microsecond == 0 for moment in found)
    # Seven fields, as the reference has them.
    assert set(shared.column("second", "cron")) == {"* * * ? * * *"}
    assert set(shared.column("second", "colour")) == {"red"}
    assert set(shared.column("second", "type")) == {"Schedule"}
    shared.cli("pipelines", "delete", "second", "--force")
    shared.cli("triggers", "delete", "second", "--force")


@pytest.mark.parametrize(
    ("cron", "zone", "wanted"),
    [
        ("*/15 * * * *", "UTC", lambda t: t.minute % 15 == 0 and t.second == 0),
        ("30 0 12 * * ?", "Europe/Zurich", lambda t: (t.hour, t.minute, t.second) == (12, 0, 30)),
        ("0 0 9 LW * ?", "America/New_York", lambda t: t.hour == 9 and t.weekday() < 5 and t.day >= 26),
        ("0 30 8 ? * 6#3", "Asia/Kolkata", lambda t: t.hour == 8 and t.weekday() == 4 and 15 <= t.day <= 21),
        ("0 0 0 29 2 ? 2028-2060", "UTC", lambda t: (t.month, t.day) == (2, 29) and t.year >= 2028),
    ],
)  # fmt: skip
def test_the_next_ten_fire_times_are_shown(shared, cron, zone, wanted):
    name = f"shown{abs(hash((cron, zone)))}"
    shared.cli("triggers", "create", "schedule", "-n", name, "--cron-schedule", cron, "--time-zone", zone)
    times = [utc(value) for value in shared.get(f"triggers/{name}/fire-times?count=10")["data"]]
    count = 9 if "2028-2060" in cron else 10
    assert (
        len(times) == count and times == sorted(set(times)) and times[0] > datetime.datetime.now(datetime.timezone.utc)
    )
    for moment in times:
        assert wanted(moment.astimezone(zoneinfo.ZoneInfo(zone))), moment
    shown = shared.cli("triggers", "get", name)
    assert all(
        moment.strftime("%Y-%m-%d") in shown or moment.astimezone(zoneinfo.ZoneInfo(zone)).strftime("%Y-%m-%d") in shown
        for moment in times
    )
    shared.cli("triggers", "delete", name, "--force")


@pytest.mark.parametrize(("rule", "wanted"), [("skip", 0), ("once", 1), ("all", None)])
def test_fires_missed_while_the_engine_was_down(make_engine, rule, wanted):
    engine = make_engine()
    engine.start()
    deploy(engine, "missed", "--cron-schedule", "*/1 * * * * ?", "--missed-fires", rule)
    until(lambda: len(ticks(engine, "missed")) >= 2, "two fires", 10)
    engine.kill()
    down = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(3.5)  # The clock is what is tested.
    up = datetime.datetime.now(datetime.timezone.utc)
    engine.start()
    until(
        lambda: len([t for t in ticks(engine, "missed") if t > up + datetime.timedelta(seconds=1.5)]) >= 2,
        "fires afterwards",
        15,
    )
    found = ticks(engine, "missed")
    assert len(found) == len(set(found)), "a fire was repeated"
    between = [t for t in found if down + datetime.timedelta(seconds=0.5) < t <= up - datetime.timedelta(seconds=0.5)]
    if wanted is None:
        span = [(after - before).total_seconds() for before, after in zip(found, found[1:])]
        assert set(span) == {1.0}, span
    elif wanted == 0:
        assert between == []
    else:
        assert len(between) <= 1 and len([t for t in found if t > down]) >= 1
    assert engine.items("dead-letters") == []
