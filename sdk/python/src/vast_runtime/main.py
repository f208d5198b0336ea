# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`python -m vast_runtime.main --app-path /workspace --handler main.py`: the worker under the reference's name."""

import argparse
import os

from martlet import worker


def main(arguments=None):
    """Runs as the engine's worker when its environment says so, else serves on `--port` like `martlet.localrun`."""
    parser = argparse.ArgumentParser(prog="python -m vast_runtime.main", description=__doc__)
    parser.add_argument("--app-path", default=os.environ.get("MARTLET_APP_PATH", "/workspace"))
    parser.add_argument("--handler", default=os.environ.get("MARTLET_HANDLER", "main.py"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080))
    options = parser.parse_args(arguments)
    if os.environ.get("MARTLET_WORKER_SOCKET") or os.environ.get("MARTLET_WORKER_PORT"):
        os.environ["MARTLET_APP_PATH"], os.environ["MARTLET_HANDLER"] = options.app_path, options.handler
        return worker.main()
    from martlet import localrun

    return localrun.main(
        ["--app-path", options.app_path, "--handler", options.handler, "--port", str(options.port), "--no-config"]
    )


if __name__ == "__main__":
    worker.leave(main())
