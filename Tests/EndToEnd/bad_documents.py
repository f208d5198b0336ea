# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Documents that every door refuses, by what is wrong with them. {view} is a directory, {file} a file."""

from typing import NamedTuple

VIEW = "name: a\npath: {view}\n"
TRIGGER = "name: a\ntype: Element\nsource_bucket_name: v\nevents: ['ObjectCreated:*']\n"
SCHEDULE = "name: a\ntype: Schedule\ncron_schedule: '* * * * *'\n"
PIPELINE = """name: a
manifest:
  triggers:
    - {name: s, vrn: s}
  function_deployments:
    - {name: one, function_vrn: ok}
    - {name: two, function_vrn: ok}
  links:
    - {source: s, destination: one}
    - {source: one, destination: two}
"""
SECRET = "name: a\nentries:\n  - {key: user, value: me}\n"
TOPIC = "name: a\n"


class Case(NamedTuple):
    """What is refused, and how."""

    kind: str
    text: str
    exit_code: int
    status: int
    code: str
    field: str | None
    line: int | None
    texts: tuple[str, ...]


DOCUMENTS = {
    "unknown field of a view": Case(
        "views", VIEW + "colour: red\n", 4, 422, "invalid", "colour", 3, ("unknown field", "description")
    ),
    "misspelt field of a view": Case("views", "name: a\npaht: /tmp\n", 4, 422, "invalid", "paht", 2, ("path",)),
    "wrong type in a view": Case("views", "name: a\npath: [1, 2]\n", 4, 422, "invalid", "path", 2, ("list",)),
    "unknown field of a trigger": Case(
        "triggers", TRIGGER + "colour: red\n", 4, 422, "invalid", "colour", 5, ("unknown field",)
    ),
    "wrong type in a trigger": Case(
        "triggers", TRIGGER.replace("['ObjectCreated:*']", "{a: 1}"), 4, 422, "invalid", "events", 4, ()
    ),
    "unknown event": Case(
        "triggers",
        TRIGGER.replace("ObjectCreated", "ObjectEaten"),
        4,
        422,
        "invalid",
        "events",
        4,
        ("ObjectEaten", "ObjectCreated:*"),
    ),
    "bad cron": Case(
        "triggers",
        SCHEDULE.replace("* * * * *", "61 * * * *"),
        4,
        422,
        "invalid",
        "cron_schedule",
        3,
        ("61", "0 to 59"),
    ),
    "short cron": Case(
        "triggers", SCHEDULE.replace("* * * * *", "* * *"), 4, 422, "invalid", "cron_schedule", 3, ("fields",)
    ),
    "bad time zone": Case(
        "triggers", SCHEDULE + "time_zone: Mars/Base\n", 4, 422, "invalid", "time_zone", 4, ("Mars/Base", "Europe/")
    ),
    "unknown field of a pipeline": Case(
        "pipelines", PIPELINE + "colour: red\n", 4, 422, "invalid", "colour", 11, ("unknown field",)
    ),
    "unknown field of a link": Case(
        "pipelines",
        PIPELINE.replace("destination: two}", "destination: two, colour: red}"),
        4,
        422,
        "invalid",
        "colour",
        10,
        (),
    ),
    "wrong type in a pipeline": Case(
        "pipelines",
        PIPELINE.replace(
            "function_vrn: ok}\n  links", "function_vrn: ok, resources: {max_concurrency: lots}}\n  links"
        ),
        4,
        422,
        "invalid",
        "max_concurrency",
        7,
        ("lots",),
    ),
    "cycle": Case(
        "pipelines",
        PIPELINE + "    - {source: two, destination: one}\n",
        4,
        422,
        "invalid",
        "links",
        None,
        ("one → two → one",),
    ),
    "unknown instance": Case(
        "pipelines", PIPELINE.replace("source: one,", "source: uno,"), 4, 422, "invalid", "source", 10, ("uno", "one")
    ),
    "same instance twice": Case(
        "pipelines",
        PIPELINE.replace("name: two,", "name: one,"),
        4,
        422,
        "invalid",
        "function_deployments",
        None,
        ("one",),
    ),
    "not YAML": Case("pipelines", "name: a\nmanifest: [\n", 4, 400, "invalid", None, None, ("line",)),
    "repeated key": Case("views", VIEW + "name: b\n", 4, 400, "invalid", None, 3, ("name",)),
    "unknown field of a secret": Case("secrets", SECRET + "colour: red\n", 4, 422, "invalid", "colour", 4, ()),
    "wrong type in a secret": Case(
        "secrets", "name: a\nentries:\n  - {key: user, value: 123}\n", 4, 422, "invalid", "value", 3, ("quote",)
    ),
    "unknown field of a topic": Case("topics", TOPIC + "colour: red\n", 4, 422, "invalid", "colour", 2, ()),
    "wrong type in a topic": Case("topics", TOPIC + "partitions: many\n", 4, 422, "invalid", "partitions", 2, ()),
    "topic out of bounds": Case("topics", TOPIC + "partitions: 0\n", 4, 422, "invalid", "partitions", None, ("1",)),
    "unknown field of a function": Case(
        "functions", "name: a\nartifact_source: ok\ncolour: red\n", 4, 422, "invalid", "colour", 3, ()
    ),
    "wrong type in a function": Case(
        "functions", "name: a\nartifact_source: ok\npublish: perhaps\n", 4, 422, "invalid", "publish", 3, ()
    ),
    "bad name": Case("views", VIEW.replace("name: a", "name: a b/c"), 4, 422, "invalid", "name", None, ("letters",)),
    "view that exists": Case(
        "views", VIEW.replace("name: a", "name: v"), 7, 409, "alreadyExists", "name", None, ("'v'",)
    ),
    "trigger that exists": Case(
        "triggers", SCHEDULE.replace("name: a", "name: s"), 7, 409, "alreadyExists", "name", None, ("'s'",)
    ),
    "pipeline that exists": Case(
        "pipelines", PIPELINE.replace("name: a", "name: witness"), 7, 409, "alreadyExists", "name", None, ("'witness'",)
    ),
    "function that exists": Case(
        "functions", "name: ok\nartifact_source: ok\n", 7, 409, "alreadyExists", "name", None, ("'ok'",)
    ),
    "topic that exists": Case("topics", "name: s\n", 7, 409, "alreadyExists", "name", None, ("'s'",)),
    "unknown function": Case(
        "pipelines",
        PIPELINE.replace("function_vrn: ok", "function_vrn: nix"),
        3,
        404,
        "notFound",
        None,
        None,
        ("nix", "functions list"),
    ),
    "unknown trigger": Case(
        "pipelines", PIPELINE.replace("vrn: s}", "vrn: nix}"), 3, 404, "notFound", None, None, ("nix", "triggers list")
    ),
    "unknown view": Case(
        "triggers",
        TRIGGER.replace("source_bucket_name: v", "source_bucket_name: nix"),
        3,
        404,
        "notFound",
        None,
        None,
        ("nix",),
    ),
    "unknown bundle": Case(
        "functions",
        "name: a\nartifact_source: nix\n",
        7,
        409,
        "failedPrecondition",
        "artifact_source",
        None,
        ("nix", "functions build"),
    ),
    "view that is a file": Case("views", "name: a\npath: {file}\n", 4, 422, "invalid", "path", 2, ("not a directory",)),
    "view that is nowhere": Case(
        "views", "name: a\npath: {view}/nowhere\n", 4, 422, "invalid", "path", 2, ("No such file",)
    ),
}
