"""The one place that touches boto3 beyond the store."""
