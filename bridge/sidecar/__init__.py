"""The worker's side of the sidecar's protocol (``docs/protocol.md``)."""
