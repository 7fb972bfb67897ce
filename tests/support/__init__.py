"""What the tests share: a real Redis, sidecar and worker, the real gem to ask, and means to wait for them."""
