"""The console script ``wavemix``, also where only the network's own packages are installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it needs to be installed."""
    try:
        from pipeline.core.process import start_and_end_quickly

        start_and_end_quickly()
        from pipeline.cli.parser import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("pipeline", "stages", "wavemix"):
            raise
        sys.exit(
            f"wavemix: {error.name} is not installed, only the network is: "
            "run `pip install 'wavemix-lite-pipeline[pipeline]'`, or `uv sync` in a checkout"
        )
    run()


if __name__ == "__main__":
    main()
