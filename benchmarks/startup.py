"""How long `infohebb --help` takes, and a bare start of Python beside it.

python benchmarks/startup.py [--json FILE]
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from timing import tell

HELP = "from infohebb.cli import main; main(['--help'])"


def seconds(code: str, runs: int = 9) -> float:
    """Best of several runs of a fresh Python."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    figures = {"infohebb --help (s)": seconds(HELP), "python -c pass (s)": seconds("pass")}
    tell(figures, {"infohebb --help (s)": "under 0.4"}, parser.parse_args().json)


if __name__ == "__main__":
    main()
