"""`python -m tests.support.stub_service [orphan FILE]`: the least that the launcher takes for a service.

Answers 200 on `/readyz` at INPO_PORT where that is set. With `orphan` it starts a process that ignores SIGTERM and
writes its pid to FILE, as an engine's workers might. With `crash` it says why and ends.
"""

import http.server
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    match sys.argv[1:]:
        case ["crash", reason]:
            sys.exit(reason)
        case ["orphan", path]:
            _start_orphan(Path(path))
        case _:
            pass
    port = os.environ.get("INPO_PORT")
    if port is None:
        threading.Event().wait()
    else:
        http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), _Ready).serve_forever()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _start_orphan(path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    orphan = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)
    assert orphan.stdout is not None
    orphan.stdout.readline()
    path.write_text(str(orphan.pid))


if __name__ == "__main__":
    main()
