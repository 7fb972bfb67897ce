"""The settings: the only reader of the environment and of YAML."""

from bridge.settings.loading import load
from bridge.settings.model import DEFAULT_REDIS_URL, Settings
from bridge.settings.redis_url import Address, RedisUrl

__all__ = ["DEFAULT_REDIS_URL", "Address", "RedisUrl", "Settings", "load"]
