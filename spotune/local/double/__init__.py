"""The SageMaker double: training jobs on one machine, behind SageMaker's own API. See docs/double.md."""
