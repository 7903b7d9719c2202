"""Where metrics, parameters and artefacts go besides S3. A tracker that is down or slow costs training nothing.

`Trackers` is what the recipe of a run talks to. Each tracker has a thread of its own (`sending`) with a bounded queue;
`connection` is the one mapping from the word of the config to the small module that speaks with it.
"""
