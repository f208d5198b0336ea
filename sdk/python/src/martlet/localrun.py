# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`python -m martlet.localrun`: serves a function on loopback without an engine."""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile

from . import tables
from .errors import LoadError


def main(arguments=None):
    """Reads the configuration, then serves until interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m martlet.localrun", description=__doc__)
    parser.add_argument("--app-path", default=".", help="folder of the function's code (.)")
    parser.add_argument("--handler", default="main.py", help="handler file (main.py)")
    parser.add_argument("--config", default="config.yaml", help="file with `envs` and `secrets` (config.yaml)")
    parser.add_argument("--no-config", action="store_true", help="read no configuration file")
    parser.add_argument("--port", type=int, default=8080, help="loopback port, 0 for any free one (8080)")
    parser.add_argument("--log-level", default=None, help="NOTSET DEBUG INFO WARNING ERROR CRITICAL (INFO)")
    options = parser.parse_args(arguments)
    folder = None
    try:
        envs, secrets = {}, {}
        if not options.no_config:
            envs, secrets = read_config(os.environ.get("MARTLET_LOCALRUN_CONFIG"), options.config)
        os.environ.update(envs)
        if secrets:
            folder = write_secrets(secrets)
            os.environ["MARTLET_SECRETS_DIR"] = folder
        return _serve(options)
    except LoadError as error:
        sys.stderr.write("localrun: %s\n" % error)
        return 3
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _serve(options):
    from .worker import Settings, Worker

    os.environ["MARTLET_APP_PATH"] = options.app_path
    os.environ["MARTLET_HANDLER"] = options.handler
    os.environ["MARTLET_WORKER_PORT"] = str(options.port)
    os.environ["IS_TEST_CONTAINER"] = os.environ.get("IS_TEST_CONTAINER", "true")
    if options.log_level:
        os.environ["VAST_LOG_LEVEL"] = options.log_level
    settings = Settings()
    settings.socket = None
    name = os.path.basename(os.path.abspath(options.app_path)) or "function"
    settings.function.setdefault("function_name", os.environ.get("K_NAME") or name)
    sink = None if settings.gateway else tables.MemorySink(lambda line: print(line))
    worker = Worker(settings, echo=True, event_log_level=logging.INFO, table_sink=sink)
    logging.getLogger("martlet.runtime").setLevel(logging.NOTSET)
    banner = logging.getLogger("martlet.runtime")
    worker.capture.install()
    banner.info("Starting VAST DataEngine Runtime")
    return worker.run()


def read_config(text, path):
    """Returns (envs, secrets) from JSON text, else from the YAML or JSON file; a missing file is only a warning."""
    source = "MARTLET_LOCALRUN_CONFIG"
    if text:
        try:
            config = json.loads(text)
        except ValueError as error:
            raise LoadError("runtime", "ValueError", "MARTLET_LOCALRUN_CONFIG is not JSON: %s" % error) from None
    else:
        source = path
        if not os.path.isfile(path):
            sys.stderr.write("localrun: there is no %s; the function gets no variables and no secrets\n" % path)
            return {}, {}
        config = _read_file(path)
    return _checked(config, source)


def _read_file(path):
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml
    except ImportError:
        raise LoadError(
            "runtime",
            "ImportError",
            "%s is YAML, and PyYAML is not installed: pip install PyYAML, write the file as JSON, "
            "or use `martlet functions localrun`" % path,
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LoadError("runtime", "YAMLError", "%s is not YAML: %s" % (path, error)) from None


def _checked(config, source):
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise LoadError("runtime", "ValueError", "%s must be a mapping with `envs` and `secrets`" % source)
    unknown = set(config) - {"envs", "secrets"}
    if unknown:
        raise LoadError(
            "runtime",
            "ValueError",
            "%s: unknown key %s; there are `envs` and `secrets`" % (source, sorted(map(str, unknown))[0]),
        )
    envs, secrets = config.get("envs") or {}, config.get("secrets") or {}
    if not isinstance(envs, dict) or not isinstance(secrets, dict):
        raise LoadError("runtime", "ValueError", "%s: `envs` and `secrets` must be mappings" % source)
    done = {}
    for name, entries in secrets.items():
        if not isinstance(entries, dict):
            raise LoadError(
                "runtime", "ValueError", "%s: secrets.%s must be a mapping of keys to values" % (source, name)
            )
        for part in (name, *entries):
            if not str(part) or "/" in str(part) or "\0" in str(part) or str(part) in (".", ".."):
                raise LoadError(
                    "runtime", "ValueError", "%s: secret name or key %r cannot be a file name" % (source, part)
                )
        done[str(name)] = {str(key): _text(value) for key, value in entries.items()}
    return {str(key): _text(value) for key, value in envs.items()}, done


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def write_secrets(secrets):
    """Writes `<secret>/<key>` files into a new private folder and returns it."""
    folder = tempfile.mkdtemp(prefix="martlet-secrets-")
    for name, entries in secrets.items():
        os.mkdir(os.path.join(folder, name), 0o700)
        for key, value in entries.items():
            descriptor = os.open(os.path.join(folder, name, key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
                stream.write(value)
    return folder


def run():
    """Entry point of the `martlet-localrun` command."""
    from .worker import leave

    leave(main())


if __name__ == "__main__":
    run()
