"""`python -m services.cli.demo.files DIR`: the demo's model and prompts as DIR/demo, for systems started elsewhere."""

import os
import secrets
import sys
from pathlib import Path

from services.cli.demo.model import demo_model


def main() -> None:
    """Make what is missing; DIR/demo is a link to the finished model, never to half of one."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python -m services.cli.demo.files DIR\n\n{__doc__}")
    folder = Path(sys.argv[1])
    try:
        made = demo_model(folder)
        link = folder / f".demo.{secrets.token_hex(4)}"
        link.symlink_to(made.directory.name)
        os.replace(link, folder / "demo")
    except OSError as error:
        sys.exit(f"cannot write the demo's model below {folder}: {error}")
    print(f"the demo's model is {folder / 'demo'}, its prompts {folder / 'demo' / made.prompts.name}")


if __name__ == "__main__":
    main()
