"""The payload of a job, byte for byte."""
