"""The user whom the sentinels know, if they ask for one of their own."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from bridge.redis.address import RedisAddress
from bridge.settings.ruby_side import RubySide


class SentinelUser(RubySide):
    """User and password of the sentinels; a part of ``Settings``. Those of the URL are for the master."""

    redis_sentinel_username: str | None = Field(
        None, description="User of the sentinels themselves, if they have ACLs.", examples=["bridge"]
    )
    redis_sentinel_password: SecretStr | None = Field(
        None,
        description="Password of the sentinels themselves; the one in the URL is for the master.",
        examples=["(a password)"],
    )
    redis_sentinel_password_file: Path | None = Field(
        None,
        description="File that holds this password, instead of the password.",
        examples=["/run/secrets/sentinel_password"],
    )

    def with_sentinel_user(self, address: RedisAddress) -> RedisAddress:
        """The address, with this user."""
        secret = self.redis_sentinel_password
        password = None if secret is None else secret.get_secret_value()
        return address.but(sentinel_username=self.redis_sentinel_username, sentinel_password=password)
