"""A stand-in for the one call of AWS STS that web identities make. Usage: sts.py PORT, with TOKEN, ACCESS and SECRET in the environment.

Whoever shows TOKEN gets ACCESS and SECRET as credentials of an hour, anyone else 403. They come without a session token:
versitygw knows none and refuses what it does not know.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

ANSWER = """\
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken></SessionToken><Expiration>{end}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = parse_qs(body) | parse_qs(urlsplit(self.path).query)
        print(asked.get("Action"), flush=True)
        if asked.get("Action") != ["AssumeRoleWithWebIdentity"] or asked.get("WebIdentityToken") != [
            os.environ["TOKEN"]
        ]:
            self._answer(403, "")
            return
        end = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        self._answer(200, ANSWER.format(access=os.environ["ACCESS"], secret=os.environ["SECRET"], end=end))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
