"""What the Web UI and Sidekiq's API do: processes, entries, actions, commands."""
