#!/opt/bridge/bin/python
"""Health check: exits 0 while this container's worker beats in Redis, where Sidekiq's Busy page sees it too.

`celery inspect ping` would say the same for two seconds of CPU. Not for a check that restarts what fails:
Redis may be what is away.
"""

import os
import socket
import sys
import time
from typing import Any

import redis

# The worker beats every 5 seconds.
OLDEST_BEAT_SECONDS = 20

client: Any = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=3, decode_responses=True)
mine = [name for name in client.smembers("processes") if name.startswith(f"{socket.gethostname()}:")]
beats = [float(client.hget(name, "beat") or 0) for name in mine]
sys.exit(
    0 if max(beats, default=0) > time.time() - OLDEST_BEAT_SECONDS else "no beat of this container's worker"
)
