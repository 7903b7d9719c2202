"""What stands around the container on a cluster, in SageMaker's place: `python -m spotune.pod`. docs/kubernetes.md."""
