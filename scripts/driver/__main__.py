"""The demo, under ComfyUI's Python. scripts/demo.py prepares and calls it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from preparation.errors import PreparationError
from preparation.installation import HOST_FOLDER
from preparation.timeline import Timeline

from . import quick_start
from .base_folder import BaseFolder
from .client import ComfyUIClient, ServerGone
from .progress_lines import ProgressLines
from .server import ComfyUIServer


def run_demo(options: argparse.Namespace, timeline: Timeline) -> None:
    base = BaseFolder.make(HOST_FOLDER / "demo")
    server = ComfyUIServer(Path(os.environ["COMFYUI_PATH"]), base, options.comfyui_port, options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    timeline.say("Building the checkpoint and placing the concept's pictures")
    quick_start.fill_base_folder(base)
    timeline.say("Starting ComfyUI")
    with server:
        timeline.say(f"ComfyUI answers at http://{server.address}; running {quick_start.WORKFLOW.stem}")
        files = run_workflow(server)
        timeline.say("Done. The files made:")
        print(files.report(), flush=True)
        if options.keep_server:
            timeline.say(f"Look at http://{server.address} (Templates > core-personalization). Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def run_workflow(server: ComfyUIServer) -> quick_start.QuickStartFiles:
    client = ComfyUIClient(server.address)
    workflow = quick_start.template(client)
    quick_start.allow_overwrite(workflow)
    try:
        execution = client.submit(workflow, ProgressLines(workflow, sys.stdout))
    except ServerGone as error:
        raise server.failure(str(error)) from error
    return quick_start.collect_files(workflow, execution, server.base, server.output)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--comfyui-port", type=int, default=0)
    parser.add_argument("--keep-server", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    # As Ctrl-C: whoever ends the demo, its server ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_demo(options, Timeline())
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped, and ComfyUI with it.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
