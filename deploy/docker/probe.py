#!/usr/bin/python3 -IS
"""Health check of an image that has Python and no curl: `probe 9394 /health/ready` exits 0 on a 200."""

import http.client
import sys

port, path = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=4)
connection.request("GET", path)
reply = connection.getresponse()
# Docker shows this line as the output of the check.
print(reply.status, reply.read(500).decode(errors="replace").strip())
sys.exit(0 if reply.status == 200 else 1)
