"""Log lines: formats, files, job lines."""
