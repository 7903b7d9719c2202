"""The use cases: what a handler calls.

`submit` is the one way in, `changes.apply` the one way to change a job, `launch` runs what was ordered, `observation`
looks at training jobs, `reconcile` repairs what was missed.
"""
