"""A judge that the oracle calls: `python examples/judges/push_judge.py 9000`. It prefers the shorter response."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps, loads
from typing import Any

IDENTITY = {"id": "shorter", "revision": "1"}  # change the revision when the answers would change


class Judge(BaseHTTPRequestHandler):
    """Answers POST /v1/judgments; a request without items asks who the judge is."""

    def do_POST(self) -> None:
        """P(first beats second) for every pair of every item."""
        request = loads(self.rfile.read(int(self.headers["content-length"])))
        results = [self.result(item, *pair) for item in request["items"] for pair in item["pairs"]]
        body = dumps({"judge": IDENTITY, "results": results}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
        length = {response["id"]: len(response["content"]) for response in item["responses"]}
        p = 0.5 if length[first] == length[second] else 0.9 if length[first] < length[second] else 0.1
        return {"item_id": item["id"], "pair": [first, second], "status": "ok", "p": p}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Judge).serve_forever()
