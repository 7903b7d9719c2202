"""Rules: new data that arrives, the datasets that are made of it, and the runs that train on them."""
