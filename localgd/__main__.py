"""``python -m localgd``, the same as the command ``localgd``."""

from localgd.cli import main

main()
