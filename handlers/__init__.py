"""One file a Lambda: unpack the event, call one use case, shape the answer."""
