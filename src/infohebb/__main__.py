"""`python -m infohebb` is `infohebb`."""

from infohebb.cli import main

main()
