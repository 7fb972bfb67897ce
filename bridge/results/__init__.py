"""Results and progress of tracked jobs, by jid: hashes ``bridge:result:<jid>`` in Sidekiq's Redis."""
