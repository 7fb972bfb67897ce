"""``python -m bridge``: the ``bridge`` command from a checkout."""

from bridge.cli import main

if __name__ == "__main__":
    main(prog_name="bridge")
