"""Fetching: what this process claims, holds and settles."""
