"""What an account lacks before jobs can run there: probes that only read, and pure judgements of what they saw."""
