#!/usr/bin/python3 -S
"""Health check: exits 0 when Flower answers its own."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", 5555, timeout=4)
connection.request("GET", "/healthcheck")
sys.exit(connection.getresponse().status != 200)
